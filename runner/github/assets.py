"""Files <-> assets of a release: streamed from and to the disk, whole and with the right digest."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner.errors import Conflict, GitHubDown, GitHubError
from runner.github.client import convert, part
from runner.github.patience import back_off_s
from runner.github.permissions import RELEASES
from runner.github.refusals import Call, Rejected, Unsure
from runner.store import Blob, Progress
from runner.store.transfer import Hash, check_digest, hash_file, whole_file

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.github.releases import Release

logger = logging.getLogger(__name__)

LIMIT_BYTES = (2 << 30) - 1
"""The largest asset: "each file must be under 2 GiB". The smallest has one byte."""

_TRIES = 5
_UPLOADED = "uploaded"
# GitHub renames what has other characters, in silence: https://docs.github.com/en/rest/releases/assets
_NAME = re.compile(r"[\w+@-](?:[\w.+@-]*[\w+@-])?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of a release; `digest` is `sha256:…`, None where GitHub does not tell (old servers); `url` is for people.

    `state` is "uploaded", or else says that it is not whole.
    """

    id: int
    name: str
    size_bytes: int
    state: str
    digest: str | None
    url: str


class AssetAnswer(msgspec.Struct):
    """An asset in GitHub's words."""

    id: int
    name: str
    size: int
    state: str
    browser_download_url: str
    digest: str | None = None

    @property
    def ours(self) -> Asset:
        """The asset in ours."""
        return Asset(
            id=self.id,
            name=self.name,
            size_bytes=self.size,
            state=self.state,
            digest=self.digest or None,
            url=self.browser_download_url,
        )


def upload(
    repository: Repository,
    release: Release,
    path: Path,
    name: str,
    *,
    progress: Progress | None = None,
    digest: str | None = None,
) -> Asset:
    """Sends a file and returns it as GitHub has it, size and digest compared; safe to repeat.

    An asset of that name is taken as it is where it is whole and the same. What a cut line left is removed and
    sent again; so is another file of a draft, while in a published release it raises Conflict. `digest` saves
    hashing. Raises GitHubError for a name that GitHub would change, an empty file or one of 2 GiB and more.
    """
    call = Call(doing=f"take the file {name} into the release {release.tag}", feature=RELEASES)
    blob = _checked(call, path, name, digest)
    there = next((each for each in release.assets if each.name == name), None)
    furthest = _Furthest(progress)
    for failures in range(1, _TRIES + 1):
        if there and _is_it(repository, call, there, blob):
            return there
        if there:
            _make_room(repository, release, there)
        sent = _send(repository, call, release, path, name, blob, furthest)
        if isinstance(sent, Asset) and _is_it(repository, call, sent, blob):
            return sent
        if isinstance(sent, Asset):
            delete_asset(repository, sent)
            sent = GitHubDown(f"GitHub did not {call.doing}: other bytes arrived", tip="try again later")
        error = sent
        logger.warning("%s (try %d of %d)", error, failures, _TRIES)
        repository.pause(back_off_s(failures), error)
        there = _there(repository, release, name)
    raise error


def delete_asset(repository: Repository, asset: Asset) -> None:
    """Removes an asset; safe to repeat."""
    call = Call(doing=f"delete the file {asset.name}", feature=RELEASES)
    repository.delete(call, f"releases/assets/{asset.id}")


def assets(repository: Repository, release: Release) -> Iterator[Asset]:
    """Yields the assets of a release as they are now; a request for each hundred."""
    call = Call(doing=f"list the files of the release {release.tag}", feature=RELEASES)
    listed = repository.pages(call, f"releases/{release.id}/assets", AssetAnswer, per_page=100)
    return (each.ours for each in listed)


def download(repository: Repository, asset: Asset, target: Path, *, progress: Progress | None = None) -> Blob:
    """Brings an asset to `target`, whole or not at all, and returns its digest and size; safe to repeat.

    A line that is cut is taken up where it broke off. Raises Corrupt where the bytes are not those of the digest
    that GitHub tells. Our token does not go to the storage host that GitHub names.
    """
    call = Call(doing=f"give the file {asset.name}", feature=RELEASES)
    with whole_file(target) as file:

        def keep(data: bytes) -> None:
            file.write(data)
            if progress:
                progress(len(data))

        hashed = _received(repository, call, asset, keep)
        if asset.digest:
            check_digest(f"{asset.name} of {repository.name}", hashed, asset.digest)
    return hashed


def _checked(call: Call, path: Path, name: str, digest: str | None) -> Blob:
    size_bytes = path.stat().st_size
    if not _NAME.fullmatch(name) or ".." in name:
        raise GitHubError(
            f"GitHub would not {call.doing} under this name",
            tip="use letters, digits and `.-_+@` alone, with no `.` at its ends",
        )
    if not 0 < size_bytes <= LIMIT_BYTES:
        said = "it is empty" if not size_bytes else "it has 2 GiB or more"
        raise GitHubError(f"GitHub would not {call.doing}: {said}", tip="keep it in the store alone")
    return Blob(digest=digest, size_bytes=size_bytes) if digest else hash_file(path)


def _send(
    repository: Repository,
    call: Call,
    release: Release,
    path: Path,
    name: str,
    blob: Blob,
    furthest: _Furthest,
) -> Asset | GitHubError:
    """Returns the asset, or the error after which it has to be looked for."""
    with _Sending(path, furthest) as file, repository.line.patience.call(repository.patience_s):
        try:
            answer = repository.line.send_file(
                call, f"{release.upload_url}?name={part(name)}", file, size_bytes=blob.size_bytes
            )
        except Rejected as error:
            if not error.taken:
                raise
            return error
        except Unsure as error:
            return error
    return convert(call, answer.content, AssetAnswer).ours


def _there(repository: Repository, release: Release, name: str) -> Asset | None:
    return next((each for each in assets(repository, release) if each.name == name), None)


def _make_room(repository: Repository, release: Release, asset: Asset) -> None:
    if asset.state == _UPLOADED and not release.draft:
        raise Conflict(
            f"the release {release.tag} has another file {asset.name} already",
            tip="a release that is out does not change: make another version",
        )
    delete_asset(repository, asset)


def _is_it(repository: Repository, call: Call, asset: Asset, blob: Blob) -> bool:
    """Whether GitHub has that content; where it tells no digest, by reading it back."""
    if asset.state != _UPLOADED or asset.size_bytes != blob.size_bytes:
        return False
    if asset.digest:
        return asset.digest == blob.digest
    return _received(repository, call, asset, lambda _: None).digest == blob.digest


def _received(repository: Repository, call: Call, asset: Asset, keep: Callable[[bytes], object]) -> Blob:
    """Passes all bytes of an asset on, and returns their digest.

    Goes on where the line was cut, as often as it likes, until it brought nothing for a few times.
    """
    hashed, failures = Hash(), 0
    while (before_bytes := hashed.blob.size_bytes) < asset.size_bytes:
        cut: GitHubError = Unsure(
            f"GitHub did not {call.doing}: the answer ended early", tip="try again later"
        )
        try:
            _go_on(repository, call, asset, hashed, keep)
        except Unsure as error:
            cut = error
        if hashed.blob.size_bytes < asset.size_bytes:
            failures = 1 if hashed.blob.size_bytes > before_bytes else failures + 1
            if failures > _TRIES:
                raise cut
            repository.pause(back_off_s(failures), cut)
    return hashed.blob


def _go_on(
    repository: Repository, call: Call, asset: Asset, hashed: Hash, keep: Callable[[bytes], object]
) -> None:
    done = hashed.blob.size_bytes
    path = f"/repos/{repository.name}/releases/assets/{asset.id}"
    patience = repository.line.patience.call(repository.patience_s)
    with patience, repository.line.receive(call, path, start=done) as (start, pieces):
        skip = done - start
        for piece in pieces:
            fresh = piece[skip:]
            skip = max(skip - len(piece), 0)
            hashed.update(fresh)
            keep(fresh)


class _Furthest:
    """Tells of bytes that were done; those that are done again after a failure are told once."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._told_bytes = 0

    def reach(self, done_bytes: int) -> None:
        if self._progress and done_bytes > self._told_bytes:
            self._progress(done_bytes - self._told_bytes)
            self._told_bytes = done_bytes


class _Sending(BufferedReader):
    """A file that tells how far it was read."""

    def __init__(self, path: Path, furthest: _Furthest) -> None:
        super().__init__(FileIO(path), 1 << 20)
        self._furthest = furthest

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._furthest.reach(self.tell())
        return data
