"""What train.yml names as data -> a pinned Dataset at plan time -> a path on the host."""

from __future__ import annotations

import errno
import fcntl
import importlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from runner.errors import DatasetError
from runner.quantities import format_size

if TYPE_CHECKING:
    from runner.store import Store

logger = logging.getLogger(__name__)

Kind = Literal["path", "http", "s3", "registered"]
Mode = Literal["download", "mount"]
Progress = Callable[[int], None]
"""Called with the bytes done since the last call, from the thread that asked."""

CONTENT = "sha256:"
"""Starts a digest of what the data is: of a file its sha256, of a folder that of `Contents`."""

VALIDATORS = "etag:"
"""Starts a digest of what a server says of the data: names, sizes, ETags. It changes when the data does."""

_REGISTERED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*@v[1-9][0-9]*")
_BACKENDS = {"path": "paths", "http": "web", "s3": "objects", "registered": "registered"}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Data as it was when the run was planned. Made of what JSON has: `Dataset(**json)` gives it back.

    `source` is complete (a path is absolute), `size_bytes` None where the server does not say. `file_name` is
    the name of the one file that the data is; empty where it is a folder.
    """

    name: str
    source: str
    kind: Kind
    mode: Mode
    digest: str
    size_bytes: int | None
    file_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Where:
    """The places that the kinds of data know: the repository's folder, the store, this host's cache."""

    folder: Path
    store: Store
    cache: Path


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What a kind found at a source; the fields are those of Dataset."""

    source: str
    digest: str
    size_bytes: int | None
    file_name: str = ""


class Backend(Protocol):
    """One kind of source. Both raise DatasetError for what is missing, refused or not reachable."""

    def pin(self, source: str) -> Pin:
        """Return what is at the source now; reads as little as it can."""

    def bring(self, dataset: Dataset, folder: Path, *, progress: Progress) -> None:
        """Put the data into an empty folder (or one left by a fetch that broke off).

        Raises DatasetError where it finds that the data is no longer what was pinned.
        """


def resolve(
    name: str, source: str, mode: Mode, digest: str | None, *, folder: Path, store: Store, cache: Path
) -> Dataset:
    """Return the data set as it is now, pinned; `source` as in train.yml, paths relative to `folder`.

    A path is read once and then known by its files' times, sizes and inodes. Of S3 and HTTP only names and
    ETags are asked for. A `digest` (of train.yml) is compared where that can be done without a download, else
    `fetch` does it. Safe to repeat. Raises DatasetError.
    """
    kind = kind_of(source)
    if mode == "mount" and kind != "path":
        raise DatasetError(
            f"data set {name}: {shown(source)} cannot be mounted, only a path can",
            tip=f"set datasets.{name}.mode to download in train.yml",
        )
    with _named(name):
        pin = _backend(kind, Where(folder=folder, store=store, cache=cache)).pin(source)
        if digest and pin.digest.startswith(CONTENT) and pin.digest != digest:
            raise mismatched(source, found=pin.digest, pinned=digest)
    return Dataset(
        name=name,
        source=pin.source,
        kind=kind,
        mode=mode,
        digest=digest or pin.digest,
        size_bytes=pin.size_bytes,
        file_name=pin.file_name,
    )


def fetch(dataset: Dataset, *, store: Store, cache: Path, progress: Progress) -> Path:
    """Return where the data is on this host, verified to be what was pinned; treat it as read-only.

    A mounted path is that path. Anything else is a copy in the cache, brought once per host: whole or not at
    all, and by one process while others wait for it. Safe to repeat. Raises DatasetError, also where the data
    changed since it was pinned, and StoreError for a store that does not answer.
    """
    where = Where(folder=Path("/"), store=store, cache=cache)
    with _named(dataset.name), _disk_errors(cache):
        if dataset.mode == "mount":
            _check_content(dataset, Path(dataset.source), cache=cache)
            return Path(dataset.source)
        kept = cache / "datasets" / dataset.digest.replace(":", "-")
        copy = kept / dataset.file_name if dataset.file_name else kept
        part = kept.with_name(f".{kept.name}.part")
        # Also where it is there already: `pushtrain gc` removes under this lock what was not used for long.
        with _locked(kept.with_name(f"{kept.name}.lock")):
            if not copy.exists():
                _bring(dataset, copy, part=part, where=where, progress=progress)
            os.utime(kept)
        return copy


def _bring(dataset: Dataset, copy: Path, *, part: Path, where: Where, progress: Progress) -> None:
    started_s = time.monotonic()
    _check_room(dataset, part.parent)
    part.mkdir(exist_ok=True)
    _backend(dataset.kind, where).bring(dataset, part, progress=progress)
    brought = part / dataset.file_name if dataset.file_name else part
    try:
        _check_content(dataset, brought)
    except DatasetError:
        shutil.rmtree(part)
        raise
    for file in part.rglob("*"):
        if file.is_file():
            file.chmod(0o444)  # shared by every run of this host
    # Renaming can reach the disk before the content does, and what stands here is trusted from now on.
    os.sync()
    copy.parent.mkdir(exist_ok=True)
    brought.rename(copy)
    if part.exists():
        shutil.rmtree(part)
    logger.info("data set %s: brought in %.1f s", dataset.name, time.monotonic() - started_s)


def _check_content(dataset: Dataset, path: Path, *, cache: Path | None = None) -> None:
    # What a store or a server's validators vouch for was checked on the way.
    if dataset.kind == "registered" or not dataset.digest.startswith(CONTENT):
        return
    from runner.datasets.contents import contents

    found = contents(path, cache=cache).digest
    if found != dataset.digest:
        refusal = changed if dataset.kind == "path" else mismatched
        raise refusal(dataset.source, found=found, pinned=dataset.digest)


def kind_of(source: str) -> Kind:
    """Return the kind of a source, by its text alone; raises DatasetError for a scheme that nobody reads."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        return "registered" if _REGISTERED.fullmatch(source) else "path"
    if scheme == "s3":
        return "s3"
    if scheme in {"http", "https"}:
        return "http"
    tip = f"write the path itself: {rest}" if scheme == "file" else "use s3://, https://, a path or name@v1"
    raise DatasetError(f"{source}: data cannot be read from {scheme}://", tip=tip)


def shown(source: str) -> str:
    """Return a source without the user, password and query that a URL may carry, which can be secrets."""
    if not source.startswith(("http://", "https://")):
        return source
    parts = urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def mismatched(source: str, *, found: str, pinned: str) -> DatasetError:
    """Return the error for data that is not what train.yml says it is."""
    return DatasetError(
        f"{shown(source)} is not what train.yml pins: it has the digest {found}, pinned is {pinned}",
        tip="find out who changed it; to take it as it is now, correct the digest in train.yml",
    )


def changed(source: str, *, found: str, pinned: str) -> DatasetError:
    """Return the error for data that is not what it was when the run was planned."""
    return DatasetError(
        f"{shown(source)} was changed after the run was planned: "
        f"it has the digest {found}, planned was {pinned}",
        tip="run again when nothing writes to it",
    )


def _backend(kind: Kind, where: Where) -> Backend:
    """Load a kind by name, so that boto3 and httpx are imported by those who use them only."""
    backend: Backend = importlib.import_module(f"runner.datasets.{_BACKENDS[kind]}").open_backend(where)
    return backend


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"data set {name}: {error}", tip=error.tip) from error


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        tip = "free some space: pushtrain gc" if error.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        raise DatasetError(f"it could not be brought to {cache}: {error}", tip=tip) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that brings the same data")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check_room(dataset: Dataset, folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if (dataset.size_bytes or 0) > free_bytes:
        raise DatasetError(
            f"{shown(dataset.source)} has {format_size(dataset.size_bytes or 0)}, "
            f"and {folder} has {format_size(free_bytes)} free",
            tip="free some space: pushtrain gc",
        )
