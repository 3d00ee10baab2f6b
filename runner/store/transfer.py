"""Moves bytes between files and hashes them on the way: a file -> its Blob, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runner.errors import Conflict, Corrupt, NotFound
from runner.store import Blob, Progress, local_error

CHUNK_BYTES = 4 << 20
_MOVE_TRIES = 10


class Hash:
    """A sha256 that grows; `blob` is what was fed to it so far."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Feeds the next bytes."""
        self._sha256.update(data)
        self._size_bytes += len(data)

    @property
    def blob(self) -> Blob:
        """The digest and size of everything fed so far."""
        return Blob(digest=f"sha256:{self._sha256.hexdigest()}", size_bytes=self._size_bytes)


@contextmanager
def whole_file(path: Path, *, folder: Path | None = None) -> Iterator[BinaryIO]:
    """Gives a new file to write, which takes the place of `path` when the block ends well and else is gone.

    The temporary file lies in `folder`, by default beside `path`. Parent folders of `path` are made.
    Raises StoreError where the disk is full or may not be written.
    """
    part = (folder or path.parent) / f".{uuid.uuid4().hex}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            yield file
        move(part, path)
    except OSError as error:
        raise local_error(error, doing=f"writing {path}") from error
    finally:
        with suppress(OSError):  # what failed before says more than that this failed too
            part.unlink(missing_ok=True)


def move(part: Path, path: Path) -> None:
    """Renames within the file system, making the folders of `path`. Raises OSError."""
    for _ in range(_MOVE_TRIES):  # Somebody who deletes a key may remove a folder just made.
        with suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.replace(path)
            return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextmanager
def reading(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Opens a local file; gives it with the size in bytes that it has now. Raises NotFound or StoreError."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        raise local_error(error, doing=f"reading {path}") from error
    with file:
        yield file, os.fstat(file.fileno()).st_size


def chunks(file: BinaryIO, size_bytes: int, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yields the next `size_bytes` of a file piece by piece, fewer where it ends before."""
    while size_bytes > 0:
        try:
            data = file.read(min(chunk_bytes, size_bytes))
        except OSError as error:
            raise local_error(error, doing=f"reading {file.name}") from error
        if not data:
            return
        size_bytes -= len(data)
        yield data


def copy(source: BinaryIO, target: BinaryIO, size_bytes: int, *, progress: Progress | None) -> Blob:
    """Copies up to `size_bytes`, hashing in the same pass; returns what was copied."""
    hashed = Hash()
    for data in chunks(source, size_bytes):
        hashed.update(data)
        target.write(data)
        if progress:
            progress(len(data))
    return hashed.blob


def hash_file(path: Path, size_bytes: int | None = None) -> Blob:
    """Returns the digest and size of a file, or of its first `size_bytes`; about 1 s for 2 GiB."""
    hashed = Hash()
    with reading(path) as (file, all_bytes):
        for data in chunks(file, all_bytes if size_bytes is None else size_bytes):
            hashed.update(data)
    return hashed.blob


def check_unchanged(path: Path, found: Blob, digest: str) -> None:
    """Raises Conflict where a file turned out to have another content than it had, or was said to have."""
    if found.digest != digest:
        raise Conflict(f"{path} was changed while it was being stored", tip="try again when it is complete")


def check_digest(what: str, found: Blob, digest: str) -> None:
    """Raises Corrupt where what was read from a store is not what its digest says."""
    if found.digest != digest:
        raise Corrupt(
            f"{what} is damaged: its content has the digest {found.digest}, not {digest}",
            tip="delete it and put it again from its source",
        )
