"""A run's folders -> the store: mirrored while the run goes on, sealed at its end."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from runner.errors import Conflict, Corrupt, NotFound, StoreError, TooMuch
from runner.manifest import (
    FileEntry,
    Listed,
    Manifest,
    at_once,
    document_key,
    fetch,
    listing,
    read_document,
    restore,
)
from runner.scan import Found, Stamp, scan
from runner.store import Blob, Store, checked_key
from runner.store.transfer import hash_file

__all__ = ["FileEntry", "Limits", "Listed", "Manifest", "Mirror", "Synced", "fetch", "listing", "restore"]

logger = logging.getLogger(__name__)

GROWING = ("*.log", "*.jsonl", "*.out", "*.err", "*events.out.tfevents*")
"""Names of files that are only ever added to: their new bytes are sent, not the whole."""

REST = 10.0
"""After a file was sent it rests for this many times the seconds that sending it took."""

_CHUNK_BYTES = 4 << 20
_EDGE_BYTES = 4096
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """More than this is taken for a mistake, such as a data set unpacked into outputs."""

    files: int = 100_000
    size_bytes: int = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What one `sync` sent."""

    files: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """A file as the store has it; `edge` is the hash of the last bytes of one that only grows."""

    stamp: Stamp | None
    size_bytes: int
    executable: bool
    digest: str | None = None
    edge: str | None = None
    rests_until_s: float = 0.0


class Mirror:
    """Keeps what is in some folders in the store below `prefix` (`runs/ID/live/`); one at a time per prefix.

    `skipped` tells what is not kept, and why, by path.

    A new mirror goes on from what an earlier one had sent. A folder that has become a link out of `within` is left out.
    `check` is called before anything is sent, also between files, and raises where nothing may be sent any more.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        folders: Mapping[str, Path],
        *,
        within: Path | None = None,
        limits: Limits | None = None,
        check: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._folders = dict(folders)
        self._within = within
        self._limits = limits or Limits()
        self._may_send = check
        self._clock = clock
        self.skipped: dict[str, str] = {}
        document = read_document(store, prefix)
        self._sent = {path: _from_entry(entry) for path, entry in document.entries.items()}
        self._unwritten = False
        self._document_rests_until_s = 0.0

    def sync(self) -> Synced:
        """Sends what changed since the last call, and returns how much; blocks until it is sent.

        Large files and those that change at every call are sent less often (see REST). Files that vanish or
        change meanwhile are no errors. Raises StoreError where the store fails: to be called again.
        """
        found = self._first(self._found())
        self._drop(self._sent.keys() - found.keys())
        now_s = self._clock()
        changed = [item for item in found.items() if self._is_due(*item, now_s)]
        sizes = [size for size in at_once(lambda item: self._send(*item), changed) if size is not None]
        if self._unwritten and self._clock() >= self._document_rests_until_s:
            self._may_send()
            self._write_document()
        return Synced(files=len(sizes), bytes=sum(sizes))

    def seal(self) -> Manifest:
        """Makes blobs of everything and returns the manifest, which the store has then; nothing stays live.

        Safe to repeat, also after it was killed half-way: what the mirror holds is not sent again. Where the
        folders are gone and the prefix is sealed, returns what was sealed. Raises StoreError, also for more
        than the limits.
        """
        document = read_document(self._store, self._prefix)
        if document.sealed and not any(folder.is_dir() for folder in self._folders.values()):
            return Manifest.from_json(self._store.read(document_key(self._prefix)))
        found = self._found()
        self._check(found)
        if self._unwritten:
            self._write_document()
        entries = at_once(lambda item: self._seal(*item), sorted(found.items()))
        manifest = Manifest(files=tuple(entry for entry in entries if entry))
        self._store.write(document_key(self._prefix), manifest.to_json())
        at_once(self._store.delete, list(self._store.keys(self._prefix)))
        return manifest

    def _found(self) -> dict[str, Found]:
        """Returns the files of all folders by their paths (`outputs/x`)."""
        found: dict[str, Found] = {}
        for name, folder in self._folders.items():
            scanned = scan(folder, within=self._within)
            for skipped, why in scanned.skipped.items():
                self._name(f"{name}/{skipped}".rstrip("/"), why)
            found.update({f"{name}/{each.name}": each for each in scanned.files})
        return found

    def _first(self, found: dict[str, Found]) -> dict[str, Found]:
        """Returns what is mirrored of too much; `seal` will refuse it all."""
        large = [path for path, each in found.items() if each.stamp.size_bytes > self._limits.size_bytes]
        for path in large:
            self._name(path, f"it is larger than {self._limits.size_bytes / 2**30:,.1f} GiB")
            del found[path]
        if len(found) <= self._limits.files:
            return found
        self._name("more", f"only the first {self._limits.files:,} of {len(found):,} files are mirrored")
        return {path: found[path] for path in sorted(found)[: self._limits.files]}

    def _check(self, found: Mapping[str, Found]) -> None:
        size_bytes = sum(each.stamp.size_bytes for each in found.values())
        if len(found) > self._limits.files or size_bytes > self._limits.size_bytes:
            raise TooMuch(
                f"the run wrote {len(found):,} files ({size_bytes / 2**30:.1f} GiB) to outputs and logs; at "
                f"most {self._limits.files:,} ({self._limits.size_bytes / 2**30:.1f} GiB) are kept",
                tip="write intermediate files to another folder, or pack them into one",
            )

    def _name(self, path: str, why: str) -> None:
        if path not in self.skipped:
            self.skipped[path] = why
            logger.warning("%s is not kept: %s", path, why)

    def _is_keepable(self, path: str) -> bool:
        try:
            checked_key(self._prefix + path)
        except StoreError as error:
            self._name(path, str(error))
            return False
        return True

    def _drop(self, vanished: set[str]) -> None:
        """Before anything is sent: a file may have become a folder."""
        if vanished:
            self._may_send()
        self._unwritten = self._unwritten or bool(vanished)
        at_once(lambda path: self._store.delete(self._prefix + path), vanished)
        for path in vanished:
            del self._sent[path]

    def _is_due(self, path: str, found: Found, now_s: float) -> bool:
        sent = self._sent.get(path)
        if sent is None:
            return self._is_keepable(path)
        same = sent.stamp == found.stamp and sent.executable == found.executable
        return not same and now_s >= sent.rests_until_s

    def _send(self, path: str, found: Found) -> int | None:
        """Sends one file and returns the bytes sent; None where it was not to be had just now."""
        self._may_send()
        started_s = self._clock()
        send = self._send_tail if _grows(path) else self._send_whole
        try:
            sent, size_bytes = send(self._prefix + path, found, self._sent.get(path))
        except NotFound:
            return None
        except Conflict:  # rewritten while it was read, or what was sent is gone: all of it the next time
            self._forget(path)
            return None
        took_s = self._clock() - started_s
        self._sent[path] = replace(sent, rests_until_s=self._clock() + REST * took_s)
        self._unwritten = True
        return size_bytes

    def _forget(self, path: str) -> None:
        if _grows(path):
            self._sent.pop(path, None)

    def _send_whole(self, key: str, found: Found, sent: _Sent | None) -> tuple[_Sent, int]:
        local = Path(found.path)
        # Restored or only touched: reading it again costs less than sending it.
        as_long = sent and sent.digest and sent.size_bytes == found.stamp.size_bytes
        if sent and as_long and hash_file(local).digest == sent.digest:
            return replace(sent, stamp=found.stamp, executable=found.executable), 0
        blob = self._store.put_file(key, local)
        return _sent(found, blob.size_bytes, digest=blob.digest), blob.size_bytes

    def _send_tail(self, key: str, found: Found, sent: _Sent | None) -> tuple[_Sent, int]:
        offset = sent.size_bytes if sent and _continues(found, sent) else 0
        if offset == 0:
            self._store.delete(key)
        start, edge = offset, ""
        try:
            with Path(found.path).open("rb") as file:
                file.seek(offset)
                while data := file.read(_CHUNK_BYTES):
                    self._store.append(key, data, offset=offset)
                    offset += len(data)
                edge = _edge(file, offset)
        except OSError as error:
            raise NotFound(f"{found.path} is gone") from error
        return _sent(found, offset, edge=edge), offset - start

    def _write_document(self) -> None:
        started_s = self._clock()
        files = [_to_entry(path, self._sent[path]) for path in sorted(self._sent)]
        data = json.dumps({"sealed": False, "files": files}).encode()
        self._store.write(document_key(self._prefix), data)
        self._unwritten = False
        self._document_rests_until_s = self._clock() + REST * (self._clock() - started_s)

    def _seal(self, path: str, found: Found) -> FileEntry | None:
        if not self._is_keepable(path):
            return None
        blob = self._blob(path, Path(found.path))
        if blob is None:
            return None
        return FileEntry(
            path=path, size_bytes=blob.size_bytes, digest=blob.digest, executable=found.executable
        )

    def _blob(self, path: str, local: Path) -> Blob | None:
        """Makes a blob of a file; None where it is gone. A file that still grows is hashed again."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                blob = hash_file(local)
                if self._is_adopted(path, blob):
                    return blob
                return self._store.put_blob(local, digest=blob.digest)
            except NotFound:
                return None
            except Conflict:
                if not left:
                    raise
        return None

    def _is_adopted(self, path: str, blob: Blob) -> bool:
        sent = self._sent.get(path)
        if sent is None or sent.digest != blob.digest:
            return False
        try:
            self._store.adopt(self._prefix + path, blob)
        except (NotFound, Corrupt):  # another process dropped or replaced it
            return False
        return True


def _grows(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in GROWING)


def _continues(found: Found, sent: _Sent) -> bool:
    """Says whether a file still begins with what was sent, by its size and the last bytes sent."""
    if found.stamp.size_bytes < sent.size_bytes or sent.edge is None:
        return False
    with suppress(OSError), Path(found.path).open("rb") as file:
        return _edge(file, sent.size_bytes) == sent.edge
    return False


def _edge(file: BinaryIO, end: int) -> str:
    start = max(0, end - _EDGE_BYTES)
    file.seek(start)
    return hashlib.sha256(file.read(end - start)).hexdigest()


def _sent(found: Found, size_bytes: int, *, digest: str | None = None, edge: str | None = None) -> _Sent:
    return _Sent(
        stamp=found.stamp, size_bytes=size_bytes, executable=found.executable, digest=digest, edge=edge
    )


def _to_entry(path: str, sent: _Sent) -> dict[str, Any]:
    entry = {
        "path": path,
        "size_bytes": sent.size_bytes,
        "digest": sent.digest,
        "executable": sent.executable,
    }
    return {**entry, "edge": sent.edge, "stamp": asdict(sent.stamp) if sent.stamp else None}


def _from_entry(entry: Mapping[str, Any]) -> _Sent:
    """Reads a live entry, or one of a manifest, which knows nothing of this machine's files."""
    stamp = entry.get("stamp")
    return _Sent(
        stamp=Stamp(**stamp) if stamp else None,
        size_bytes=entry["size_bytes"],
        executable=entry["executable"],
        digest=entry["digest"],
        edge=entry.get("edge"),
    )
