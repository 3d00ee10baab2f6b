"""A `/train` that cannot be planned, and a tip for the command line -> the lines to type in a comment: pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.trigger import words
from runner.trigger.slips import SHA, mended

_ENGINES = re.compile(r"--engine ([A-Za-z][\w-]*(?: \| [A-Za-z][\w-]*)*)(?:, or (.+))?")


def lines(line: str, tip: str) -> tuple[tuple[str, ...], str]:
    """The lines to type instead of `line`, none where the tip is no part of one; and what is left of the tip.

    `-p lr=0.1 -p epochs=2` are all inputs as they should be given, `--engine local | docker` the engines there are.
    """
    start, _, said = line.strip().partition(" ")
    read = words.split(said).words
    if read is None or not start.startswith("/"):
        return (), tip
    asked, _ = mended(read)
    if engines := _ENGINES.fullmatch(tip):
        named = [
            _joined(start, [*_without_engine(asked), "--engine", each]) for each in engines[1].split(" | ")
        ]
        return tuple(named), engines[2] or ""
    pairs = _inputs(tip)
    if not pairs:
        return (), tip
    others = [word for word in asked if "=" not in word or word.startswith("--")]
    first = [word for word in others[:1] if SHA.fullmatch(word)]
    return (_joined(start, [*first, *pairs, *others[len(first) :]]),), ""


def _joined(start: str, asked: Sequence[str]) -> str:
    return " ".join([start, *(words.quoted(word) for word in asked)])


def _without_engine(asked: Sequence[str]) -> Iterator[str]:
    rest = iter(asked)
    for word in rest:
        if word == "--engine":
            next(rest, "")
        elif not word.startswith("--engine="):
            yield word


def _inputs(tip: str) -> tuple[str, ...]:
    """The name=value of `-p name=value -p …`; none where the tip says anything else."""
    read = words.split(tip).words if tip.startswith("-p ") else None
    if (
        read is None
        or len(read) % 2
        or set(read[::2]) != {"-p"}
        or not all("=" in each for each in read[1::2])
    ):
        return ()
    return read[1::2]
