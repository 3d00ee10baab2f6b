"""This machine's Docker -> the images of environments, and those pulled for runs, that no run used lately."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.environment import LABEL, pulled
from runner.environment.client import Refused, ask, is_absent
from runner.environment.image import IN_REGISTRY, ISOLATED, LOCAL
from runner.errors import EngineError
from runner.gc.shelf import Found, Looked, Removed
from runner.lock import held

if TYPE_CHECKING:
    from pathlib import Path

    from runner.environment.pulled import Note
    from runner.gc.needs import Needs

_GONE = "somebody else removed it"


class Images:
    """Images that `pushtrain` built, by their names, and others that were pulled for a run, as is noted in `cache`.

    Sizes count layers that images share for each of them.
    """

    kind = "image"

    def __init__(self, needs: Needs, *, older_than_s: float, cache: Path | None = None) -> None:
        self._needs, self._older_than_s, self._cache = needs, older_than_s, cache

    def look(self) -> Looked:
        """See Shelf.look; passed over where Docker does not answer. A note of an image that is gone is removed."""
        notes = pulled.notes(self._cache) if self._cache is not None else {}
        try:
            named = ask("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={LABEL}")
            images = [_inspect(each) for each in sorted(set(named.split()))]
            found = [one for image in images if image for one in self._built(image, notes)]
            known = {one.name for one in found}
            found += [
                one for each in notes.values() if each.reference not in known for one in self._fetched(each)
            ]
        except EngineError as error:
            return Looked(note=str(error))
        return Looked(found=tuple(found))

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """See Shelf.remove; Docker keeps an image that a container uses."""
        for found in chosen:
            yield Removed(found=found, kept=self._drop(found))

    def _drop(self, found: Found) -> str:
        if self._cache is None:
            return _remove(found.name)
        try:
            with held(pulled.lock(self._cache, found.name)) as mine:
                note = pulled.noted(self._cache, found.name)
                if not mine or (note is not None and note.used_at_s > found.used_at_s):
                    return "somebody uses it again"
                kept = _remove(found.name)
                if not kept:
                    pulled.forget(self._cache, found.name)
                return kept
        except OSError as error:
            return str(error)

    def _built(self, image: dict[str, Any], notes: Mapping[str, Note]) -> Iterator[Found]:
        """An image of an environment; a host that pulled it by its digest has no tag of it."""
        key = image["Config"]["Labels"][LABEL]
        size_bytes = int(image["Size"])
        for name in _names(image, key):
            yield Found(
                kind=self.kind,
                name=name,
                size_bytes=size_bytes,
                used_at_s=max(_made_s(image), self._used_at_s(name, key), _noted_s(notes, name, image)),
                rests_s=self._older_than_s,
                needed=key in self._needs.environments,
            )
            size_bytes = 0  # A second name takes no room.

    def _fetched(self, note: Note) -> Iterator[Found]:
        """An image of a user's own that came for a run, unless somebody gave it a name here."""
        image = _inspect(note.reference)
        if image is None:
            self._forget(note)
        elif note.pulled and not image.get("RepoTags"):
            yield Found(
                kind=self.kind,
                name=note.reference,
                size_bytes=int(image["Size"]),
                used_at_s=note.used_at_s,
                rests_s=self._older_than_s,
                needed=note.reference.partition("@")[2] in self._needs.images,
            )

    def _forget(self, note: Note) -> None:
        """What somebody else may pull later is not ours. Not while it is being pulled."""
        assert self._cache is not None
        lock = pulled.lock(self._cache, note.reference)
        with contextlib.suppress(OSError), held(lock) as mine:
            if mine and pulled.noted(self._cache, note.reference) == note and not _inspect(note.reference):
                pulled.forget(self._cache, note.reference)

    def _used_at_s(self, name: str, key: str) -> float:
        """When a run last used it, by any name of the same key: runs are told of its tag in the registry."""
        used = self._needs.used_at_s
        return max(
            (at_s for known, at_s in used.items() if known == name or known.endswith(f":{key}")), default=0.0
        )


def _names(image: dict[str, Any], key: str) -> Iterator[str]:
    """Those that are ours. A tag takes the digests of its repository along when it goes."""
    tags = [tag for tag in image.get("RepoTags") or () if _is_ours(tag, key)]
    yield from tags
    tagged = {tag.rpartition(":")[0] for tag in image.get("RepoTags") or ()}
    for name in image.get("RepoDigests") or ():
        repository = name.partition("@")[0]
        if repository.endswith(f"/{IN_REGISTRY}") and repository not in tagged:
            yield name


def _is_ours(tag: str, key: str) -> bool:
    """An image that was made FROM one of ours has its label too, and is not ours."""
    return tag == f"{LOCAL}:{key}" or tag.endswith(f"/{IN_REGISTRY}:{key}") or tag.startswith(f"{ISOLATED}:")


def _made_s(image: dict[str, Any]) -> float:
    times = (image.get("Created"), (image.get("Metadata") or {}).get("LastTagTime"))
    return max(datetime.fromisoformat(time).timestamp() for time in times if time)


def _noted_s(notes: Mapping[str, Note], name: str, image: dict[str, Any]) -> float:
    """When a run on this machine last used it: containers are made of its digest, its tag or its id."""
    names = (name, image.get("Id", ""), *(image.get("RepoDigests") or ()))
    return max((notes[each].used_at_s for each in names if each in notes), default=0.0)


def _remove(name: str) -> str:
    """Why it is still there, empty where it is gone."""
    try:
        ask("image", "rm", name)
    except Refused as refused:
        return _GONE if is_absent(refused) else str(refused)
    return ""


def _inspect(name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(ask("image", "inspect", name))[0])
    except Refused as refused:
        if is_absent(refused):
            return None
        raise
