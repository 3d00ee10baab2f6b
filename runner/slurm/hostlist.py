"""Slurm's short lists of hosts, such as `gpu[1-3,07],head` -> the names in them: pure."""

from __future__ import annotations

import re
from itertools import product

# A list is Slurm's own; beyond this it is a slip, and would fill the memory.
MOST_HOSTS = 65_536
_PART = re.compile(r"\[([^\]]*)\]|([^\[]+)")


def expand(text: str) -> tuple[str, ...]:
    """The hosts of a list in its order, `gpu[08-10]` being gpu08, gpu09 and gpu10; () of an empty one or `(null)`."""
    if text in ("", "(null)", "None assigned"):
        return ()
    names = [name for entry in _entries(text) for name in _names(entry)]
    return tuple(names[:MOST_HOSTS])


def _entries(text: str) -> list[str]:
    """`a[1,2],b` -> `a[1,2]`, `b`: a comma within brackets is none."""
    return [entry for entry in re.split(r",(?![^\[]*\])", text) if entry]


def _names(entry: str) -> list[str]:
    choices = [
        _numbers(match.group(1)) if match.group(1) is not None else [match.group(2)]
        for match in _PART.finditer(entry)
    ]
    return ["".join(parts) for parts in product(*choices)]


def _numbers(ranges: str) -> list[str]:
    found: list[str] = []
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        if first.isdecimal() and last.isdecimal() and int(last) - int(first) < MOST_HOSTS:
            found += (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
        else:
            found.append(each)
    return found
