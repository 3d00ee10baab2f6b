"""The releases and tags of a repository on GitHub -> a Shelf of models."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import Conflict, Corrupt, ModelError, NotFound, UsageError
from runner.github import releases, tags
from runner.models.shelf import GITHUB, newest_first
from runner.models.version import valid_name
from runner.publish.document import (
    DOCUMENT,
    STATEMENTS,
    Document,
    load_document,
    promotion_message,
    promotion_note,
    read_promotion_tag,
    read_version_tag,
    version_note,
)
from runner.store.transfer import check_digest, hash_file, whole_file

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.github.releases import Asset, Release
    from runner.github.tags import Tag
    from runner.models import ModelFile, Promotion, Version
    from runner.store import Progress, Store

PATIENCE_S = 60.0
"""How long a person waits for one call of a command."""

PUBLIC_API = "https://api.github.com"
# Nine hundred files and their lineage take less than 1 MB.
SMALL_BYTES = 16 << 20


def open_shelf(repository: str, *, store: Store | None, cache: Path | None) -> GitHubShelf:
    """The shelf of OWNER/NAME at GITHUB_API_URL, with the token of the environment. Raises UsageError without one."""
    from runner.github import client

    try:
        auth = client.auth_from(os.environ)
    except UsageError as error:
        raise UsageError(str(error), tip="export GITHUB_TOKEN=$(gh auth token), or another token") from error
    opened = client.connect(
        api_url=os.environ.get("GITHUB_API_URL") or PUBLIC_API,
        repository=repository,
        auth=auth,
        cache=cache,
        patience_s=PATIENCE_S,
    )
    return GitHubShelf(opened, store=store)


class GitHubShelf:
    """See Shelf. Opened for one command: releases are listed once, tags whenever somebody asks.

    A version is a published release with our document; drafts, and releases of other tools, are none.
    """

    def __init__(self, repository: Repository, *, store: Store | None = None) -> None:
        self._repository, self._store = repository, store
        self._documents: dict[str, Document] = {}
        self.uri = f"{GITHUB}{repository.name}"

    def names(self) -> tuple[str, ...]:
        """See Shelf.names."""
        return tuple(sorted({name for name, _ in self._published}))

    def numbers(self, name: str) -> tuple[str, ...]:
        """See Shelf.numbers."""
        return newest_first(number for each, number in self._published if each == name)

    @cached_property
    def _published(self) -> Mapping[tuple[str, str], Release]:
        found = {}
        for release in releases.releases(self._repository):
            read = read_version_tag(release.tag)
            if read and not release.draft and asset_of(release, DOCUMENT):
                found[read] = release
        return found

    def version(self, name: str, number: str) -> Version:
        """See Shelf.version."""
        return self._document(name, number).version

    def _document(self, name: str, number: str) -> Document:
        tag = f"{name}@v{number}"
        if tag not in self._documents:
            asset = asset_of(self._release(name, number), DOCUMENT)
            assert asset is not None
            digest = version_note(self._tag(tag).message).document
            self._documents[tag] = load_document(self._small(asset), tag=tag, digest=digest)
        return self._documents[tag]

    def _release(self, name: str, number: str) -> Release:
        release = self._published.get((name, number))
        if release is None:
            raise ModelError(
                f"{self._repository.name} has no release {name}@v{number} that pushtrain published",
                tip=f"pushtrain models show {name} --store {self.uri}",
            )
        return release

    def _tag(self, name: str) -> Tag:
        tag = one_tag(self._repository, name)
        if tag is None:
            raise ModelError(
                f"{self._repository.name} has no tag {name}", tip="somebody removed it: git fetch --tags"
            )
        return tag

    def _small(self, asset: Asset) -> bytes:
        if asset.size_bytes > SMALL_BYTES:
            raise ModelError(f"{asset.name} of a release in {self._repository.name} is too large to be read")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "asset"
            releases.download(self._repository, asset, path)
            return path.read_bytes()

    def stages(self, name: str) -> Mapping[str, tuple[int, ...]]:
        """See Shelf.stages."""
        if not valid_name(name):
            return {}
        found: dict[str, list[int]] = {}
        for ref in tags.refs(self._repository, f"{name}#"):
            read = read_promotion_tag(ref.name)
            if read:
                found.setdefault(read[1], []).append(read[2])
        return {stage: tuple(sorted(numbers)) for stage, numbers in sorted(found.items())}

    def promotion(self, name: str, stage: str, n: int) -> Promotion:
        """See Shelf.promotion. One that GTO or a person made is of the version whose commit it stands on."""
        from runner.models import Promotion

        tag = self._tag(f"{name}#{stage}#{n}")
        told = promotion_note(tag.message, tag=tag.name)
        if told is not None:
            return told
        for number in self.numbers(name):
            if self.version(name, number).lineage.commit == tag.commit:
                return Promotion(n=n, name=name, version=number, stage=stage, by=tag.by, at_s=tag.at_s or 0.0)
        raise ModelError(
            f"the tag {tag.name} in {self._repository.name} stands on no version of {name}",
            tip=f"remove it: git push origin :refs/tags/{tag.name}",
        )

    def add_promotion(self, promotion: Promotion) -> None:
        """See Shelf.add_promotion. The tag stands on the commit that the version was trained from."""
        version = self._tag(f"{promotion.name}@v{promotion.version}")
        message = promotion_message(promotion)
        tags.create_tag(self._repository, promotion.tag, commit=version.commit, message=message)

    def fetch(
        self, version: Version, file: ModelFile, target: Path, *, progress: Progress | None = None
    ) -> None:
        """See Shelf.fetch. What is too large for a release comes from the store."""
        made = self._document(version.name, version.version)
        name = made.assets.get(file.path)
        if name is not None:
            self._fetch_asset(version, file, name, target, progress)
        elif file.size_bytes == 0:
            with whole_file(target):
                pass
            check_digest(f"{version.tag}: {file.path}", hash_file(target), file.digest)
        else:
            self._fetch_stored(made, file, target, progress)

    def _fetch_asset(
        self, version: Version, file: ModelFile, name: str, target: Path, progress: Progress | None
    ) -> None:
        asset = asset_of(self._release(version.name, version.version), name)
        if asset is None:
            raise NotFound(f"the release {version.tag} in {self._repository.name} has lost {name}")
        if asset.size_bytes != file.size_bytes:
            raise Corrupt(
                f"{name} of the release {version.tag} has {asset.size_bytes} bytes, not {file.size_bytes}"
            )
        found = releases.download(self._repository, asset, target, progress=progress)
        try:
            check_digest(f"{name} of the release {version.tag}", found, file.digest)
        except Corrupt:
            target.unlink(missing_ok=True)
            raise

    def _fetch_stored(self, made: Document, file: ModelFile, target: Path, progress: Progress | None) -> None:
        # Only the user's own store is asked: whoever edits a release could name any server in it.
        if self._store is None or not self._store.has_blob(file.digest):
            raise NotFound(
                f"{file.path} of {made.version.tag} is neither on GitHub nor in this store, but in {made.store}",
                tip=f"if you trust that place, type: export PUSHTRAIN_STORE={made.store}",
            )
        self._store.get_blob(file.digest, target, progress=progress)

    def statement(self, version: Version) -> bytes | None:
        """See Shelf.statement; of several, the one with the strongest signature."""
        release = self._release(version.name, version.version)
        found = next((asset for name in STATEMENTS if (asset := asset_of(release, name))), None)
        return self._small(found) if found else None

    def add_statement(self, version: Version, content: bytes) -> None:
        """See Shelf.add_statement; one without a signature may be followed by one that has it."""
        from runner.models.signing import Signed

        release = self._release(version.name, version.version)
        name = Signed(document=content, note="").name
        if asset_of(release, name):
            raise Conflict(f"the release {version.tag} has its {name} already")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            releases.upload(self._repository, release, path, name)


def one_tag(repository: Repository, name: str) -> Tag | None:
    """A tag with what it says; None where there is none of that name."""
    found = next((ref for ref in tags.refs(repository, name) if ref.name == name), None)
    return tags.read(repository, found) if found else None


def asset_of(release: Release, name: str) -> Asset | None:
    """The asset of that name that is whole; None where there is none."""
    return next((each for each in release.assets if each.name == name and each.state == "uploaded"), None)
