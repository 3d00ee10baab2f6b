"""What is kept of a run's folders: a document in the store -> its files, live or sealed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import Corrupt, NotFound
from runner.store import Store, checked_key

_WORKERS = 8
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A kept file: `outputs/model/weights`, size, sha256 (`sha256:…`) and whether it is executable."""

    path: str
    size_bytes: int
    digest: str
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files of a sealed run, sorted by path."""

    files: tuple[FileEntry, ...]

    def to_json(self) -> bytes:
        """Returns the same bytes for the same files."""
        return json.dumps({"sealed": True, "files": [asdict(each) for each in self.files]}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Returns what `to_json` wrote; raises Corrupt for anything else."""
        try:
            files = tuple(FileEntry(**each) for each in json.loads(data)["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"a manifest cannot be read: {error}") from error
        return cls(files=files)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A file that the store has now; `digest` is None while it is still growing."""

    path: str
    size_bytes: int
    digest: str | None
    executable: bool


@dataclass(frozen=True, kw_only=True)
class Document:
    """What the store says of a prefix: whether it is sealed, and every file's entry (path -> columns)."""

    sealed: bool
    entries: dict[str, dict[str, Any]]


def document_key(prefix: str) -> str:
    """Returns where the document of a prefix lies: `runs/ID/live.json` for `runs/ID/live/`."""
    return f"{prefix.rstrip('/')}.json"


def read_document(store: Store, prefix: str) -> Document:
    """Returns what is known of a prefix, nothing where nothing was sent yet; raises Corrupt."""
    try:
        read = json.loads(store.read(document_key(prefix)))
        entries = {checked_key(each["path"]): each for each in read["files"]}
        return Document(sealed=read["sealed"], entries=entries)
    except NotFound:
        return Document(sealed=False, entries={})
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{document_key(prefix)} in {store.uri} cannot be read: {error}") from error


def listing(store: Store, prefix: str) -> tuple[Listed, ...]:
    """Returns the files that the store has now, sorted by path, live or sealed."""
    columns = ("path", "size_bytes", "digest", "executable")
    entries = read_document(store, prefix).entries
    return tuple(Listed(**{name: entries[path][name] for name in columns}) for path in sorted(entries))


def fetch(store: Store, prefix: str, path: str, destination: Path) -> None:
    """Brings one file (`outputs/model/weights`), live or sealed, to `destination`; raises NotFound."""
    _bring(store, prefix, read_document(store, prefix), path, destination)


def restore(store: Store, prefix: str, destination: Path, *, below: str = "") -> None:
    """Brings everything that the store has back into a folder, as after a machine died; safe to repeat.

    What is there already under the same names is replaced. With `below` only what lies in that folder. Raises
    StoreError.
    """
    document = read_document(store, prefix)
    live = () if document.sealed else (key.removeprefix(prefix) for key in store.keys(prefix))

    def bring(path: str) -> None:
        with suppress(NotFound):  # dropped by the run since it was listed
            _bring(store, prefix, document, path, destination / path)

    paths = {*document.entries, *live}
    at_once(bring, {path for path in paths if not below or path.startswith(f"{below.rstrip('/')}/")})


def at_once(work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """Returns what `work` returns for every item, in order, several at once; the first failure ends it."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _bring(store: Store, prefix: str, document: Document, path: str, target: Path) -> None:
    entry = document.entries.get(path, {})
    digest = entry.get("digest")
    if document.sealed and digest:
        store.get_blob(digest, target)
    else:
        _bring_live(store, prefix + path, digest, target)
    if entry.get("executable"):
        target.chmod(target.stat().st_mode | 0o111)


def _bring_live(store: Store, key: str, digest: str | None, target: Path) -> None:
    """A live file is at its key, unless a killed `seal` had made it a blob already."""
    try:
        store.get_file(key, target)
    except NotFound:
        if digest is None:
            raise
        store.get_blob(digest, target)
