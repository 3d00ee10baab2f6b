"""Names of hosts -> machines, by three commands of the user's own.

`start` and `stop` get the names as arguments, `list` gets none; `start` and `list` print a line for each machine: its
name and, once it is known, its address. They find in their environment PUSHTRAIN_HEAD (the head's address),
PUSHTRAIN_TOKEN_FILE (the file on the head, 0600, never its content), PUSHTRAIN_CLUSTER and PUSHTRAIN_ALONE (seconds).
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import EngineError
from runner.providers import Machine, Place, Started
from runner.providers.settings import Command, Elastic

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Implements Provider."""

    commands: Command
    place: Place
    alone_s: float

    def start(self, names: Sequence[str]) -> Started:
        """What is not running already is given to the user's command; what it does not name again was refused."""
        there = {machine.name: machine for machine in self.running()}
        wanted = [name for name in names if name not in there]
        if not wanted:
            return Started(machines=tuple(there[name] for name in names))
        done = self._run(self.commands.start, wanted)
        made = {machine.name: machine for machine in _machines(done.stdout)}
        if done.returncode == 0:
            made = {name: Machine(name=name) for name in wanted} | made
        reason = _said(done) or f"the command ended with {done.returncode}"
        return Started(
            machines=tuple(both for name in names if (both := there.get(name) or made.get(name))),
            refused={name: reason for name in wanted if name not in made},
        )

    def stop(self, names: Sequence[str]) -> None:
        """Raises EngineError where the command fails."""
        if names:
            self._succeeded(self.commands.stop, names)

    def running(self) -> tuple[Machine, ...]:
        """What `list` prints. Raises EngineError where it fails: no answer does not mean no machine."""
        return _machines(self._succeeded(self.commands.list, ()))

    def _succeeded(self, command: str, names: Sequence[str]) -> str:
        done = self._run(command, names)
        if done.returncode:
            raise EngineError(
                f"{command}: ended with {done.returncode}: {_said(done) or 'it said nothing'}",
                tip="run it by hand on the head, as root",
            )
        return done.stdout

    def _run(self, command: str, names: Sequence[str]) -> subprocess.CompletedProcess[str]:
        argv = [*shlex.split(command), *names]
        try:
            return subprocess.run(  # no shell: names are arguments
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.commands.timeout,
                env=os.environ | self._told(),
                cwd=self.place.state,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineError(
                f"{command}: did not end within {self.commands.timeout:g} s",
                tip="command.timeout in elastic.yml",
            ) from None
        except OSError as error:
            raise EngineError(f"{command}: {error.strerror}", tip="see `command:` in elastic.yml") from error

    def _told(self) -> dict[str, str]:
        return {
            "PUSHTRAIN_HEAD": self.place.address,
            "PUSHTRAIN_TOKEN_FILE": str(self.place.token),
            "PUSHTRAIN_CLUSTER": self.place.cluster,
            "PUSHTRAIN_ALONE": f"{self.alone_s:g}",
        }


def make(settings: Elastic, place: Place) -> Commands:
    """The provider of these settings."""
    assert settings.command is not None
    return Commands(commands=settings.command, place=place, alone_s=settings.alone)


def _machines(text: str) -> tuple[Machine, ...]:
    words = [line.split() for line in text.splitlines() if line.strip()]
    return tuple(Machine(name=each[0], address=each[1] if len(each) > 1 else "") for each in words)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
