"""A Source -> one archive in the store, keyed by its git tree -> a folder on a host -> a copy for a run."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import logging
import os
import re
import shutil
import tarfile
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from runner import archive
from runner.errors import Corrupt, NotFound, SourceError, StoreError
from runner.repository import Source
from runner.store import Store

logger = logging.getLogger(__name__)

RECENT_S = 3600.0
"""A cached tree that was asked for within this time is not evicted: somebody may be copying it."""

_COMPRESS_UP_TO_BYTES = 128 << 20
_SMALL_BYTES = 1 << 20
_WORTH_IT = 4  # a difference is kept if it weighs at most a quarter of the whole
_TREE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def pack(source: Source, store: Store) -> None:
    """Puts the archive of the source into the store, unless its tree is there already; safe to repeat.

    Raises SourceError where the tree cannot be archived (see `archive.write`), and StoreError.
    """
    if has(store, source.tree):
        return
    started = time.monotonic()
    tree = archive.read(source)
    repository = _repository(source)
    with tempfile.TemporaryDirectory(prefix="pushtrain-archive-") as folder:
        path = Path(folder) / "source.tar"
        if record := _pack_changes(tree, store, path, _latest(store, repository)):
            store.write(_key(source.tree), _json(record))
        else:
            record = _pack_whole(tree, store, path)
            store.write(_key(source.tree), _json(record))
            store.write(
                _latest_key(repository), _json({**record, "tree": source.tree, "listing": tree.files})
            )
    seconds = time.monotonic() - started
    logger.info("source %s: %d files packed in %.1f s", source.tree[:12], record["files"], seconds)


def has(store: Store, tree: str) -> bool:
    """Returns whether the store has the archive of a tree, and the one that it is the difference to."""
    try:
        return all(map(store.has_blob, _archives(_record(store, tree))))
    except NotFound:
        return False


def unpack(store: Store, tree: str, cache: Path) -> Path:
    """Returns the folder `cache/sources/TREE` with the tree's files, read-only; made where there is none.

    Safe to repeat and to call from several processes at once: one unpacks, the others wait. Where the archive
    holds the difference to another tree, that one is unpacked first, and its files are linked to. Raises
    StoreError.
    """
    place = cache / "sources" / _checked(tree)
    if not _touched(place):
        with _locked(cache / "sources"):
            if not _touched(place):
                _unpack(store, tree, place)
    return place


def working_copy(cached: Path, destination: Path) -> None:
    """Makes a writable copy of an unpacked tree in `destination`, which may exist if it is empty.

    Nothing is shared with the cache but blocks that the file system copies on write. Raises SourceError.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        _copy_tree(str(cached), str(destination))
    except OSError as error:
        raise SourceError(f"the source could not be copied to {destination}: {error}") from error


def cached(cache: Path) -> list[Path]:
    """Returns the unpacked trees, the one used last first; each folder's time is that of its last use."""
    sources = cache / "sources"
    return _trees(sources) if sources.is_dir() else []


def evict(cache: Path, trees: Collection[str]) -> frozenset[str]:
    """Removes these unpacked trees, but for those used within the hour; returns which. Safe to repeat."""
    sources = cache / "sources"
    if not sources.is_dir():
        return frozenset()
    with _locked(sources):
        before_s = time.time() - RECENT_S
        old = [p for p in _trees(sources) if p.name in trees and p.stat().st_mtime < before_s]
        for place in old:
            place.with_name(f"{place.name}.json").unlink(missing_ok=True)  # earlier versions kept a listing
            shutil.rmtree(place.rename(sources / f"{_TEMPORARY}{place.name}"))
    return frozenset(place.name for place in old)


def blobs(store: Store) -> frozenset[str]:
    """Returns the digests of all archives that a source refers to: what a clean-up must keep."""
    names = (name.removesuffix(".json") for name in store.children("sources"))
    return frozenset(digest for name in names for digest in _archives(_record(store, name)))


_TEMPORARY = ".new-"


def _key(tree: str) -> str:
    return f"sources/{_checked(tree)}.json"


def _checked(tree: str) -> str:
    if not _TREE.fullmatch(tree):
        raise StoreError(f"{tree!r} is no git tree")
    return tree


def _record(store: Store, tree: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(store.read(_key(tree)))
    except ValueError as error:
        raise Corrupt(f"{_key(tree)} in {store.uri} is not JSON", tip=f"delete it: {_key(tree)}") from error
    return record


def _archives(record: Mapping[str, Any]) -> list[str]:
    """Returns the digests of all archives that a tree is unpacked from."""
    return [each["archive"] for each in (record, record.get("base")) if each]


def _repository(source: Source) -> str:
    """Returns what stays the same from one tree of a folder to the next."""
    where = f"{source.remote or source.root}\0{source.prefix}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _latest_key(repository: str) -> str:
    """Returns where the record of the last tree is that was packed whole, with its listing.

    The listing is kept since git may have lost the tree by then: one with uncommitted changes lives for one
    run only.
    """
    return f"latest-sources/{repository}.json"


def _latest(store: Store, repository: str) -> dict[str, Any] | None:
    try:
        latest: dict[str, Any] = json.loads(store.read(_latest_key(repository)))
    except (NotFound, ValueError):  # it is only there to save work
        return None
    return latest if store.has_blob(latest["archive"]) else None


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _pack_whole(tree: archive.Tree, store: Store, path: Path) -> dict[str, Any]:
    with path.open("wb") as file:
        contents = archive.write(tree, file)
    return _put(store, path, contents)


def _pack_changes(
    tree: archive.Tree, store: Store, path: Path, latest: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Puts what differs from a tree that was packed whole; None where there is none, or most of it differs."""
    if latest is None:
        return None
    known = latest["listing"]
    removed = sorted(known.keys() - tree.files.keys())
    whole = archive.Contents(files=latest["files"], size_bytes=latest["size_bytes"])
    limit_bytes = whole.weight_bytes // _WORTH_IT - archive.HEADER_BYTES * len(removed)
    with path.open("wb") as file:
        contents = archive.write_changes(tree, file, known=known, limit_bytes=limit_bytes)
    if contents is None:
        return None
    base = {"tree": latest["tree"], "archive": latest["archive"]}
    return {**_put(store, path, contents), "base": base, "removed": removed}


def _put(store: Store, path: Path, contents: archive.Contents) -> dict[str, Any]:
    blob = store.put_blob(_compressed(path) if _is_worth_compressing(path, store) else path)
    return {
        "archive": blob.digest,
        "archive_bytes": blob.size_bytes,
        "files": contents.files,
        "size_bytes": contents.size_bytes,
    }


def _is_worth_compressing(path: Path, store: Store) -> bool:
    """Writing a large file to this machine's disk is faster than making it smaller."""
    is_here = store.uri.startswith("file:")
    return path.stat().st_size <= (_SMALL_BYTES if is_here else _COMPRESS_UP_TO_BYTES)


def _compressed(path: Path) -> Path:
    packed = path.with_suffix(".tar.gz")
    with (
        path.open("rb") as file,
        packed.open("wb") as raw,
        # No time and no name in the header: equal trees give equal archives.
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as target,
    ):
        shutil.copyfileobj(file, target, _SMALL_BYTES)
    return packed


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(f"{_TEMPORARY}*"):  # of a process that was killed: it held this lock
            shutil.rmtree(left)
        yield


def _touched(place: Path) -> bool:
    try:
        os.utime(place)
    except FileNotFoundError:
        return False
    return True


def _unpack(store: Store, tree: str, place: Path) -> None:
    record = _record(store, tree)
    base = record.get("base")
    if base is None:
        _unpack_archive(store, record["archive"], place)
        return
    unchanged = place.with_name(_checked(base["tree"]))
    if not _touched(unchanged):
        _unpack_archive(store, base["archive"], unchanged)
    _unpack_archive(store, record["archive"], place, unchanged=unchanged, removed=record["removed"])


def _unpack_archive(
    store: Store, digest: str, place: Path, *, unchanged: Path | None = None, removed: Collection[str] = ()
) -> None:
    new = place.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        (new / "tree").mkdir(parents=True)
        store.get_blob(digest, new / "archive")
        archive.extract(new / "archive", new / "tree", unchanged=unchanged, removed=removed)
        (new / "tree").rename(place)
    except (OSError, tarfile.TarError) as error:
        raise StoreError(f"the source {place.name} could not be unpacked to {place}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _trees(sources: Path) -> list[Path]:
    """Returns the unpacked trees, the one used last first."""
    found = []
    for path in sources.iterdir():
        with suppress(FileNotFoundError):  # evicted meanwhile
            if _TREE.fullmatch(path.name):
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def _copy_tree(source: str, target: str) -> None:
    waiting = [(source, target)]
    while waiting:
        old, new = waiting.pop()
        with os.scandir(old) as entries:
            for entry in entries:
                path = f"{new}/{entry.name}"
                if entry.is_symlink():
                    Path(path).symlink_to(Path(entry.path).readlink())
                elif entry.is_dir():
                    Path(path).mkdir()
                    waiting.append((entry.path, path))
                else:
                    _copy_file(entry.path, path)


def _copy_file(source: str, target: str) -> None:
    with Path(source).open("rb") as file:
        status = os.fstat(file.fileno())
        mode = 0o755 if status.st_mode & 0o100 else 0o644
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy:  # noqa: PTH123
            if not _copied_by_system(file.fileno(), copy.fileno(), status.st_size):
                shutil.copyfileobj(file, copy, _SMALL_BYTES)


def _copied_by_system(reading: int, writing: int, size_bytes: int) -> bool:
    """Lets the file system copy, which may share the blocks; where it stops, both are at the same byte."""
    left = size_bytes
    with suppress(OSError):  # from one file system to another, or one that cannot
        while left and (copied := os.copy_file_range(reading, writing, left)):
            left -= copied
    return not left
