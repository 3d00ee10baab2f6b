"""A small repository that is trained by the real `pushtrain` command, and what the tests ask of its runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from runner import runs
from runner.host.leash import marked_processes
from runner.manifest import Manifest
from runner.runs import Run
from runner.store import Store, open_store

Found = TypeVar("Found")

PUSHTRAIN = Path(sys.executable).with_name("pushtrain")
WITHIN_S = 60.0
"""A deadline, not a wait: this machine may be busy with other tests."""

HELD = """\
import os, sys, time
def hold(name="go"):
    for _ in range(6000):
        if os.path.exists(name):
            return
        time.sleep(0.02)
"""
"""Before every script: `hold()` waits until the test calls `Project.let_go`."""


def wait_for(
    condition: Callable[[], Found],
    *,
    what: str,
    within_s: float = WITHIN_S,
    told: Callable[[], str] = lambda: "",
) -> Found:
    """What `condition` returns as soon as it is true; fails the test after the deadline with what is `told` then."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s:g} s: {what}\n{told()}")
        time.sleep(0.02)
    return found


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that ended: its exit code and what it printed, standard output and error together."""

    code: int
    output: str


@dataclass
class Command:
    """A `pushtrain` that may still run."""

    child: subprocess.Popen[bytes]
    path: Path

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.path.read_text(errors="replace")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.child.send_signal(signal.SIGINT)

    def finish(self, *, within_s: float = WITHIN_S) -> Finished:
        """Wait for its end."""
        try:
            code = self.child.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {within_s:g} s; it printed\n{self.output}")
        return Finished(code=code, output=self.output)


@dataclass
class Project:
    """A repository in a folder of its own with a PUSHTRAIN_HOME of its own."""

    folder: Path
    home: Path
    engine: str
    environment: Mapping[str, Any]
    store_uri: str
    environ: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    # The repository

    def write(self, script: str, **sections: Any) -> None:
        """Commit train.yml and train.py; `sections` are those of train.yml."""
        self.folder.mkdir(exist_ok=True)
        document = {
            "name": "job",
            "run": "python3 train.py",
            "environment": dict(self.environment),
            "timeout": {"grace": "5s"},
            **sections,
        }
        kept = {name: value for name, value in document.items() if value is not None}
        (self.folder / "train.yml").write_text(yaml.safe_dump(kept))
        (self.folder / "train.py").write_text(HELD + textwrap.dedent(script))
        self.commit()

    def commit(self) -> None:
        """Commit everything in the folder."""
        git = ("git", "-C", str(self.folder), "-c", "user.name=t", "-c", "user.email=t@example.com")
        if not (self.folder / ".git").exists():
            subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "a change"], check=True)

    # Commands

    def start(self, *arguments: str) -> Command:
        """Start `pushtrain ARGUMENTS…` in a session of its own, as in a terminal of its own."""
        path = self.folder.parent / f"command-{len(self.commands)}.txt"
        with path.open("wb") as output:
            child = subprocess.Popen(
                [PUSHTRAIN, *arguments],
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.commands.append(Command(child, path))
        return self.commands[-1]

    def pushtrain(self, *arguments: str, within_s: float = WITHIN_S) -> Finished:
        """Run `pushtrain ARGUMENTS…` to its end."""
        return self.start(*arguments).finish(within_s=within_s)

    def _environ(self) -> dict[str, str]:
        own = {
            "PUSHTRAIN_HOME": str(self.home),
            "PUSHTRAIN_ENGINE": self.engine,
            "PUSHTRAIN_STORE": self.store_uri,
        }
        return {**os.environ, **own, **self.environ}

    # Runs

    @property
    def store(self) -> Store:
        """The store of the runs."""
        return open_store(self.store_uri)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """All runs so far, oldest first, also those that are only just being made."""
        return tuple(sorted(runs.ids(self.store)))

    @property
    def run(self) -> Run:
        """The newest run."""
        return runs.load(self.store, self.run_ids[-1])

    def until(self, state: str, *, run_id: str | None = None) -> Run:
        """The newest run (or that one) once it is in `state`."""

        def there() -> Run | None:
            known = list(runs.listing(self.store))
            wanted = next((run for run in known if run_id in (None, run.id)), None)
            if wanted is not None and wanted.state.ended and wanted.state != state:
                pytest.fail(f"{wanted.state} instead of {state}: {wanted.reason}\n{self.told()}")
            return wanted if wanted is not None and wanted.state == state else None

        found = wait_for(there, what=f"a run that is {state}", told=self.told)
        assert found is not None
        return found

    def until_prints(self, text: str, *, attempt: int = 1, rank: int = 0, run_id: str | None = None) -> str:
        """The output of a rank of the newest run (or that one) once `text` is in it."""

        def there() -> str:
            newest = run_id or (self.run_ids[-1] if self.run_ids else "")
            output = self.log(newest, attempt=attempt, rank=rank) if newest else ""
            return output if text in output else ""

        return wait_for(there, what=f"{text!r} in the log of rank {rank}", told=self.told)

    def log(self, run_id: str, *, attempt: int = 1, rank: int = 0) -> str:
        """What a rank printed so far."""
        return self.store.tail(runs.log_key(run_id, attempt=attempt, rank=rank), offset=0).decode()

    def outputs(self, run_id: str | None = None) -> dict[str, bytes]:
        """The sealed files of the newest run (or that one), read by their digests."""
        key = runs.key(run_id or self.run_ids[-1], "outputs.json")
        manifest = Manifest.from_json(self.store.read(key))
        found = {file.path: self.store.read_blob(file.digest) for file in manifest.files}
        for file in manifest.files:
            assert file.digest == f"sha256:{hashlib.sha256(found[file.path]).hexdigest()}"
            assert file.size_bytes == len(found[file.path])
        return found

    def work(self, node: int = 0) -> Path:
        """The working folder of a node of the newest run while it runs."""
        return self.home / "scratch" / self.run_ids[-1] / f"node-{node}" / "work"

    def let_go(self, name: str = "go", *, node: int = 0) -> None:
        """Let a script go on that waits in `hold(name)`."""
        (self.work(node) / name).touch()

    def told(self) -> str:
        """What commands and supervisors said, for the message of a test that failed."""
        logs = sorted(self.home.glob("scratch/*/*.log")) + sorted(self.home.glob("scratch/*/*/*.log"))
        files = [*(command.path for command in self.commands), *logs]
        said = [f"--- {path}\n{path.read_text(errors='replace')[-3000:]}" for path in files]
        living = [f"{pid}: {' '.join(words)[:200]}" for pid, words in self._living()]
        return "\n".join([*said, "--- living", *living])

    # Processes

    def processes(self, module: str) -> list[int]:
        """Ids of this project's living processes that run `python -m MODULE`."""
        return [pid for pid, words in self._living() if words[1:3] == ["-m", module]]

    def _living(self) -> Iterator[tuple[int, list[str]]]:
        mine = f"PUSHTRAIN_HOME={self.home}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and mine in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name), words

    def kill(self, module: str) -> None:
        """Kill -9 this project's processes of a module, and wait until they are gone."""
        found = self.processes(module)
        assert found, f"no process of {module}"
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.processes(module), what=f"the end of {module}")

    def ranks(self) -> list[int]:
        """Processes of all ranks of all runs, in containers too."""
        return [pid for run_id in self.run_ids for pid in marked_processes(f"{run_id}:")]

    @contextlib.contextmanager
    def held_stage(self, state: str) -> Iterator[None]:
        """Hold what the newest run writes last while it is `collecting` or `publishing`: the stage takes as long."""
        run = self.run
        key = runs.key(run.id, "outputs.json") if state == "collecting" else f"results/{run.plan_hash}"
        names = (key, runs.key(run.id, "run.json"))
        lock, other = (hashlib.sha256(name.encode()).hexdigest()[:2] for name in names)
        if lock == other:
            pytest.skip("one time in 256 the store has one lock for both keys")
        with locked(Path(self.store_uri) / ".locks" / lock):
            yield

    @contextlib.contextmanager
    def held_environment(self) -> Iterator[None]:
        """Hold the lock of the venv, as another run does that makes the same one: preparing takes as long."""
        plan = json.loads(self.pushtrain("plan", "--json").output)
        with locked(self.home / "envs" / f"{plan['environment']['key']}.lock"):
            yield

    # Ends

    def leftovers(self) -> list[str]:
        """What ended runs left on this machine that they should not."""
        left = [f"process {pid}: {' '.join(words)}" for pid, words in self._living()]
        left += [f"rank {pid}" for pid in self.ranks()]
        left += [str(path) for path in self.home.glob("scratch/*") if self._ended(path.name)]
        return left

    def _ended(self, run_id: str) -> bool:
        with contextlib.suppress(Exception):
            return runs.load(self.store, run_id).state.ended
        return False

    def end(self) -> None:
        """Kill what is left of the project, whatever it is."""
        for pid in [pid for pid, _ in self._living()] + self.ranks():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for command in self.commands:
            command.child.wait()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, as a process of the product would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
