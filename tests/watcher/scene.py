"""A team's repository on the stand-in for GitHub, and machines that watch it with the real `pushtrain watch`."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from runner import runs
from runner.answer import said
from runner.errors import RunNotFound
from tests.answer import scene
from tests.engines.project import Command, Finished, Project, wait_for
from tests.services.github import GitHub
from tests.services.github.app import Call
from tests.services.github.state import Issue


def project(folder: Path, name: str, *, store: Path, github: GitHub) -> Project:
    """A machine with a PUSHTRAIN_HOME of its own, and the store of all."""
    place = folder / f"machine-{name}" / "here"
    place.mkdir(parents=True)
    return Project(
        folder=place,
        home=folder / name,
        engine="local",
        environment={},
        store_uri=str(store),
        environ={
            "PUSHTRAIN_LEASE_S": "2",
            "GITHUB_API_URL": github.url,
            "GITHUB_SERVER_URL": github.url,
        },
    )


@dataclass
class Scene(scene.Scene):
    """`project` is the machine that watches; `machine` gives another one with the same store."""

    machines: list[Project] = field(default_factory=list)

    def machine(self, name: str) -> Project:
        """Another machine."""
        made = project(self.folder.parent, name, store=Path(self.project.store_uri), github=self.github)
        self.machines.append(made)
        return made

    def token_file(self, token: str | None = None, *, mode: int = 0o600) -> Path:
        """The file with the token of the fleet."""
        path = self.folder / "token"
        path.unlink(missing_ok=True)
        path.touch(mode)
        path.write_text(f"{token or self.token}\n")
        path.chmod(mode)
        return path

    def watch(self, *options: str, on: Project | None = None) -> Command:
        """Start to watch the repository."""
        return (on or self.project).start(
            "watch", self.repository.name, "--every", "1s", "--token-file", str(self.token_file()), *options
        )

    def once(self, *options: str, on: Project | None = None) -> Finished:
        """Look once."""
        return self.watch("--once", *options, on=on).finish()

    def watching(self, *options: str, on: Project | None = None) -> Command:
        """Watch, and return once the first look was taken."""
        command = self.watch(*options, on=on)
        self.until_looked(command)
        return command

    def until_looked(self, command: Command) -> None:
        """Wait for the end of the first look."""
        wait_for(
            lambda: "watching from now on" in command.output or self._has_looked(),
            what="a first look",
            told=self.heard,
            within_s=self.within_s,
        )

    def _has_looked(self) -> bool:
        return bool(self._seen())

    def until_looked_again(self) -> None:
        """Wait until whatever is there now was looked at."""
        before = len(self.looks())
        wait_for(
            lambda: len(self.looks()) > before + 2,
            what="another look",
            told=self.heard,
            within_s=self.within_s,
        )

    def looks(self) -> list[Call]:
        """The requests for comments: each is the end of a look."""
        return self.github.api_calls("GET", "/issues/comments$")

    def until_runs(self, number: int) -> tuple[str, ...]:
        """The runs, once there are so many."""
        wait_for(
            lambda: len(self.project.run_ids) >= number,
            what=f"{number} runs",
            told=self.heard,
            within_s=self.within_s,
        )
        return self.project.run_ids

    def until_ended(self, run_id: str) -> None:
        """Wait for the end of a run."""
        wait_for(
            lambda: self._ended(run_id), what=f"the end of {run_id}", told=self.heard, within_s=self.within_s
        )

    def _ended(self, run_id: str) -> bool:
        with contextlib.suppress(RunNotFound):
            return runs.load(self.project.store, run_id).state.ended
        return False

    def until_nothing_is_due(self) -> None:
        """Wait until all was said."""
        wait_for(
            lambda: not said.due(self.project.store, self.repository.name),
            what="the last word",
            told=self.heard,
            within_s=self.within_s,
        )

    def all_is_said(self) -> bool:
        """Whether the newest commit of the main branch was seen, and all runs ended and were told of."""
        store = self.project.store
        kept = [store.read(key) for key in self._seen()]
        seen = any(self.repository.head().encode() in each for each in kept)
        return seen and not said.due(store, self.repository.name)

    def _seen(self) -> list[str]:
        folder = f"github/{self.repository.name}/watch/"
        return [key for key in self.project.store.keys(folder) if key.endswith("/seen.json")]

    def until_reaction(self, pull: Issue, reaction: str) -> None:
        """Wait for a reaction to the newest comment of a person."""
        wait_for(
            lambda: reaction in self.reactions(pull),
            what=f"the reaction {reaction}",
            told=self.heard,
            within_s=self.within_s,
        )

    def claims(self) -> list[str]:
        """What watchers claimed."""
        folder = f"github/{self.repository.name}/watch/"
        return [key for key in self.project.store.keys(folder) if "/claims/" in key]

    def processes_with(self, secret: str) -> list[int]:
        """Processes of this project with a secret among their arguments or in their environment."""
        found = []
        for pid, _ in self.project._living():
            with contextlib.suppress(OSError):
                place = Path("/proc") / str(pid)
                if secret.encode() in (place / "environ").read_bytes() + (place / "cmdline").read_bytes():
                    found.append(pid)
        return found

    def until_released(self, tag: str) -> None:
        """Wait for a release."""
        wait_for(
            lambda: any(each.tag == tag and not each.draft for each in self.repository.releases()),
            what=f"the release {tag}",
            told=self.heard,
            within_s=self.within_s,
        )

    def heard(self) -> str:
        """What all machines said."""
        return "\n".join(each.told() for each in (self.project, *self.machines))

    def end(self) -> None:
        """Kill what is left, whatever it is."""
        for each in (self.project, *self.machines):
            each.end()


def stop(command: Command) -> Finished:
    """SIGTERM."""
    command.child.send_signal(signal.SIGTERM)
    return command.finish()


def kill(command: Command) -> None:
    """SIGKILL."""
    os.kill(command.child.pid, signal.SIGKILL)
    command.child.wait()
