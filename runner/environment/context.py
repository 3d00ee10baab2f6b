"""The source folder -> the files that a user's Dockerfile may copy, listed, hashed and staged."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import git
from runner.errors import EnvironmentFailed, PlanError, SourceError


def read_text(folder: Path, path: str, *, where: str) -> str:
    """The text of a file that train.yml names. Raises PlanError where it is missing or outside `folder`."""
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise PlanError(f"{where}: {path} lies outside the source folder", tip="move it next to train.yml")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise PlanError(f"{where}: {path} cannot be read: {reason}", tip=f"ls {file.parent}") from error


def files(folder: Path) -> tuple[tuple[str, str], ...]:
    """(path, digest) of every file of the build context, sorted by path.

    They are what git tracks or would (so neither `.git` nor ignored data), less what `.dockerignore`
    excludes. A digest covers content, the executable bit and a link's target.
    """
    ignore = _Ignore.of(folder)
    names = sorted(name for name in _candidates(folder) if not ignore.excludes(name))
    return tuple((name, _digest(folder / name)) for name in names)


def stage(folder: Path, listed: tuple[tuple[str, str], ...], *, to: Path) -> None:
    """Copy exactly the listed files. Raises EnvironmentFailed where one has changed since."""
    for name, digest in listed:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(folder / name, target, follow_symlinks=False)
        except OSError as error:
            raise _changed(name) from error
        if _digest(target) != digest:
            raise _changed(name)


def _changed(name: str) -> EnvironmentFailed:
    return EnvironmentFailed(f"{name} changed while the image was being made", tip="run the command again")


def _candidates(folder: Path) -> Iterator[str]:
    try:
        listed = git.run(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    except SourceError:  # an exported tree, or no git here
        listed = b""
    names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    if names:
        yield from (name for name in names if _is_content(folder / name))
        return
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if _is_content(path) and name.split("/")[0] != ".git":
            yield name


def _is_content(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _digest(path: Path) -> str:
    if path.is_symlink():
        return hashlib.sha256(b"link\0" + os.fsencode(path.readlink())).hexdigest()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(b"\0x" if path.stat().st_mode & 0o100 else b"\0-")
    return digest.hexdigest()


@dataclass(frozen=True)
class _Ignore:
    """A .dockerignore: the last rule that matches decides.

    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """

    rules: tuple[tuple[re.Pattern[str], bool], ...]

    @classmethod
    def of(cls, folder: Path) -> _Ignore:
        file = folder / ".dockerignore"
        rows = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
        written = (row.strip() for row in rows if not row.lstrip().startswith("#"))
        return cls(tuple(_rule(row) for row in written if row))

    def excludes(self, name: str) -> bool:
        """Whether `name` is kept out of the build."""
        excluded = False
        for pattern, excludes in self.rules:
            if pattern.fullmatch(name):
                excluded = excludes
        return excluded


def _rule(row: str) -> tuple[re.Pattern[str], bool]:
    excludes = not row.startswith("!")
    glob = os.path.normpath(row.lstrip("!").strip()).lstrip("/")
    return re.compile(_expression(glob) + r"(?:/.*)?", re.DOTALL), excludes


_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[\^?[^\]]+\]|\\.|.", re.DOTALL)
_GLOBS = {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}


def _expression(glob: str) -> str:
    def translate(match: re.Match[str]) -> str:
        part = match.group()
        if part in _GLOBS:
            return _GLOBS[part]
        if part.startswith("[") and len(part) > 1:
            return part
        return re.escape(part[-1])

    return _GLOB.sub(translate, glob) if glob != "." else ".*"
