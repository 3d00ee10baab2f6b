"""This machine's folders -> venvs, wheels, data sets, sources, scratch folders that nothing needs any more."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner import runs, source
from runner.environment import wheels_folder
from runner.environment.venv import COMPLETE
from runner.gc.shelf import Found, Looked, Removed
from runner.lock import held, is_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.gc.needs import Needs

# Somebody may be about to make it whole, or to start the run it belongs to.
INCOMPLETE_S = 3600.0
_REMOVED = ".removed-"
_USED_AGAIN = "somebody uses it again"
_GONE = "somebody else removed it"


@dataclass(frozen=True, kw_only=True)
class Locked:
    """Folders below `root` that are made and used under the lock `KEY.lock` beside them.

    `marker` is the file whose time says when the folder was last used, empty for the folder itself.
    """

    kind: str
    root: Path
    form: re.Pattern[str]
    marker: str
    needed: frozenset[str]
    rests_s: float
    incomplete_rests_s: float
    now_s: float

    def look(self) -> Looked:
        """See Shelf.look."""
        return Looked(found=tuple(self._found(path, key) for path, key in self._folders()))

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove."""
        there = dict(self._folders())
        for found in chosen:
            path = self.root / found.name
            yield Removed(found=found, kept=self._drop(path, there[path]) if path in there else _GONE)

    def _drop(self, path: Path, key: str) -> str:
        with held(self.root / f"{key}.lock") as mine:
            if not path.is_dir():
                return _GONE
            used_at_s, rests_s = self._use(path)
            if not mine or self.now_s - used_at_s < rests_s:
                return _USED_AGAIN
            hidden = _hide(path)
        return _erase(hidden) if hidden else _GONE

    def _folders(self) -> Iterator[tuple[Path, str]]:
        for path in _below(self.root):
            name = _name(path)
            # What is being made lies in `.KEY.part`, or `.KEY.` and any letters.
            key = name[1:].rpartition(".")[0] if name.startswith(".") else name
            if self.form.fullmatch(key):
                yield path, key

    def _found(self, path: Path, key: str) -> Found:
        used_at_s, rests_s = self._use(path)
        return Found(
            kind=self.kind,
            name=path.name,
            size_bytes=size(path),
            used_at_s=used_at_s,
            rests_s=rests_s,
            needed=(key in self.needed and not _is_hidden(path)) or is_held(self.root / f"{key}.lock"),
        )

    def _use(self, path: Path) -> tuple[float, float]:
        """When it was last used, and for how long it rests then."""
        if _is_hidden(path):
            return 0.0, 0.0
        if (path / self.marker).exists() and not path.name.startswith("."):
            return _mtime_s(path / self.marker), self.rests_s
        return _mtime_s(path), self.incomplete_rests_s


def venvs(home: Path, needs: Needs, *, older_than_s: float, now_s: float) -> Locked:
    """The venvs of the engine `local`."""
    return Locked(
        kind="environment",
        root=home / "envs",
        form=re.compile(r"[0-9a-f]{32}"),
        marker=COMPLETE,
        needed=needs.environments,
        rests_s=older_than_s,
        incomplete_rests_s=INCOMPLETE_S,
        now_s=now_s,
    )


def wheels(home: Path, needs: Needs, *, older_than_s: float, now_s: float) -> Locked:
    """Wheels of Horovod that were built here, and what killed builds left."""
    return Locked(
        kind="wheel",
        root=wheels_folder(home / "envs"),
        form=re.compile(r"[0-9a-f]{32}"),
        marker="",
        needed=needs.wheels,
        rests_s=older_than_s,
        incomplete_rests_s=INCOMPLETE_S,
        now_s=now_s,
    )


def datasets(home: Path, needs: Needs, *, older_than_s: float, now_s: float) -> Locked:
    """Data sets as they were brought here; one that is half here goes on from there, and so is kept as long."""
    return Locked(
        kind="data set",
        root=home / "cache" / "datasets",
        form=re.compile(r"(?:sha256|etag)-[0-9a-f]+"),
        marker="",
        needed=frozenset(digest.replace(":", "-") for digest in needs.data),
        rests_s=older_than_s,
        incomplete_rests_s=older_than_s,
        now_s=now_s,
    )


def commits(home: Path, needs: Needs, *, older_than_s: float, now_s: float) -> Locked:
    """Commits as they were fetched for a run that was asked for through GitHub."""
    return Locked(
        kind="commit",
        root=home / "commits",
        form=re.compile(r"[0-9a-f]{40}(?:-isolated)?"),
        marker=".git",
        needed=needs.commits | frozenset(f"{commit}-isolated" for commit in needs.commits),
        rests_s=older_than_s,
        incomplete_rests_s=INCOMPLETE_S,
        now_s=now_s,
    )


class Sources:
    """Unpacked source trees. Files that trees share are counted in parts."""

    kind = "source"

    def __init__(self, cache: Path, needs: Needs, *, older_than_s: float) -> None:
        self._cache, self._needs, self._older_than_s = cache, needs, older_than_s

    def look(self) -> Looked:
        """See Shelf.look."""
        trees = source.cached(self._cache)
        return Looked(
            found=tuple(
                Found(
                    kind=self.kind,
                    name=path.name,
                    size_bytes=size(path),
                    used_at_s=_mtime_s(path),
                    rests_s=max(self._older_than_s, source.RECENT_S),
                    needed=path.name in self._needs.trees,
                )
                for path in trees
            )
        )

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove."""
        gone = source.evict(self._cache, [found.name for found in chosen])
        for found in chosen:
            yield Removed(found=found, kept="" if found.name in gone else _USED_AGAIN)


class Probes:
    """What images answered when they were asked what they hold: they are asked again, which takes a second."""

    kind = "image probe"

    def __init__(self, root: Path, *, older_than_s: float) -> None:
        self._root, self._older_than_s = root, older_than_s

    def look(self) -> Looked:
        """See Shelf.look."""
        files = sorted(self._root.glob("*.json*")) if self._root.is_dir() else []
        return Looked(found=tuple(self._found(path) for path in files))

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove. An answer that is read at this moment is read whole."""
        for found in chosen:
            try:
                (self._root / found.name).unlink()
            except FileNotFoundError:
                yield Removed(found=found, kept=_GONE)
            else:
                yield Removed(found=found)

    def _found(self, path: Path) -> Found:
        return Found(
            kind=self.kind,
            name=path.name,
            size_bytes=path.lstat().st_size,
            used_at_s=_mtime_s(path),
            rests_s=max(self._older_than_s, INCOMPLETE_S),
            needed=False,
        )


class Scratch:
    """Folders in which runs worked. A run that is not in this store may be in another one, and rests long."""

    kind = "scratch"

    def __init__(self, root: Path, needs: Needs, *, older_than_s: float) -> None:
        self._root, self._needs, self._older_than_s = root, needs, older_than_s

    def look(self) -> Looked:
        """See Shelf.look."""
        named = (path for path in _below(self._root) if runs.is_id(_name(path)))
        return Looked(found=tuple(self._found(path) for path in named))

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove."""
        for found in chosen:
            yield Removed(found=found, kept=self._drop(self._root / found.name))

    def _found(self, path: Path) -> Found:
        ended = True if _is_hidden(path) else self._needs.ended.get(_name(path))
        return Found(
            kind=self.kind,
            name=path.name,
            size_bytes=size(path),
            used_at_s=_newest_s(path),
            rests_s=max(self._older_than_s, INCOMPLETE_S) if ended is None else 0.0,
            needed=ended is False or is_held(path / "supervisor.lock"),
        )

    def _drop(self, path: Path) -> str:
        if not path.is_dir():
            return _GONE
        try:
            with held(path / "supervisor.lock") as mine:
                hidden = _hide(path) if mine else None
        except (FileNotFoundError, FileExistsError):  # The folder went while its lock was being opened.
            return _GONE
        if not mine:
            return _USED_AGAIN
        return _erase(hidden) if hidden else _GONE


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(_REMOVED)


def _name(path: Path) -> str:
    """What the folder was called before it was hidden."""
    return path.name.rpartition("=")[2]


def size(folder: Path) -> int:
    """Bytes in the files of a folder, a file of several names by its share."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = Path(parent, name).lstat()
                total += status.st_size // status.st_nlink
    return total


def _newest_s(folder: Path) -> float:
    """When anything in a folder was last written."""
    return max(
        [_mtime_s(folder), *(_mtime_s(Path(parent, n)) for parent, _, ns in os.walk(folder) for n in ns)]
    )


def _mtime_s(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _below(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _hide(path: Path) -> Path | None:
    """Out of sight at once, so that nobody meets half a folder; None where somebody else was first."""
    if _is_hidden(path):
        return path
    try:
        return path.rename(path.with_name(f"{_REMOVED}{uuid.uuid4().hex}={path.name}"))
    except FileNotFoundError:
        return None


def _erase(folder: Path) -> str:
    """Remove a hidden folder, also what a training made read-only. Says what to do where the system refuses."""
    for parent, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            Path(parent).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
    return f"the system refused; try: sudo rm -r {folder}" if folder.exists() else ""
