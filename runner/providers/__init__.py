"""Names of hosts -> machines that are started and stopped, by whoever has machines."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runner.providers.settings import Elastic

__all__ = ["Machine", "Place", "Provider", "Started", "provider"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine that runs or is starting. `name` is the host it is to be, `address` empty while it is not known."""

    name: str
    address: str = ""
    id: str = ""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What came of a start: `machines` are those that are there now, `refused` says of a name why it is not."""

    machines: tuple[Machine, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a machine has to know to join: the head, and on the head the file with the token.

    `cluster` tells the machines of one fleet from those of others; `state` is a lasting folder for notes.
    """

    cluster: str
    head: str
    address: str
    token: Path
    state: Path


class Provider(Protocol):
    """Whoever has machines. Each call blocks, may be repeated, and raises EngineError where nobody answers."""

    def start(self, names: Sequence[str]) -> Started:
        """Start those that are not running. A name that is running already is not started again."""
        ...

    def stop(self, names: Sequence[str]) -> None:
        """Stop all machines of those names; of one that does not run nothing is said."""
        ...

    def running(self) -> tuple[Machine, ...]:
        """All machines of this fleet that run or are starting, also those of names that nobody knows."""
        ...


def provider(settings: Elastic, place: Place) -> Provider:
    """The provider that the settings name."""
    name = "ec2" if settings.ec2 is not None else "command"
    made: Provider = importlib.import_module(f"runner.providers.{name}").make(settings, place)
    return made
