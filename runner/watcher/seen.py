"""What a watcher has seen of a repository: kept in the store, so that the next one goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from runner import decoding
from runner.errors import Conflict, Corrupt, NotFound

if TYPE_CHECKING:
    from runner.store import Store, Versioned

OVERLAP_S = 120.0
"""How far behind the newest comment is asked again: GitHub lists some later than others."""
TRIES = 20


class Seen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`refs` are branches and tags with what they were at; `comments` those of the overlap with a digest of each.

    Comments are asked for from `since_s` on, in unix seconds.
    """

    refs: dict[str, str]
    since_s: float
    comments: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A comment that was looked at as it was at `at_s`."""

    id: int
    digest: str
    at_s: float


def load(store: Store, key: str) -> Seen | None:
    """What was seen, None before the first look. Raises Corrupt."""
    there = _read(store, key)
    return None if there is None else _decoded(there.data, key)


def begin(store: Store, key: str, seen: Seen) -> Seen:
    """Keep the first look; returns what is kept, which is another's where that was first."""
    try:
        store.create(key, msgspec.json.encode(seen))
    except Conflict:
        return load(store, key) or seen
    return seen


def forget(store: Store, key: str) -> None:
    """The next look is the first again. Safe to repeat."""
    store.delete(key)


def change(store: Store, key: str, step: Callable[[Seen], Seen]) -> None:
    """Change what was seen; of several at once each change counts. `step` may be asked more than once."""
    for _ in range(TRIES):
        there = _read(store, key)
        if there is None:  # forgotten meanwhile: the first look will see it
            return
        before = _decoded(there.data, key)
        after = step(before)
        if after == before:
            return
        try:
            store.replace(key, msgspec.json.encode(after), version=there.version)
        except (Conflict, NotFound):
            continue
        return
    raise Conflict(f"{key} is changed by many at once", tip="how many watchers are there? One or two will do")


def settled_ref(seen: Seen, name: str, sha: str | None) -> Seen:
    """`name` was looked at as it is at `sha`; None where it is gone."""
    refs = {each: at for each, at in seen.refs.items() if each != name}
    return msgspec.structs.replace(seen, refs=refs if sha is None else {**refs, name: sha})


def settled_comments(seen: Seen, settled: Sequence[Settled], *, pending_at_s: float | None) -> Seen:
    """Comments were looked at as they were; what is older than the overlap is not asked for again.

    One that waits for its turn, changed at `pending_at_s`, is.
    """
    newest_s = max((each.at_s for each in settled), default=0.0)
    since_s = max(seen.since_s, newest_s - OVERLAP_S)
    if pending_at_s is not None:
        since_s = max(seen.since_s, min(since_s, pending_at_s))
    comments = {**seen.comments, **{str(each.id): f"{each.digest}@{each.at_s:.0f}" for each in settled}}
    kept = {each: said for each, said in comments.items() if float(said.rpartition("@")[2]) >= since_s}
    return msgspec.structs.replace(seen, since_s=since_s, comments=kept)


def knows(seen: Seen, number: int, digest: str) -> bool:
    """Whether the comment was looked at as it is now."""
    return seen.comments.get(str(number), "").partition("@")[0] == digest


def _read(store: Store, key: str) -> Versioned | None:
    try:
        return store.read_versioned(key)
    except NotFound:
        return None


def _decoded(data: bytes, key: str) -> Seen:
    try:
        return decoding.from_json(data, Seen)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{key} cannot be read: {error}", tip="was it written by a newer pushtrain?") from error
