"""Where runs are kept: a URI -> a Store of keys (small files, streams, mirrors) and of blobs by digest."""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from runner.errors import StoreError

Progress = Callable[[int], None]
"""Called with the bytes done since the last call, from the thread that asked for the transfer."""

STALE_S = 3600.0
"""Age in seconds after which a temporary file or an unfinished upload belongs to a process that died."""

RESERVED = frozenset({"blobs", ".streams", ".tmp", ".locks"})
"""First parts of a key that a store keeps for itself."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEY_LIMIT_BYTES = 900
_PART_LIMIT_BYTES = 255


@dataclass(frozen=True, kw_only=True)
class Versioned:
    """A small file as it was read; `version` is opaque and goes back into `Store.replace`."""

    data: bytes
    version: str


@dataclass(frozen=True, kw_only=True)
class Blob:
    """Content by its digest, `sha256:` and 64 hex digits."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class BlobInfo:
    """A blob that a store holds; `modified` is when it was last put, in seconds since 1970."""

    digest: str
    size_bytes: int
    modified: float


class Store(Protocol):
    """Keys and blobs, in a directory or in S3; may be used from several threads and processes at once.

    A key is a relative path of `/`-separated parts. No key may be a folder of another, and a key is either an
    object (`write`, `create`, `replace`, `put_file`) or a stream (`append`) for life. Nothing is visible
    until whole; a call that fails leaves what was there. Every method raises StoreError where the disk or the
    service refuses, or the key is malformed.
    """

    uri: str

    def read(self, key: str) -> bytes:
        """Returns the whole content; raises NotFound."""

    def read_versioned(self, key: str) -> Versioned:
        """Returns the content of an object with the version that `replace` wants; raises NotFound."""

    def write(self, key: str, data: bytes) -> str:
        """Puts `data` at `key`, whatever was there; on disk when it returns. Returns the version."""

    def create(self, key: str, data: bytes) -> str:
        """Puts `data` at `key` if nothing is there, else raises Conflict. Returns the version."""

    def replace(self, key: str, data: bytes, *, version: str) -> str:
        """Puts `data` at `key` if `version` is still there, else raises Conflict. Returns the new version."""

    def delete(self, key: str) -> None:
        """Removes an object or a stream; safe to repeat."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields the whole keys that start with `prefix`, sorted; streams included, blobs not."""

    def children(self, folder: str) -> Iterator[str]:
        """Yields the names directly below `folder` ("" is the top), sorted; what lies deeper is not read."""

    def append(self, key: str, data: bytes, *, offset: int) -> None:
        """Adds `data` to a stream whose bytes before `offset` are already there.

        What the stream has of it already is left alone, so repeating is safe. One writer at a time. Raises
        Conflict where the stream ends before `offset`.
        """

    def tail(self, key: str, *, offset: int) -> bytes:
        """Returns the bytes of a stream from `offset` on; none where it ends before or does not exist."""

    def put_file(self, key: str, path: Path, *, progress: Progress | None = None) -> Blob:
        """Puts the file at `path` under `key` and returns the digest and size of what was put.

        Takes the bytes that the file has when the call starts. Raises Conflict where these were rewritten
        meanwhile (what was at `key` before is then still there), and NotFound where the file is gone.
        """

    def get_file(self, key: str, path: Path, *, progress: Progress | None = None) -> None:
        """Brings an object or a stream to `path`, whole or not at all; raises NotFound."""

    def put_blob(self, path: Path, *, digest: str | None = None, progress: Progress | None = None) -> Blob:
        """Puts the file at `path` under its digest; safe to repeat, and quick where the store has it.

        A `digest` saves hashing where the store has it and is checked where it has not: Conflict where the
        file has other content.
        """

    def get_blob(self, digest: str, path: Path, *, progress: Progress | None = None) -> None:
        """Brings a blob to `path`, verified; raises NotFound, or Corrupt, which leaves nothing at `path`."""

    def read_blob(self, digest: str) -> bytes:
        """Returns a small blob, verified; raises NotFound or Corrupt."""

    def has_blob(self, digest: str) -> bool:
        """Returns whether the blob is there, without reading it."""

    def adopt(self, key: str, blob: Blob) -> None:
        """Moves the object or stream at `key` to the blob, without sending it again; safe to repeat.

        Nothing is at `key` afterwards. Raises Corrupt where something else is at `key`, and NotFound where
        neither `key` nor the blob is there.
        """

    def blobs(self) -> Iterator[BlobInfo]:
        """Yields every blob, sorted by digest."""

    def delete_blob(self, digest: str) -> None:
        """Removes a blob; safe to repeat."""

    def sweep(self, *, older_than_s: float = STALE_S) -> int:
        """Removes what killed processes left half-done; returns how many pieces. Blobs and keys stay."""


def open_store(uri: str | Path) -> Store:
    """Opens the store at a path, `file:///path` or `s3://bucket/prefix?endpoint=http://…&region=…&attempts=…`.

    A path may start with `~`. Nothing is touched: a directory is made by the first write, and S3 is not spoken
    to yet. Raises StoreError for another scheme, and where nothing is named.
    """
    if isinstance(uri, str) and not uri.strip():
        raise StoreError(
            f"{uri!r} names no store",
            tip="set PUSHTRAIN_STORE to a folder or s3://bucket/prefix, or unset it",
        )
    if isinstance(uri, Path) or "://" not in uri:
        return _open("directory", str(_at_home(Path(uri)).absolute()))
    scheme = urlsplit(uri).scheme
    if scheme == "file":
        return _open("directory", unquote(urlsplit(uri).path))
    if scheme == "s3":
        return _open("s3", uri)
    raise StoreError(
        f"{uri}: no store speaks {scheme}://",
        tip="use a path, file:///path or s3://bucket/prefix?endpoint=URL",
    )


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:  # what pathlib raises for a user that is not there
        raise StoreError(f"{path}: {error}", tip="write the path out, from / on") from error


def _open(backend: str, where: str) -> Store:
    """Loads a back-end by name, so that boto3 is imported by those who use S3 only."""
    store: Store = importlib.import_module(f"runner.store.{backend}").open_store(where)
    return store


def checked_key(key: str) -> str:
    """Returns `key` where it is one, else raises StoreError saying what is wrong with it."""
    parts = key.split("/")
    if fault := _key_fault(key, parts):
        raise StoreError(f"{key!r} cannot be kept: {fault}", tip="rename it and run again")
    return key


def _key_fault(key: str, parts: list[str]) -> str:
    if any(part in {"", ".", ".."} for part in parts):
        return "its parts must be names: no leading, trailing or double slash, no . and no .."
    if parts[0] in RESERVED:
        return f"{parts[0]}/ belongs to the store itself"
    if _CONTROL.search(key):
        return "it has control characters"
    try:
        lengths = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if max(lengths) > _PART_LIMIT_BYTES or sum(lengths) + len(lengths) > _KEY_LIMIT_BYTES:
        return f"it is longer than {_PART_LIMIT_BYTES} bytes a part or {_KEY_LIMIT_BYTES} in all"
    return ""


def checked_digest(digest: str) -> str:
    """Returns the 64 hex digits of `sha256:…`, else raises StoreError."""
    if not _DIGEST.fullmatch(digest):
        raise StoreError(f"{digest!r} is no digest: sha256: and 64 hex digits are expected")
    return digest.removeprefix("sha256:")


def local_error(error: OSError, *, doing: str) -> StoreError:
    """Returns what to raise for a failure of this machine's file system; `doing` is what was tried."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StoreError(
            f"{doing}: the disk is full ({error.strerror})", tip="free some space: pushtrain gc"
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        tip = "make the folder writable, or choose another with PUSHTRAIN_HOME"
        return StoreError(f"{doing}: {error.strerror} (as user {os.getuid()})", tip=tip)
    return StoreError(f"{doing}: {error.strerror or error}")
