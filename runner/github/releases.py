"""Releases of a repository, drafts included, and their assets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from runner.github.assets import Asset, AssetAnswer, delete_asset, download, upload
from runner.github.client import part
from runner.github.permissions import RELEASES
from runner.github.refusals import Call
from runner.github.texts import one_line, same_text

if TYPE_CHECKING:
    from runner.github.client import Repository

__all__ = [
    "Asset",
    "Release",
    "create_draft",
    "delete",
    "delete_asset",
    "download",
    "publish",
    "release",
    "releases",
    "update",
    "upload",
]

BODY_LIMIT = 125_000
"""Characters of a release's text."""

_NAME = 255


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release; `url` is its page, `upload_url` where its assets are sent to, `body` Markdown."""

    id: int
    tag: str
    name: str
    body: str
    draft: bool
    prerelease: bool
    url: str
    upload_url: str
    assets: tuple[Asset, ...]


class _Release(msgspec.Struct):
    id: int
    tag_name: str
    html_url: str
    upload_url: str
    name: str | None = None
    body: str | None = None
    draft: bool = False
    prerelease: bool = False
    assets: list[AssetAnswer] = []

    @property
    def ours(self) -> Release:
        return Release(
            id=self.id,
            tag=self.tag_name,
            name=self.name or "",
            body=self.body or "",
            draft=self.draft,
            prerelease=self.prerelease,
            url=self.html_url,
            upload_url=self.upload_url.partition("{")[0],
            assets=tuple(each.ours for each in self.assets),
        )


def releases(repository: Repository) -> Iterator[Release]:
    """Yields all releases, newest first, drafts included where the token may write; a request for each hundred."""
    call = Call(doing="list the releases", feature=RELEASES)
    return (each.ours for each in repository.pages(call, "releases", _Release, per_page=100))


def release(repository: Repository, tag: str) -> Release | None:
    """Returns the release of a tag: the published one, else the oldest draft; None where there is neither.

    A published one is found by one request; drafts have no tag yet and are looked for in the list.
    """
    call = Call(doing=f"show the release {tag}", feature=RELEASES)
    published = repository.find(call, f"releases/tags/{part(tag)}", _Release)
    return published.ours if published else _listed(repository, tag)


def create_draft(
    repository: Repository, tag: str, *, name: str, body: str, prerelease: bool = False
) -> Release:
    """Makes a draft, which nobody but those who may write sees, and no tag; the tag should be there already.

    One call makes one draft, but a second call makes a second, so ask for `release` first. Raises ValueError for a
    body of more than BODY_LIMIT characters.
    """
    call = Call(doing=f"create the release {tag}", feature=RELEASES)
    wanted = {**_texts(name=name, body=body), "tag_name": tag, "draft": True, "prerelease": prerelease}

    def look() -> _Release | None:
        """Another run's draft of the same tag has another text."""
        found = (
            each
            for each in repository.pages(call, "releases", _Release, per_page=100)
            if each.tag_name == tag
        )
        same = (each for each in found if each.draft and same_text(each.body, body))
        return min(same, key=lambda each: each.id, default=None)

    return repository.create(call, "releases", wanted, _Release, look=look).ours


def update(repository: Repository, release: Release, *, name: str, body: str) -> Release:
    """Gives a release another name and text; safe to repeat. Raises GitHubAbsent where it was deleted."""
    call = Call(doing=f"change the release {release.tag}", feature=RELEASES)
    texts = {**_texts(name=name, body=body), "tag_name": release.tag}
    return repository.change(call, f"releases/{release.id}", texts, _Release).ours


def publish(repository: Repository, release: Release, *, latest: bool = False) -> Release:
    """Makes a draft visible to all; safe to repeat. `latest`: it becomes what the repository's page shows as latest."""
    call = Call(doing=f"publish the release {release.tag}", feature=RELEASES)
    # The tag is named again: a draft whose tag came later would else be published as "untagged-…".
    wanted = {"draft": False, "tag_name": release.tag, "make_latest": "true" if latest else "false"}
    return repository.change(call, f"releases/{release.id}", wanted, _Release).ours


def delete(repository: Repository, release: Release) -> None:
    """Removes a release with its assets, but not its tag; safe to repeat."""
    call = Call(doing=f"delete the release {release.tag}", feature=RELEASES)
    repository.delete(call, f"releases/{release.id}")


def _listed(repository: Repository, tag: str) -> Release | None:
    found = [each for each in releases(repository) if each.tag == tag]
    return min(found, key=lambda each: (each.draft, each.id), default=None)


def _texts(*, name: str, body: str) -> dict[str, str]:
    if len(body) > BODY_LIMIT:
        raise ValueError(
            f"the text of a release has {len(body)} characters, of which GitHub takes {BODY_LIMIT}"
        )
    return {"name": one_line(name, _NAME), "body": body}
