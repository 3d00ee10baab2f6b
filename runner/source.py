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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runner import archive
from runner.errors import Corrupt, NotFound, SourceError, StoreError
from runner.repository import Source
from runner.store import Store

logger = logging.getLogger(__name__)

RECENT_S = 3600.0
"""A cached tree that was asked for within this time is not evicted: somebody may be copying it."""

_COMPRESS_UP_TO_BYTES = 128 << 20
_SMALL_BYTES = 1 << 20
_TREE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FICLONE = 0x40049409  # linux/fs.h: make one file share the blocks of another


def pack(source: Source, store: Store) -> None:
    """Puts the archive of the source into the store, unless its tree is there already; safe to repeat.

    Raises SourceError where the tree cannot be archived (see `archive.write`), and StoreError.
    """
    if has(store, source.tree):
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pushtrain-archive-") as folder:
        path = Path(folder) / "source.tar"
        with path.open("wb") as file:
            contents = archive.write(source, file)
        blob = store.put_blob(_compressed(path))
    record = {
        "archive": blob.digest,
        "archive_bytes": blob.size_bytes,
        "files": contents.files,
        "size_bytes": contents.size_bytes,
        "repository": _repository(source),
    }
    store.write(_key(source.tree), json.dumps(record, sort_keys=True).encode())
    seconds = time.monotonic() - started
    logger.info("source %s: %d files packed in %.1f s", source.tree[:12], contents.files, seconds)


def has(store: Store, tree: str) -> bool:
    """Returns whether the store has the archive of a tree."""
    try:
        return store.has_blob(_record(store, tree)["archive"])
    except NotFound:
        return False


def unpack(store: Store, tree: str, cache: Path) -> Path:
    """Returns the folder `cache/sources/TREE` with the tree's files, read-only; made where there is none.

    Safe to repeat and to call from several processes at once: one unpacks, the others wait. Files that an
    earlier tree of the same repository has too are linked to it. Raises StoreError.
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
        for parent, folders, names in os.walk(cached):
            target = destination / Path(parent).relative_to(cached)
            for name in folders + names:
                _copy(Path(parent, name), target / name)
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
            _listing_path(place).unlink(missing_ok=True)
            shutil.rmtree(place.rename(sources / f"{_TEMPORARY}{place.name}"))
    return frozenset(place.name for place in old)


def blobs(store: Store) -> frozenset[str]:
    """Returns the digests of all archives that a source refers to: what a clean-up must keep."""
    names = (name.removesuffix(".json") for name in store.children("sources"))
    return frozenset(_record(store, name)["archive"] for name in names)


_TEMPORARY = ".new-"


@dataclass(frozen=True, kw_only=True)
class _Earlier:
    """An unpacked tree whose files may be linked: path -> digest and mode."""

    place: Path
    files: Mapping[str, Any]

    def has(self, name: str, kept: list[str]) -> bool:
        return self.files.get(name) == kept


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


def _repository(source: Source) -> str:
    """Returns what stays the same from one tree of a folder to the next."""
    where = f"{source.remote or source.root}\0{source.prefix}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _compressed(path: Path) -> Path:
    """Compresses a small archive; what makes one large is data, which does not get smaller."""
    if path.stat().st_size > _COMPRESS_UP_TO_BYTES:
        return path
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
    new = place.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        (new / "tree").mkdir(parents=True)
        store.get_blob(record["archive"], new / "archive")
        with tarfile.open(new / "archive") as tar:
            files = _extract(tar, new / "tree", _earlier(place.parent, record["repository"]))
        listing = {"repository": record["repository"], "files": files}
        _listing_path(place).write_text(json.dumps(listing))
        (new / "tree").rename(place)
    except (OSError, tarfile.TarError) as error:
        raise StoreError(f"the source {tree} could not be unpacked below {place.parent}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _extract(tar: tarfile.TarFile, folder: Path, earlier: _Earlier | None) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    folders = {folder}
    for member in tar:
        path = folder / _inside(member.name)
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
        if member.issym():
            path.symlink_to(member.linkname)
            continue
        content = tar.extractfile(member)
        if content is None:
            raise StoreError(f"{member.name} in a source archive is neither a file nor a link")
        files[member.name] = _place(member, content, path, earlier)
    return files


def _inside(name: str) -> str:
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise StoreError(f"a source archive names {name!r}, outside of its folder")
    return name


def _place(member: tarfile.TarInfo, content: IO[bytes], path: Path, earlier: _Earlier | None) -> list[str]:
    """Writes a file, or links it to the earlier tree's; returns its digest and mode."""
    mode = 0o555 if member.mode & 0o100 else 0o444
    if member.size > _SMALL_BYTES:
        digest = _write_large(content, path, mode)
        kept = [digest, f"{mode:o}"]
        same = path.with_name(uuid.uuid4().hex)
        if earlier and earlier.has(member.name, kept) and _linked(earlier.place / member.name, same):
            same.replace(path)
        return kept
    data = content.read()
    kept = [hashlib.sha256(data).hexdigest(), f"{mode:o}"]
    if not (earlier and earlier.has(member.name, kept) and _linked(earlier.place / member.name, path)):
        _write(data, path, mode)
    return kept


def _write(data: bytes, path: Path, mode: int) -> None:
    with path.open("xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)


def _write_large(content: IO[bytes], path: Path, mode: int) -> str:
    hashed = hashlib.sha256()
    with path.open("xb") as file:
        while data := content.read(_SMALL_BYTES):
            hashed.update(data)
            file.write(data)
        os.fchmod(file.fileno(), mode)
    return hashed.hexdigest()


def _linked(old: Path, path: Path) -> bool:
    try:
        path.hardlink_to(old)
    except OSError:  # evicted, or the file system's limit of links
        return False
    return True


def _earlier(sources: Path, repository: str) -> _Earlier | None:
    for place in _trees(sources):
        with suppress(OSError, ValueError):  # a listing is only there to save writing
            listing = json.loads(_listing_path(place).read_text())
            if listing["repository"] == repository:
                return _Earlier(place=place, files=listing["files"])
    return None


def _trees(sources: Path) -> list[Path]:
    """Returns the unpacked trees, the one used last first."""
    found = []
    for path in sources.iterdir():
        with suppress(FileNotFoundError):  # evicted meanwhile
            if _TREE.fullmatch(path.name):
                found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def _listing_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
    else:
        _copy_file(source, target)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        mode = 0o755 if os.fstat(file.fileno()).st_mode & 0o100 else 0o644
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy:  # noqa: PTH123
            try:
                fcntl.ioctl(copy.fileno(), _FICLONE, file.fileno())
            except OSError:  # a file system that cannot share blocks
                shutil.copyfileobj(file, copy, _SMALL_BYTES)
