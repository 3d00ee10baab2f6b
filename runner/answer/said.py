"""What GitHub has been told of a run, kept in the run's folder: what is not told yet is told by whoever comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from runner import runs
from runner.errors import Corrupt, NotFound

if TYPE_CHECKING:
    from runner.store import Store


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`runs/ID/github.json`. Digests are of the texts that GitHub has; `command` is the comment that asked.

    `closed` says that nothing is left to say. `job_url` and `server_url` are of the job that asked, for the links of
    whoever says the rest.
    """

    repository: str
    server_url: str
    job_url: str
    check: int | None = None
    check_digest: str = ""
    comment: int | None = None
    comment_digest: str = ""
    command: int | None = None
    reaction: str = ""
    release_url: str | None = None
    closed: bool = False


def load(store: Store, run_id: str) -> Said | None:
    """What was said, None for a run that nobody asked for through GitHub. Raises Corrupt."""
    try:
        return msgspec.json.decode(store.read(_key(run_id)), type=Said)
    except NotFound:
        return None
    except msgspec.DecodeError as error:
        raise Corrupt(f"github.json of {run_id} cannot be read: {error}") from error


def keep(store: Store, run_id: str, said: Said) -> None:
    """Write it down, at once after GitHub was told: the next one must not say it again."""
    store.write(_key(run_id), msgspec.json.encode(said))


def due(store: Store, repository: str) -> tuple[str, ...]:
    """The runs of a repository of which something is left to say: its outbox, oldest first."""
    return tuple(store.children(f"github/{repository}/due"))


def close(store: Store, repository: str, run_id: str) -> None:
    """Take a run out of the outbox. Safe to repeat."""
    store.delete(f"github/{repository}/due/{run_id}")


def comment_of(store: Store, repository: str, pull: int, name: str) -> int | None:
    """The comment that a pull request has for a model, if it is known."""
    try:
        return int(store.read(_comment_key(repository, pull, name)))
    except NotFound:
        return None


def keep_comment(store: Store, repository: str, pull: int, name: str, comment: int) -> None:
    """Remember the comment for the runs to come."""
    store.write(_comment_key(repository, pull, name), str(comment).encode())


def _key(run_id: str) -> str:
    return runs.key(run_id, "github.json")


def _comment_key(repository: str, pull: int, name: str) -> str:
    return f"github/{repository}/pulls/{pull}/comments/{name}"
