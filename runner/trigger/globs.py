"""Filter patterns of branches, tags and paths, as GitHub reads them -> whether a name passes: pure.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

_ALPHABETS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One character out of `chars` (None: any, without a slash where `within`).

    It may come again where `repeats`; and from it one may go on as if that many steps had been taken (`jumps`).
    """

    chars: frozenset[str] | None
    within: bool = False
    repeats: bool = False
    jumps: tuple[int, ...] = ()

    def takes(self, char: str) -> bool:
        if self.chars is None:
            return not (self.within and char == "/")
        return char in self.chars


_SLASH = _Step(chars=frozenset("/"))
_ANY = _Step(chars=None, repeats=True, jumps=(1,))
_WITHIN = _Step(chars=None, within=True, repeats=True, jumps=(1,))
# `**/` at the front of a part is any number of folders, none included: `**/README.md` is also README.md.
_FOLDERS = (_Step(chars=frozenset(), jumps=(1, 3)), _ANY, _SLASH)


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether `name` passes: the last pattern that fits decides, and one that starts with `!` takes out again.

    Without patterns everything passes. A pattern fits the whole name, upper and lower case apart, in time
    proportional to its length times that of the name. One that GitHub would refuse is read as plain characters.
    """
    if not patterns:
        return True
    for pattern in reversed(patterns):
        negative = pattern.startswith("!")
        if _fits(_steps(pattern[negative:]), name):
            return not negative
    return False


def _fits(steps: tuple[_Step, ...], name: str) -> bool:
    """All ways through the pattern at once, so that no pattern is slow."""
    places = _reached({0}, steps)
    for char in name:
        after: set[int] = set()
        for place in places:
            if place < len(steps) and steps[place].takes(char):
                after.add(place + 1)
                if steps[place].repeats:
                    after.add(place)
        places = _reached(after, steps)
        if not places:
            return False
    return len(steps) in places


def _reached(places: set[int], steps: tuple[_Step, ...]) -> set[int]:
    """`places`, and those that one gets to from there without a character."""
    todo = list(places)
    while todo:
        place = todo.pop()
        if place == len(steps):
            continue
        for jump in steps[place].jumps:
            if place + jump not in places:
                places.add(place + jump)
                todo.append(place + jump)
    return places


@lru_cache(maxsize=256)
def _steps(pattern: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    at = 0
    while at < len(pattern):
        char, rest = pattern[at], pattern[at:]
        if rest.startswith("**/") and (at == 0 or pattern[at - 1] == "/"):
            steps += _FOLDERS
            at += 3
        elif char == "*":
            steps.append(_ANY if rest.startswith("**") else _WITHIN)
            at += 2 if rest.startswith("**") else 1
        elif char in "?+" and at > 0:
            _repeat(steps, char)
            at += 1
        else:
            step, length = _character(rest)
            steps.append(step)
            at += length
    return tuple(steps)


def _repeat(steps: list[_Step], sign: str) -> None:
    """`?` makes the last step one that may be left out, `+` one that may come again; a wildcard is both already."""
    last = steps[-1]
    if sign == "?":
        steps[-1] = replace(last, jumps=(1,))
    else:
        steps.append(replace(last, repeats=True, jumps=(1,)))


def _character(rest: str) -> tuple[_Step, int]:
    """The step that `rest` starts with, and how much of `rest` it is: `[…]`, an escaped or a plain character."""
    end = rest.find("]", 1) if rest[0] == "[" else -1
    if end > 1:
        return _Step(chars=_bracket(rest[1:end])), end + 1
    if rest[0] == "\\" and len(rest) > 1:
        return _Step(chars=frozenset(rest[1])), 2
    return _Step(chars=frozenset(rest[0])), 1


def _bracket(inside: str) -> frozenset[str]:
    """The characters of `[…]`: those that are listed, and ranges within a-z, A-Z or 0-9."""
    chars: set[str] = set()
    at = 0
    while at < len(inside):
        first, last = inside[at], inside[at + 2 : at + 3]
        alphabet = next((each for each in _ALPHABETS if first in each and last and last in each), "")
        if inside[at + 1 : at + 2] == "-" and alphabet:
            chars.update(alphabet[alphabet.index(first) : alphabet.index(last) + 1])
            at += 3
        else:
            chars.add(first)
            at += 1
    return frozenset(chars)
