"""`pip:` of train.yml, a file or a list -> requirement lines, each with the place where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.environment import context
from runner.environment.origin import Origin, Positions
from runner.errors import PlanError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# https://pip.pypa.io/en/stable/reference/requirements-file-format/
_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_INCLUDE = re.compile(r"(?:-r|--requirement)(?:\s+|=|(?<=-r))(?P<path>\S.*)")
_CONSTRAINT = re.compile(r"(?:-c|--constraint)(?:\s+|=|(?<=-c))(?P<path>\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)\b")
_LINKS = re.compile(r"(?:-f|--find-links)(?:\s+|=|(?<=-f))(?P<path>\S.*)")
_LOCAL = re.compile(r"(?:\.{1,2}(?:/|$|\[)|/|~|file:)|[^\s;@]+/[^\s;@]*$|\S+\.(?:whl|tar\.gz|zip)$")
_LOCAL_URL = re.compile(r"[\w.\[\],-]+\s*@\s*(?:file:|\.{0,2}/)")
_HASHES = re.compile(r"\s+--(?:hash|config-settings?|global-option)\b.*$")
_ADDRESS = re.compile(
    r"(?:-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host)(?![\w-])"
)
_MAX_FILES = 50


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """Requirement and constraint lines in pip's order of reading; comments and includes are gone."""

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    where: str
    constraint: bool


def read_requirements(pip: str | Sequence[str] | None, folder: Path, *, positions: Positions) -> Requirements:
    """The lines of `pip`; `-r` and `-c` are followed, hashes and options kept.

    Raises PlanError for a file that is missing or outside `folder`, and for what lies in a local folder: the
    source is no part of an environment, so a package from it could not be told from an older one.
    """
    if pip is None:
        return Requirements()
    if isinstance(pip, str):
        lines = tuple(_file(folder, Path(pip), where=positions.at("pip"), seen=(), constraint=False))
    else:
        lines = tuple(_listed(pip, folder, positions))
    for line in lines:
        _refuse_local(line)
    return Requirements(
        lines=tuple(line.text for line in lines if not line.constraint),
        constraints=tuple(line.text for line in lines if line.constraint),
        origins=tuple(Origin(line=line.text, where=line.where) for line in lines),
    )


def packages(lines: Sequence[str], *, python: str) -> Iterator[tuple[str, Requirement]]:
    """(line, requirement) of each line that names a package and applies to Python `python` (`3.11`) here."""
    from packaging.requirements import InvalidRequirement, Requirement

    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    for line in lines:
        if line.startswith("-"):
            continue
        try:
            found = Requirement(_HASHES.sub("", line))
        except InvalidRequirement:  # uv names it, with its line
            continue
        if found.marker is None or found.marker.evaluate(environment):
            yield line, found


def addresses(lines: Sequence[str]) -> tuple[str, ...]:
    """The option lines that say where packages are found."""
    return tuple(line for line in lines if _ADDRESS.match(line))


def _listed(pip: Sequence[str], folder: Path, positions: Positions) -> Iterator[_Line]:
    for number, item in enumerate(pip):
        where = positions.at(f"pip.{number}")
        yield from _one(item.strip(), where, folder, Path("train.yml"), (), constraint=False)


def _file(
    folder: Path, path: Path, *, where: str, seen: tuple[Path, ...], constraint: bool
) -> Iterator[_Line]:
    if path in seen or len(seen) > _MAX_FILES:
        return
    text = context.read_text(folder, str(path), where=where)
    for number, line in _logical_lines(text):
        yield from _one(line, f"{path}:{number}", folder, path, (*seen, path), constraint=constraint)


def _one(
    line: str, where: str, folder: Path, path: Path, seen: tuple[Path, ...], *, constraint: bool
) -> Iterator[_Line]:
    if include := _INCLUDE.fullmatch(line):
        inner = path.parent / include["path"]
        yield from _file(folder, inner, where=where, seen=seen, constraint=constraint)
    elif limits := _CONSTRAINT.fullmatch(line):
        yield from _file(folder, path.parent / limits["path"], where=where, seen=seen, constraint=True)
    elif line:
        yield _Line(text=line, where=where, constraint=constraint)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their number from 1: continued ones joined, comments and empty ones left out."""
    parts: list[str] = []
    first = 0
    for number, row in enumerate(text.splitlines(), start=1):
        first = first if parts else number
        is_comment = row.lstrip().startswith("#")
        if row.endswith("\\") and not is_comment:
            parts.append(row[:-1].strip())
            continue
        parts.append(_COMMENT.sub("", row).strip())
        line, parts = " ".join(part for part in parts if part), []
        if line:
            yield first, line
    if parts:
        yield first, " ".join(parts)


def _refuse_local(line: _Line) -> None:
    links = _LINKS.fullmatch(line.text)
    is_local = (
        bool(_EDITABLE.match(line.text))
        or bool(_LOCAL_URL.match(line.text))
        or (links is not None and "://" not in links["path"])
        or (not line.text.startswith("-") and bool(_LOCAL.match(line.text)) and "://" not in line.text)
    )
    if is_local:
        raise PlanError(
            f"{line.where}: {line.text!r} is a local package; the source is not part of the environment",
            tip="import it from the source folder, which the training runs in, or name a published package",
        )
