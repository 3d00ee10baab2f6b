"""A version's draft on GitHub -> one with every asset, however often it is begun and by how many at once."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import GitHubDown
from runner.github import releases

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.github.releases import Asset, Release
    from runner.models import Version
    from runner.publish.pieces import Piece
    from runner.store import Progress

logger = logging.getLogger(__name__)


def begin(repository: Repository, version: Version, *, card: str) -> Release:
    """The run's one release of this version: the one that is there, or a new draft.

    Two who begin at once each make a draft; both then see both, and the older one stays. Drafts of other runs are
    left alone: the tag will decide. Raises GitHubError.
    """
    there = _own(repository, version)
    if not there:
        made = releases.create_draft(
            repository,
            version.tag,
            name=f"{version.name} {version.version}",
            body=_body(version, card),
        )
        # A list that does not have the newest yet would make it a second time.
        there = {**_own(repository, version), **_marked([made], version)}
    if not there:
        raise GitHubDown(f"it is not known whether GitHub made a draft of {version.tag}", tip="try again")
    first = min(there.values(), key=lambda each: (each.draft, each.id))
    for other in there.values():
        if other.draft and other.id != first.id:
            releases.delete(repository, other)
    return first


def retell(repository: Repository, draft: Release, version: Version, *, card: str) -> None:
    """Gives a draft that was begun before the text that is true now."""
    if draft.draft and draft.body != _body(version, card):
        releases.update(repository, draft, name=draft.name, body=_body(version, card))


def abandon(repository: Repository, version: Version) -> None:
    """Takes the run's drafts of this version away; safe to repeat."""
    for each in _own(repository, version).values():
        if each.draft:
            releases.delete(repository, each)


def _own(repository: Repository, version: Version) -> dict[int, Release]:
    return _marked((each for each in releases.releases(repository) if each.tag == version.tag), version)


def _marked(found: Iterable[Release], version: Version) -> dict[int, Release]:
    """Those of this run, by id."""
    return {each.id: each for each in found if _mark(version) in each.body}


def _mark(version: Version) -> str:
    """The last line of a release's text: whose it is, for a draft has no tag yet that would tell."""
    return f"<!-- pushtrain run {version.lineage.run_id} -->"


def _body(version: Version, card: str) -> str:
    return f"{card.rstrip()}\n\n{_mark(version)}\n"


def complete(
    repository: Repository, release: Release, pieces: Iterable[Piece], *, progress: Progress | None
) -> None:
    """Sends the assets that the release lacks, and those that did not come whole; `progress` is told of these.

    Raises GitHubError where one does not arrive as it was sent, Conflict where a published release has another.
    """
    there = {asset.name: asset for asset in release.assets}
    for piece in pieces:
        if not any(_is_there(there.get(name), piece, release) for name in (piece.name, *piece.instead)):
            _send(repository, release, piece, progress)


def _is_there(asset: Asset | None, piece: Piece, release: Release) -> bool:
    if asset is None or asset.state != "uploaded":
        return False
    if piece.digest is None:
        return True
    # Old servers tell no digest. What they published was read back before, what is in a draft maybe not.
    same = asset.digest == piece.digest or (asset.digest is None and not release.draft)
    return same and asset.size_bytes == piece.size_bytes


def _send(repository: Repository, release: Release, piece: Piece, progress: Progress | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / piece.name
        piece.bring(path)
        releases.upload(repository, release, path, piece.name, progress=progress, digest=piece.digest)
    logger.info("%s: sent %s, %d bytes", release.tag, piece.name, piece.size_bytes)
