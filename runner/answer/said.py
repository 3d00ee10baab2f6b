"""What was asked for through GitHub, which run answers it, and what GitHub was told: kept until all of it is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from runner import decoding
from runner.errors import Conflict, Corrupt, NotFound

if TYPE_CHECKING:
    from runner.store import Store


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`github/OWNER/NAME/asked/KEY.json`: one thing that was asked for. Digests are of the texts that GitHub has.

    `commit` and `pull` are those that were asked about; the run may be an older one that did just this. `command` is
    the comment that asked, `word` how commands begin there (empty where comments start nothing), `job_url` the job.
    `ends` says that `check` was told of the run's end. `replaces` is an earlier check of the run, which only the token
    that made it can close, `replaced` says that it was closed. `reused` says that nothing was trained, `detached` that
    no job follows the run, `closed` that nothing is left to say.
    """

    key: str
    run_id: str
    repository: str
    commit: str
    job_url: str
    train_file: str
    word: str
    pull: int | None = None
    command: int | None = None
    check: int | None = None
    check_digest: str = ""
    ends: bool = False
    replaces: int | None = None
    replaced: bool = False
    comment: int | None = None
    comment_digest: str = ""
    reaction: str = ""
    release_url: str | None = None
    reused: bool = False
    detached: bool = False
    closed: bool = False


def create(store: Store, said: Said) -> Said:
    """Keep what is asked for; returns what is kept, which is the first one's where two ask for the same at once."""
    try:
        store.create(_key(said.repository, said.key), msgspec.json.encode(said))
    except Conflict:
        there = load(store, said.repository, said.key)
        assert there is not None
        return there
    return said


def load(store: Store, repository: str, key: str) -> Said | None:
    """What was kept, None for what nobody asked for yet. Raises Corrupt."""
    name = _key(repository, key)
    try:
        return decoding.from_json(store.read(name), Said)
    except NotFound:
        return None
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"{name} cannot be read: {error}", tip="was it written by a newer pushtrain?"
        ) from error


def keep(store: Store, said: Said) -> None:
    """Write it down, at once after GitHub was told: the next one must not say it again."""
    store.write(_key(said.repository, said.key), msgspec.json.encode(said))


def open_outbox(store: Store, said: Said) -> None:
    """From now on there is something to say. Safe to repeat."""
    store.write(_due_key(said), b"")


def close_outbox(store: Store, said: Said) -> None:
    """All was said. Safe to repeat."""
    store.delete(_due_key(said))


def due(store: Store, repository: str) -> tuple[str, ...]:
    """The keys of what is left to say: the outbox."""
    return tuple(store.children(f"github/{repository}/due"))


def comment_of(store: Store, repository: str, pull: int, name: str) -> int | None:
    """The comment that a pull request has for a model, if it is known."""
    try:
        return int(store.read(_comment_key(repository, pull, name)))
    except NotFound:
        return None


def keep_comment(store: Store, repository: str, pull: int, name: str, comment: int) -> None:
    """Remember the comment for the runs to come."""
    store.write(_comment_key(repository, pull, name), str(comment).encode())


def _key(repository: str, key: str) -> str:
    return f"github/{repository}/asked/{key}.json"


def _due_key(said: Said) -> str:
    return f"github/{said.repository}/due/{said.key}"


def _comment_key(repository: str, pull: int, name: str) -> str:
    return f"github/{repository}/pulls/{pull}/comments/{name}"
