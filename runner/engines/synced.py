"""A run that ends while it waits, with attempts behind it -> what they had sent to the store, sealed as its outputs.

No host of its own is left that could send more. What is sent already is not sent again, but for files that grew.
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner import collect, manifest, plan, runs
from runner.errors import Conflict, Corrupt, NotFound
from runner.manifest import FileEntry
from runner.store import Blob

if TYPE_CHECKING:
    from runner.runs import Run
    from runner.store import Store

logger = logging.getLogger(__name__)


def seal(store: Store, run: Run) -> None:
    """Write what was synced of a run as its outputs, unless they are there. Safe to repeat, and by several at once.

    Only for a run that no supervisor has. What was synced can be brought back all the same, until `drop`: the run may
    yet go on. Raises StoreError, Corrupt.
    """
    if not run.attempts:
        return
    live, key = runs.key(run.id, "live/"), runs.key(run.id, "outputs.json")
    names = {name.removesuffix(".json") for name in store.children(live.rstrip("/"))}
    nodes = sorted(int(number) for name in names if (number := name.removeprefix("node-")).isdigit())
    entries = {
        node: {"manifest": [_plain(each) for each in _sealed(store, f"{live}node-{node}/")]} for node in nodes
    }
    made = collect.manifest(entries, of_ranks=_of_ranks(store, run))
    with suppress(Conflict):  # Somebody else did, and saw the mirror whole: it goes once the run has ended.
        store.create(key, made.to_json())


def drop(store: Store, run: Run) -> None:
    """Remove what was synced of a run that is sealed and has ended. Safe to repeat. Raises StoreError."""
    for each in list(store.keys(runs.key(run.id, "live/"))):
        store.delete(each)


def _of_ranks(store: Store, run: Run) -> collect.OfRanks | None:
    return collect.OfRanks.of(plan.from_json(store.read(runs.key(run.id, "plan.json"))))


def _plain(entry: FileEntry) -> dict[str, object]:
    return {
        "path": entry.path,
        "size_bytes": entry.size_bytes,
        "digest": entry.digest,
        "executable": entry.executable,
    }


def _sealed(store: Store, prefix: str) -> list[FileEntry]:
    document = manifest.read_document(store, prefix)
    paths = {*document.entries, *(key.removeprefix(prefix) for key in store.keys(prefix))}
    found = []
    for path in sorted(paths):
        entry = document.entries.get(path, {})
        try:
            blob = _blob(store, prefix + path, entry)
        except NotFound:
            logger.warning("%s is not kept: it had not been sent whole", prefix + path)
            continue
        executable = bool(entry.get("executable"))
        found.append(
            FileEntry(path=path, size_bytes=blob.size_bytes, digest=blob.digest, executable=executable)
        )
    return found


def _blob(store: Store, key: str, entry: dict[str, object]) -> Blob:
    digest = entry.get("digest")
    if digest:
        blob = Blob(digest=str(digest), size_bytes=int(str(entry["size_bytes"])))
        with suppress(Corrupt):  # Sent once more since it was listed.
            store.adopt(key, blob)
            return blob
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        store.get_file(key, path)
        return store.put_blob(path)
