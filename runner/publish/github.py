"""A version in the store -> its release on GitHub: draft, assets, tag, published; each step once."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import Conflict, ModelError
from runner.github import releases, tags
from runner.github.permissions import CONTENTS
from runner.github.refusals import Call
from runner.models.shelf import StoreShelf, newest_first
from runner.models.signing import kind_of
from runner.publish import draft
from runner.publish.document import (
    FILE_LIMIT_BYTES,
    FILES_LIMIT,
    digest_of,
    document,
    dump_document,
    read_version_tag,
    version_message,
    version_note,
)
from runner.publish.pieces import pieces
from runner.publish.shelf import one_tag
from runner.report.card import Place, card

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.github.releases import Release
    from runner.github.tags import Tag
    from runner.models import Version
    from runner.models.provenance import Origin
    from runner.store import Progress, Store

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one release takes; the rest stays in the store."""

    file_bytes: int = FILE_LIMIT_BYTES
    files: int = FILES_LIMIT


GITHUB_LIMITS = Limits()


class Taken(ModelError):
    """Another run has the version's number on GitHub."""


def publish(
    repository: Repository,
    store: Store,
    version: Version,
    *,
    origin: Origin,
    server_url: str,
    statement: bytes,
    progress: Progress | None = None,
    limits: Limits = GITHUB_LIMITS,
) -> str:
    """Publishes a version of the store as a release with its card and its files; returns the release's URL.

    `statement` is what `provenance.attest` made of `origin`, signed or not. Safe to repeat, and by several at once:
    what is there stays, and a release that is whole is only looked at. What was broken off goes on with what is
    missing. `progress` is told the bytes that were sent. Raises ModelError where GitHub lacks the commit, Taken where
    it has that version of another run, StoreError and GitHubError as they come.
    """
    made = document(
        version, store_uri=store.uri, file_limit_bytes=limits.file_bytes, files_limit=limits.files
    )
    content = dump_document(made)
    message = version_message(version, digest_of(content))
    wanted = pieces(store, made, content, statement=statement)
    published = _published(repository, version, message)
    if published is not None:
        draft.complete(repository, published, wanted, progress=progress)
        return published.url
    commit = _commit(repository, version)
    place = Place(
        server_url=server_url,
        repository=repository.name,
        assets=made.assets,
        store=made.store or store.uri,
        signature=kind_of(statement),
    )
    text = card(version, origin, place, before=_before(store, version))
    begun = draft.begin(repository, version, card=text)
    draft.complete(repository, begun, wanted, progress=progress)
    _tag(repository, version, commit=commit, message=message)
    draft.retell(repository, begun, version, card=text)
    done = releases.publish(repository, begun)
    logger.info("published %s: %s", version.tag, done.url)
    return done.url


def _published(repository: Repository, version: Version, message: str) -> Release | None:
    """The release that is out already; None where there is none, or a draft. Raises ModelError as `_require_same`."""
    tag = one_tag(repository, version.tag)
    if tag is None:
        return None
    _require_same(repository, version, tag, message)
    found = releases.release(repository, version.tag)
    return found if found and not found.draft else None


def latest(repository: Repository, name: str) -> str | None:
    """The newest version of a model that has a tag on GitHub, such as 1.2.0; None where there is none yet."""
    read = (read_version_tag(ref.name) for ref in tags.refs(repository, f"{name}@v"))
    return next(iter(newest_first(each[1] for each in read if each and each[0] == name)), None)


def _before(store: Store, version: Version) -> Version | None:
    """The version that came before it in the store; None for the first."""
    shelf = StoreShelf(store)
    numbers = shelf.numbers(version.name)
    older = numbers[numbers.index(version.version) + 1 :] if version.version in numbers else ()
    return shelf.version(version.name, older[0]) if older else None


def _commit(repository: Repository, version: Version) -> str:
    """The commit that the version's tag stands on; raises ModelError where GitHub has none that was trained."""
    lineage = version.lineage
    if lineage.commit is None or lineage.dirty:
        raise ModelError(
            f"{version.tag} was trained from changes that are in no commit, so it cannot be released on GitHub",
            tip="commit and push them, then train that commit",
        )
    call = Call(doing="look for the commit", feature=CONTENTS)
    if not _COMMIT.fullmatch(lineage.commit) or not repository.find(
        call, f"git/commits/{lineage.commit}", dict[str, Any]
    ):
        raise ModelError(
            f"{repository.name} on GitHub has no commit {lineage.commit}, from which {version.tag} was trained",
            tip=f"push it: git push origin {lineage.branch or lineage.commit}",
        )
    return lineage.commit


def _tag(repository: Repository, version: Version, *, commit: str, message: str) -> None:
    """Makes the tag, which decides whose version it is. Raises ModelError as `_require_same`."""
    try:
        tags.create_tag(repository, version.tag, commit=commit, message=message)
    except Conflict:
        tag = one_tag(repository, version.tag)
        if tag is None:
            raise
        _require_same(repository, version, tag, message)


def _require_same(repository: Repository, version: Version, tag: Tag, message: str) -> None:
    """Raises ModelError where a tag is not the one that would be made; of another run, our draft goes first."""
    there, wanted = version_note(tag.message), version_note(message)
    if there == wanted:
        return
    remove = f"git push origin :refs/tags/{version.tag}"
    if there.run_id == wanted.run_id:
        raise ModelError(
            f"{version.tag} on GitHub is of this run, but tells of other files or another store than this one",
            tip=f"leave it, or take the release and its tag away and try again: {remove}",
        )
    draft.abandon(repository, version)
    whose = f"is that of run {there.run_id}" if there.run_id else f"was made by {tag.by}, not by pushtrain"
    raise Taken(
        f"{version.tag} in {repository.name} {whose}; run {wanted.run_id} would be a second {version.version}",
        tip=f"train again with --fresh: the next version is newer than GitHub's; or free the number: {remove}",
    )
