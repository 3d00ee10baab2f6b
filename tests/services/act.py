"""Runs workflow files as GitHub would, by act: on this machine, with no route but loopback.

    result = act(ROOT / "workflows" / "train-on-push.yml", webhooks.push(commit), token=github.token, home=tmp_path)
    assert result.jobs == {"train": "success"}
    assert result.outputs["state"] == "succeeded"

What act does otherwise than GitHub: it starts a workflow whatever its trigger filters say, has no time limit of a job,
passes all of its environment on, and has made-up answers for what it is not told (so all of it is told here).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services import events
from tests.services.dockerd import DockerEngine

ROOT = Path(__file__).parents[2]
ACTION = "pushtrain/pushtrain@v1"
# What of this repository is an action; its tests, its history and its .venv are not copied into every job.
PARTS = (
    "action.yml",
    "container",
    "runner",
    "scripts",
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "uv.lock",
    "README.md",
    "LICENSE",
)
# Nothing listens there: a request that leaves the machine fails at once.
NOWHERE = "http://127.0.0.1:9"

Entry = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """What act said of a workflow, line by line, and the artifacts that it kept."""

    code: int
    entries: Sequence[Entry]
    stderr: str
    kept: Path

    @property
    def jobs(self) -> dict[str, str]:
        """How each job ended: success, failure or skipped; a job that never began is not there."""
        return {each["jobID"]: each["jobResult"] for each in self.entries if "jobResult" in each}

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the job's own steps, as a later step would read them."""
        return {
            each["name"]: each["arg"]
            for each in self.entries
            if each.get("command") == "set-output" and len(each.get("stepID", ())) == 1
        }

    @property
    def log(self) -> str:
        """What the steps printed."""
        return "".join(each["msg"].rstrip("\n") + "\n" for each in self.entries if each.get("raw_output"))

    @property
    def errors(self) -> tuple[str, ...]:
        """Messages of `::error::`."""
        return self._said("error")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages of `::warning::`."""
        return self._said("warning")

    @property
    def summary(self) -> str:
        """The job summary."""
        return "\n".join(each["content"] for each in self.entries if each.get("command") == "summary")

    @property
    def artifacts(self) -> dict[str, dict[str, bytes]]:
        """The files of each artifact, by path."""
        return {path.stem: _unpacked(path) for path in sorted(self.kept.rglob("*.zip"))}

    def _said(self, command: str) -> tuple[str, ...]:
        return tuple(each["arg"] for each in self.entries if each.get("command") == command)

    def __repr__(self) -> str:
        told = "\n".join(str(each.get("msg", "")).rstrip() for each in self.entries)
        return f"act ended with {self.code}, jobs {self.jobs}\n{told}\n{self.stderr}"


def _unpacked(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as packed:
        return {name: packed.read(name) for name in packed.namelist() if not name.endswith("/")}


@dataclass
class Running:
    """An act that goes on; `wait` gives its result."""

    process: subprocess.Popen[str]
    kept: Path
    _entries: list[Entry] = field(default_factory=list)
    _stderr: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        for target in (self._read, self._read_errors):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._readers.append(thread)

    def wait(self, *, timeout_s: float = 110) -> Result:
        """Blocks until act ended; ends it where that takes too long."""
        try:
            self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"act did not end within {timeout_s} s\n{self._result()}") from None
        for thread in self._readers:
            thread.join(timeout=10)
        return self._result()

    def wait_for(self, text: str, *, timeout_s: float = 60) -> None:
        """Blocks until a step printed a line with `text` in it."""
        with self._news:
            if not self._news.wait_for(lambda: self._printed(text), timeout=timeout_s):
                raise AssertionError(f"{text!r} was not printed within {timeout_s} s\n{self._result()}")

    def step(self) -> int:
        """The process of the step that goes on: the one that GitHub's runner would signal."""
        children = _children(self.process.pid)
        assert len(children) == 1, children
        return children[0]

    def stop(self) -> None:
        """End act, not what it started. Safe to repeat."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _printed(self, text: str) -> bool:
        return any(text in str(each.get("msg")) for each in self._entries if each.get("raw_output"))

    def _result(self) -> Result:
        return Result(
            code=self.process.returncode or 0,
            entries=tuple(self._entries),
            stderr="".join(self._stderr),
            kept=self.kept,
        )

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._news:
                    self._entries.append(_entry(line))
                    self._news.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self._stderr.extend(lines)


def _entry(line: str) -> Entry:
    try:
        read: Entry = json.loads(line)
    except ValueError:
        return {"msg": line}
    return read


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append(int(path.parent.name))
    return found


@dataclass(frozen=True, kw_only=True)
class Act:
    """A way to run workflows: `folder` is this test's own, `cache` outlives sessions, `action` is a copy of ours."""

    folder: Path
    cache: Path
    action: Path
    upload: Path

    def __call__(
        self,
        workflow: Path,
        event: events.Event,
        *,
        token: str,
        home: Path,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        run_id: int = 7,
        attempt: int = 1,
        network: bool = False,
        docker: DockerEngine | None = None,
        files: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        timeout_s: float = 110,
    ) -> Result:
        """Run a workflow for an event and wait for its end; `home` is the machine's state, PUSHTRAIN_HOME."""
        started = self.start(
            workflow,
            event,
            token=token,
            home=home,
            env=env,
            secrets=secrets,
            run_id=run_id,
            attempt=attempt,
            network=network,
            docker=docker,
            files=files,
            options=options,
        )
        return started.wait(timeout_s=timeout_s)

    def start(
        self,
        workflow: Path,
        event: events.Event,
        *,
        token: str,
        home: Path,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        run_id: int = 7,
        attempt: int = 1,
        network: bool = False,
        docker: DockerEngine | None = None,
        files: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Running:
        """Run a workflow and return while it goes on.

        `docker` is for what is a container in it. `files` are what a step finds that checks the repository out.
        """
        given = f"{event.name}-{run_id}-{attempt}"
        place = self.folder / f"{given}-{len(list(self.folder.iterdir()))}"
        workspace = place / "workspace"
        workspace.mkdir(parents=True)
        for name, text in (files or {}).items():
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            (workspace / name).write_text(text)
        told = {
            **_told(event, place, run_id=run_id, attempt=attempt),
            "PUSHTRAIN_HOME": str(home),
            **(env or {}),
        }
        argv = [
            *self._argv(workflow, event, place, workspace),
            *(f"--env={name}={value}" for name, value in told.items()),
            *(
                f"--secret={name}={value}"
                for name, value in {"GITHUB_TOKEN": token, **(secrets or {})}.items()
            ),
            *(self._containers(docker) if docker else ()),
            *options,
        ]
        process = subprocess.Popen(
            argv,
            # act passes this environment on to the steps, so no secret may be in it.
            env=_environment(place, network=network) | ({"DOCKER_HOST": docker.host} if docker else {}),
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        return Running(process=process, kept=place / "artifacts")

    def _argv(self, workflow: Path, event: events.Event, place: Path, workspace: Path) -> Iterator[str]:
        yield from (str(Path(sys.executable).parent / "act"), event.name, "--json")
        yield from ("--workflows", str(workflow), "--eventpath", str(events.write(place, event)))
        yield from ("--directory", str(workspace), "--actor", event.actor)
        yield from ("--action-cache-path", str(self.cache), "--no-cache-server", "--action-offline-mode")
        yield from ("--artifact-server-path", str(place / "artifacts"), "--artifact-server-addr", "127.0.0.1")
        yield from ("--artifact-server-port", str(_free_port()), "--pull=false")
        for label in ("self-hosted", "ubuntu-24.04", "ubuntu-latest"):
            yield from ("--platform", f"{label}=-self-hosted")
        yield f"--local-repository={ACTION}={self.action}"
        yield f"--local-repository={_upload_action()}={self.upload}"

    def _containers(self, docker: DockerEngine) -> Iterator[str]:
        """The Docker of the tests, with the machine's own network, where all stand-ins are; act's files mounted."""
        yield f"--container-daemon-socket={docker.host}"
        yield f"--container-options=--network host -v {self.cache}:{self.cache}"


def _told(event: events.Event, place: Path, *, run_id: int, attempt: int) -> dict[str, str]:
    """What GitHub says of a job, where act would ask git or make it up; `SHA_REF` is act's word for the commit."""
    said = events.environ(event, place, run_id=run_id, attempt=attempt)
    del said["GITHUB_EVENT_PATH"]
    workflow_ref = f"{event.repository}/.github/workflows/train.yml@{event.ref}"
    return {
        **said,
        "SHA_REF": event.commit,
        "GITHUB_WORKFLOW_REF": workflow_ref,
        "RUNNER_TRACKING_ID": "github_0",
    }


def _environment(place: Path, *, network: bool) -> dict[str, str]:
    """That of a runner's service: little, and without network a proxy that is not there."""
    kept = {"PATH": os.environ["PATH"], "HOME": str(place), "LANG": "C.UTF-8"}
    if network:
        names = (
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "PIP_CERT",
            "PIP_FIND_LINKS",
            "UV_FIND_LINKS",
            "REQUESTS_CA_BUNDLE",
        )
        return kept | {name: os.environ[name] for name in names if name in os.environ}
    blocked = {
        name: NOWHERE for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
    }
    return kept | blocked | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _upload_action() -> str:
    """The artifact action exactly as action.yml names it."""
    for line in (ROOT / "action.yml").read_text().splitlines():
        name, _, value = line.strip().partition(": ")
        if name == "uses" and value.startswith("actions/upload-artifact@"):
            return value.split()[0]
    raise AssertionError("action.yml uses no actions/upload-artifact")


def copy_action(folder: Path) -> Path:
    """The files of the action alone, as a runner downloads them."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    return folder


def make_upload_action(folder: Path, node_modules: Path) -> Path:
    """A stand-in for actions/upload-artifact over the same library, which act's artifact server takes uploads of."""
    folder.mkdir(parents=True)
    (folder / "action.yml").write_text(_UPLOAD_YML)
    (folder / "index.js").write_text(_UPLOAD_JS.replace("NODE_MODULES", json.dumps(f"{node_modules}/x.js")))
    return folder


_UPLOAD_YML = """\
name: upload
description: uploads a folder
inputs:
  name: {description: name, default: artifact}
  path: {description: folder, required: true}
  retention-days: {description: days, default: "0"}
  include-hidden-files: {description: hidden, default: "false"}
  overwrite: {description: overwrite, default: "false"}
  if-no-files-found: {description: what then, default: warn}
runs: {using: node20, main: index.js}
"""
_UPLOAD_JS = """\
// The library takes every address but GitHub's own for a GitHub that has no such artifacts.
if (process.env.AS_ON_ENTERPRISE_SERVER !== 'true') process.env.GITHUB_SERVER_URL = 'https://github.com';
const { DefaultArtifactClient } = require('module').createRequire(NODE_MODULES)('@actions/artifact');
const fs = require('fs'), path = require('path');
const files = folder => fs.readdirSync(folder, { withFileTypes: true }).flatMap(entry =>
  entry.isDirectory() ? files(path.join(folder, entry.name)) : [path.join(folder, entry.name)]);
const folder = process.env.INPUT_PATH;
new DefaultArtifactClient().uploadArtifact(process.env.INPUT_NAME, files(folder), folder)
  .then(done => console.log(`uploaded ${done.size} bytes`), error => { console.error(error); process.exitCode = 1; });
"""
