"""The body of a comment -> the commands in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Train:
    """`/train [SHA] [name=value …] [--engine x] [--fresh]`; `line` is the text as it was written."""

    line: str
    sha: str | None
    overrides: tuple[str, ...]
    engine: str | None
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """`/train cancel`: the runs of this pull request that go on."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """`/train status`."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Help:
    """`/train help`."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Promote:
    """`/promote NAME@VERSION STAGE`; `version` without its v."""

    line: str
    model: str
    version: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A command that cannot be read: what is wrong, and the line to type instead (empty where none suggests itself)."""

    line: str
    message: str
    tip: str


Command = Train | Cancel | Status | Help | Promote | Mistake


def commands(body: str, *, word: str = "/train") -> tuple[Command, ...]:
    """The commands of a comment in their order; those in quotes, code and HTML are none. Never raises."""
    raise NotImplementedError
