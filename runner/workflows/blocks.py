"""A workflow file, and what it should be -> the file with its generated lines renewed and all else as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_BEGIN = re.compile(r"(?P<indent> *)# pushtrain: begin (?P<name>[a-z]+)\s*")
_END = re.compile(r" *# pushtrain: end (?P<name>[a-z]+)\s*")


def block(name: str, lines: Iterable[str], *, indent: int = 0) -> str:
    """Generated lines between the two comments by which they are found again."""
    inner = [f"# pushtrain: begin {name}", *lines, f"# pushtrain: end {name}"]
    return "".join(" " * indent + line + "\n" for line in inner)


def renewed(found: str, wanted: str) -> str | None:
    """`found` with the generated lines of `wanted`; None where it has not the same blocks, each once."""
    theirs, ours = _parts(found), _parts(wanted)
    if theirs is None or ours is None:
        return None
    fresh = {part.name: part for part in ours if part.name}
    if sorted(fresh) != sorted(part.name for part in theirs if part.name):
        return None
    return "".join(line for part in theirs for line in _lines(part, fresh))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Lines of a file: a block of that name, or what stands between two (then without a name)."""

    name: str
    indent: int
    lines: tuple[str, ...]


def _parts(text: str) -> list[_Part] | None:
    """All of a file in its order; None where a block begins within another, or does not end."""
    parts: list[_Part] = []
    name, indent, lines = "", 0, list[str]()
    for line in text.splitlines(keepends=True):
        begin, end = _BEGIN.fullmatch(line), _END.fullmatch(line)
        if begin or end:
            if bool(begin) == bool(name) or (end and end["name"] != name):
                return None
            parts.append(_Part(name=name, indent=indent, lines=tuple(lines)))
            name, indent, lines = (begin["name"], len(begin["indent"]), []) if begin else ("", 0, [])
        else:
            lines.append(line)
    return None if name else [*parts, _Part(name="", indent=0, lines=tuple(lines))]


def _lines(part: _Part, fresh: Mapping[str, _Part]) -> Iterator[str]:
    """The part's own lines, or for a block those of `fresh`, moved to where the block stands."""
    if not part.name:
        yield from part.lines
        return
    wanted = fresh[part.name]
    moved = (" " * part.indent + line[wanted.indent :] for line in wanted.lines)
    margin = " " * part.indent
    yield f"{margin}# pushtrain: begin {part.name}\n"
    yield from moved
    yield f"{margin}# pushtrain: end {part.name}\n"
