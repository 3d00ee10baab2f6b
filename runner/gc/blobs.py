"""A store -> its blobs that nothing refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import manifest, models, runs, source
from runner.datasets import registered
from runner.errors import Corrupt, DatasetError, ModelError, NotFound
from runner.gc.shelf import Found, Looked, Removed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.store import BlobInfo, Store

# Registering a large data set may take hours from its first blob to the list that refers to it.
REST_S = 24 * 3600.0


class Blobs:
    """The blobs of a store."""

    kind = "blob"

    def __init__(self, store: Store, *, now_s: float) -> None:
        self._store, self._now_s = store, now_s

    def look(self) -> Looked:
        """See Shelf.look. Nothing may go while a run collects, or while something that may refer cannot be read."""
        # Blobs before references: what is put and referred to meanwhile is not among them.
        listed = tuple(self._store.blobs())
        needed, note = self._needed()
        return Looked(note=note) if note else Looked(found=tuple(_found(blob, needed) for blob in listed))

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove; references and ages are read once more."""
        needed, note = self._needed()
        wanted = {} if note else {each.name: each for each in chosen}
        for blob in self._store.blobs() if wanted else ():
            found = wanted.pop(blob.digest, None)
            if found is None:
                continue
            if blob.digest in needed or self._now_s - blob.modified < REST_S:
                yield Removed(found=found, kept="something refers to it now")
                continue
            self._store.delete_blob(blob.digest)
            yield Removed(found=found)
        left = chosen if note else wanted.values()
        yield from (Removed(found=each, kept=note or "somebody else removed it") for each in left)

    def _needed(self) -> tuple[frozenset[str], str]:
        """What is referred to; or why that cannot be known now."""
        if run := _collecting(self._store):
            return frozenset(), f"{run} is collecting its outputs; once it has ended, try again"
        try:
            return references(self._store), ""
        except (Corrupt, DatasetError, ModelError) as error:
            return frozenset(), f"{error}; what it refers to is not known"


def references(store: Store) -> frozenset[str]:
    """The digests that any run, source, model or data set refers to. Raises StoreError, DatasetError, ModelError."""
    from_runs = (digest for run_id in runs.ids(store) for digest in _of_run(store, run_id))
    return source.blobs(store) | models.blobs(store) | registered.blobs(store) | frozenset(from_runs)


def _of_run(store: Store, run_id: str) -> Iterator[str]:
    """What is sealed, and what is known of the live mirror: a killed `seal` had made blobs of some of it."""
    try:
        sealed = manifest.Manifest.from_json(store.read(runs.key(run_id, "outputs.json")))
        yield from (file.digest for file in sealed.files)
    except NotFound:
        pass
    for child in store.children(runs.key(run_id, "live")):
        if child.endswith(".json"):
            prefix = runs.key(run_id, f"live/{child.removesuffix('.json')}/")
            yield from (file.digest for file in manifest.listing(store, prefix) if file.digest)


def _collecting(store: Store) -> str | None:
    """A run whose outputs become blobs right now, of which only the run itself knows yet."""
    return next((run.id for run in runs.listing(store, state=runs.State.COLLECTING)), None)


def _found(blob: BlobInfo, needed: frozenset[str]) -> Found:
    return Found(
        kind=Blobs.kind,
        name=blob.digest,
        size_bytes=blob.size_bytes,
        used_at_s=blob.modified,
        rests_s=REST_S,
        needed=blob.digest in needed,
    )
