"""A file or folder -> the digest of what is in it; quick when asked again."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from runner.errors import DatasetError

# A file written to again within one tick of its clock keeps its time: younger ones are not remembered.
_SETTLED_NS = 2_000_000_000
_HASHERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a data set: its path below the top, divided by slashes, and `sha256:` with 64 hex digits."""

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The files of a data set, sorted by path; `file_name` where it is one file instead of a folder."""

    files: tuple[File, ...]
    file_name: str = ""

    @property
    def digest(self) -> str:
        """What `sha256sum` says of a file; of a folder the sha256 over paths, sizes and digests as JSON."""
        if self.file_name:
            return self.files[0].digest
        return digest_of([file.path, file.size_bytes, file.digest] for file in self.files)

    @property
    def size_bytes(self) -> int:
        """The bytes of all files together."""
        return sum(file.size_bytes for file in self.files)


class Seen(NamedTuple):
    """What tells that a file is still the one that was read."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file as it was found on disk: `where` it is, and its path below the top and times in `seen`."""

    where: str
    seen: Seen


def digest_of(rows: Iterable[list[str | int | None]]) -> str:
    """Return `sha256:` and the hex digest of rows as JSON; names that are no UTF-8 are escaped."""
    text = json.dumps(list(rows), separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def contents(path: Path, *, cache: Path | None = None) -> Contents:
    """Return what is in a file or folder, links followed; raises DatasetError for what cannot be read.

    With `cache`, a file is read again only where its path, size, time or inode is new. Empty folders within
    do not count. Raises DatasetError for a folder without files, and for files that change
    while they are read.
    """
    found = list(listed(path))
    memory = cache / "digests" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()}.json" if cache else None
    known = _recalled(memory) if memory else {}
    new = [file for file in found if file.seen not in known]
    with ThreadPoolExecutor(_HASHERS) as pool:
        read = {file.seen: digest for file, digest in zip(new, pool.map(_hashed, new), strict=True)}
    now = {file.seen: read.get(file.seen) or known[file.seen] for file in found}
    if memory and now != known:
        _remember(memory, now)
    files = (File(path=seen.path, size_bytes=seen.size_bytes, digest=digest) for seen, digest in now.items())
    return Contents(files=tuple(files), file_name="" if path.is_dir() else path.name)


def listed(path: Path) -> Iterator[Found]:
    """Yield the files of a folder by path, or the one file; raises DatasetError where there is none."""
    try:
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            yield _found(path.name, os.fspath(path), status)
            return
        inside = sorted(_below(os.fspath(path), "", (_identity(status),)), key=lambda file: file.seen.path)
    except OSError as error:
        where = f" ({error.filename})" if error.filename and error.filename != os.fspath(path) else ""
        raise DatasetError(f"{path} cannot be read: {error.strerror}{where}") from error
    if not inside:
        raise DatasetError(f"{path} has no files", tip="name a folder that has some, or a file")
    yield from inside


def checked(path: str) -> str:
    """Return a path of a listing from elsewhere where it stays below the top, else raise DatasetError."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\0" in path or path == ".":
        raise DatasetError(f"{path!r} cannot be the name of a file", tip="rename it where it comes from")
    return path


def _below(folder: str, prefix: str, chain: tuple[tuple[int, int], ...]) -> Iterator[Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat()
            if not stat.S_ISDIR(status.st_mode):
                yield _found(prefix + entry.name, entry.path, status)
                continue
            here = _identity(status)
            if here in chain:
                raise DatasetError(f"{entry.path} links to a folder that it is in", tip="remove that link")
            yield from _below(entry.path, f"{prefix}{entry.name}/", (*chain, here))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _found(path: str, where: str, status: os.stat_result) -> Found:
    if not stat.S_ISREG(status.st_mode):
        raise DatasetError(f"{where} is not a regular file", tip="move it out of the data")
    return Found(where=where, seen=_seen(path, status))


def _seen(path: str, status: os.stat_result) -> Seen:
    return Seen(path=path, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino)


def _hashed(file: Found) -> str:
    try:
        with Path(file.where).open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            seen = _seen(file.seen.path, os.fstat(content.fileno()))
    except OSError as error:
        raise DatasetError(f"{file.where} cannot be read: {error.strerror}") from error
    if seen != file.seen:
        raise DatasetError(f"{file.where} was changed while it was read", tip="try again when it is complete")
    return f"sha256:{digest}"


def _recalled(memory: Path) -> dict[Seen, str]:
    # A memory that is missing or damaged costs time, nothing else.
    with suppress(OSError, ValueError, TypeError):
        return {Seen(*seen): digest for *seen, digest in json.loads(memory.read_bytes())}
    return {}


def _remember(memory: Path, digests: dict[Seen, str]) -> None:
    settled_ns = time.time_ns() - _SETTLED_NS
    rows = [[*seen, digest] for seen, digest in digests.items() if seen.mtime_ns < settled_ns]
    part = memory.with_name(f".{uuid.uuid4().hex}.part")
    memory.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.write_text(json.dumps(rows, separators=(",", ":")))
        part.replace(memory)
    finally:
        part.unlink(missing_ok=True)
