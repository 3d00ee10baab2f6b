"""A directory as a store: keys are files below it, blobs are read-only files named by their digest.

ROOT/runs/…                 keys, as they are called
ROOT/blobs/sha256/ab/ab12…  blobs
ROOT/.locks/7f              one of 256 locks, by the hash of a key
ROOT/.tmp/…                 files that are not whole yet
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runner.errors import Conflict, NotFound
from runner.store import (
    RESERVED,
    STALE_S,
    Blob,
    BlobInfo,
    Progress,
    Versioned,
    checked_digest,
    checked_key,
    local_error,
)
from runner.store.transfer import check_digest, check_unchanged, copy, hash_file, move, reading, whole_file

_OPEN_TRIES = 10


def open_store(root: str) -> DirectoryStore:
    """Opens the store below `root`; nothing is touched. The first write makes it where there is none."""
    return DirectoryStore(Path(root))


class DirectoryStore:
    """A Store in a directory of one file system; safe between processes of this machine.

    One that does not exist is empty. It is made by what is written first, which raises StoreError where it
    cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = root.as_uri()

    def read(self, key: str) -> bytes:
        """See Store.read."""
        with _doing(f"reading {key}", absent=f"there is no {key} in {self.uri}"):
            return self._path(key).read_bytes()

    def read_versioned(self, key: str) -> Versioned:
        """See Store.read_versioned; the version is the digest of the content."""
        data = self.read(key)
        return Versioned(data=data, version=_version(data))

    def write(self, key: str, data: bytes) -> str:
        """See Store.write."""
        path = self._path(key)
        with self._written(key, data) as part, self._locked(key):
            _place(part, path)
        return _version(data)

    def create(self, key: str, data: bytes) -> str:
        """See Store.create."""
        path = self._path(key)
        with self._written(key, data) as part, self._locked(key):
            if path.exists():
                raise Conflict(f"{key} exists already in {self.uri}")
            _place(part, path)
        return _version(data)

    def replace(self, key: str, data: bytes, *, version: str) -> str:
        """See Store.replace."""
        path = self._path(key)
        with self._written(key, data) as part, self._locked(key):
            if not path.exists() or _version(path.read_bytes()) != version:
                raise Conflict(f"{key} was changed by somebody else in {self.uri}")
            _place(part, path)
        return _version(data)

    def delete(self, key: str) -> None:
        """See Store.delete; folders left empty go too."""
        path = self._path(key)
        with self._locked(key), _doing(f"deleting {key}"):
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            self._prune(path.parent)

    def keys(self, prefix: str) -> Iterator[str]:
        """See Store.keys."""
        top = self._root / prefix.rpartition("/")[0]
        found = (path.relative_to(self._root) for path in _files(top))
        names = (path.as_posix() for path in found if path.parts[0] not in RESERVED)
        return iter(sorted(name for name in names if name.startswith(prefix)))

    def children(self, folder: str) -> Iterator[str]:
        """See Store.children."""
        top = self._path(folder) if folder else self._root
        with _doing(f"listing {folder}"), suppress(FileNotFoundError, NotADirectoryError):
            return iter(sorted({path.name for path in top.iterdir()} - (set() if folder else RESERVED)))
        return iter(())

    def append(self, key: str, data: bytes, *, offset: int) -> None:
        """See Store.append."""
        path = self._path(key)
        if not data:
            return
        if offset and not path.exists():
            raise _gap(key, 0, offset)
        with _doing(f"appending to {key}"), _opened(path) as file:
            end = os.fstat(file.fileno()).st_size
            if offset > end:
                raise _gap(key, end, offset)
            try:
                _write_at(file, data[end - offset :], end)
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise

    def tail(self, key: str, *, offset: int) -> bytes:
        """See Store.tail."""
        path = self._path(key)
        with (
            _doing(f"reading {key}"),
            suppress(FileNotFoundError, NotADirectoryError),
            path.open("rb") as file,
        ):
            file.seek(offset)
            return file.read()
        return b""

    def put_file(self, key: str, path: Path, *, progress: Progress | None = None) -> Blob:
        """See Store.put_file."""
        target = self._path(key)
        with reading(path) as (source, size_bytes), whole_file(target, folder=self._made(".tmp")) as file:
            return copy(source, file, size_bytes, progress=progress)

    def get_file(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        """See Store.get_file."""
        with reading(self._path(key)) as (source, size_bytes), whole_file(path) as file:
            copy(source, file, size_bytes, progress=progress)

    def put_blob(self, path: Path, *, digest: str | None = None, progress: Progress | None = None) -> Blob:
        """See Store.put_blob; without `digest`, content that is there already is copied and dropped."""
        if digest and self._touch(digest):
            return Blob(digest=digest, size_bytes=self._blob_path(digest).stat().st_size)
        with reading(path) as (source, size_bytes), self._part(f"storing {path}") as (part, file):
            blob = copy(source, file, size_bytes, progress=progress)
            file.flush()
            check_unchanged(path, blob, digest or blob.digest)
            self._seal(part, blob)
        return blob

    def get_blob(self, digest: str, path: Path, *, progress: Progress | None = None) -> None:
        """See Store.get_blob."""
        with reading(self._blob_path(digest)) as (source, size_bytes), whole_file(path) as file:
            blob = copy(source, file, size_bytes, progress=progress)
            check_digest(f"blob {digest} in {self.uri}", blob, digest)

    def read_blob(self, digest: str) -> bytes:
        """See Store.read_blob."""
        with _doing(f"reading {digest}", absent=f"there is no blob {digest} in {self.uri}"):
            data = self._blob_path(digest).read_bytes()
        check_digest(
            f"blob {digest} in {self.uri}", Blob(digest=_version(data), size_bytes=len(data)), digest
        )
        return data

    def has_blob(self, digest: str) -> bool:
        """See Store.has_blob."""
        return self._blob_path(digest).exists()

    def adopt(self, key: str, blob: Blob) -> None:
        """See Store.adopt; the file is hashed before it is moved."""
        path = self._path(key)
        with _doing(f"adopting {key}", absent=f"neither {key} nor {blob.digest} is in {self.uri}"):
            if not self._touch(blob.digest):
                check_digest(key, hash_file(path), blob.digest)
                self._seal(path, blob)
        self.delete(key)

    def blobs(self) -> Iterator[BlobInfo]:
        """See Store.blobs."""
        for path in sorted(_files(self._root / "blobs" / "sha256")):
            with suppress(FileNotFoundError):  # deleted meanwhile
                status = path.stat()
                yield BlobInfo(
                    digest=f"sha256:{path.name}", size_bytes=status.st_size, modified=status.st_mtime
                )

    def delete_blob(self, digest: str) -> None:
        """See Store.delete_blob."""
        with _doing(f"deleting {digest}"):
            self._blob_path(digest).unlink(missing_ok=True)

    def sweep(self, *, older_than_s: float = STALE_S) -> int:
        """See Store.sweep."""
        removed = 0
        for path in _files(self._root / ".tmp"):
            with _doing(f"deleting {path}"), suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - older_than_s:
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _blob_path(self, digest: str) -> Path:
        name = checked_digest(digest)
        return self._root / "blobs" / "sha256" / name[:2] / name

    def _made(self, name: str) -> Path:
        """A folder that the store keeps for itself, made where there is none, and the store with it."""
        folder = self._root / name
        with _doing(f"opening the store {self._root}"):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def _part(self, doing: str) -> Iterator[tuple[Path, BinaryIO]]:
        """Gives a new temporary file, which is gone afterwards unless it was moved."""
        part = self._made(".tmp") / f"{uuid.uuid4().hex}.part"
        with _doing(doing):
            try:
                with part.open("xb") as file:
                    yield part, file
            finally:
                part.unlink(missing_ok=True)

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """Gives a temporary file with `data` that is on disk already."""
        with self._part(f"writing {key}") as (part, file):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            yield part

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Keeps other processes and threads from changing the key; lock files are never removed."""
        shard = hashlib.sha256(key.encode()).hexdigest()[:2]
        locks = self._made(".locks")
        with _doing(f"locking {key}"), (locks / shard).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _touch(self, digest: str) -> bool:
        """Says whether the blob is there, and marks it as put just now, so that no clean-up takes it."""
        try:
            os.utime(self._blob_path(digest))
        except FileNotFoundError:
            return False
        return True

    def _seal(self, path: Path, blob: Blob) -> None:
        """Moves a whole file to its blob: read-only, on disk, as of now."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.chmod(0o444)
        os.utime(path)
        _place(path, self._blob_path(blob.digest))

    def _prune(self, folder: Path) -> None:
        """Removes the folders that the last key below them left empty."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or somebody else removed it
                return
            folder = folder.parent


def _version(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def _doing(doing: str, *, absent: str = "") -> Iterator[None]:
    """Turns failures of the file system into StoreError, and a missing file into NotFound(absent)."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise (NotFound(absent) if absent else local_error(error, doing=doing)) from error
    except OSError as error:
        raise local_error(error, doing=doing) from error


def _place(part: Path, path: Path) -> None:
    """Renames within the file system, durably, making the folders of `path`."""
    move(part, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _gap(key: str, end: int, offset: int) -> Conflict:
    return Conflict(f"{key} ends at byte {end}, before {offset}", tip="append what lies between first")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a stream for one writer at a time, making it and its folders."""
    for _ in range(_OPEN_TRIES):  # As in `move`: a `delete` may remove a folder just made.
        with suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            break
    with path.open("r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _write_at(file: BinaryIO, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file.fileno(), rest, offset)
        rest, offset = rest[written:], offset + written


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
