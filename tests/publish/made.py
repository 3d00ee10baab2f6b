"""Versions for tests of publishing: in a store, trained from a commit that GitHub has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import models
from runner.github import client
from runner.models import Draft, Lineage, Resources, Version
from runner.models.provenance import Origin, attest
from runner.publish.github import publish
from runner.publish.shelf import GitHubShelf
from runner.store import Store
from tests.fakes.clock import SkippingClock
from tests.models.test_registry import LINEAGE, put
from tests.services.github import GitHub, Repository

FILES = {"saved_model.pb": b"graph", "variables/index": b"index", "empty": b""}


def connected(github: GitHub, name: str = "lab/mnist", *, token: str | None = None) -> client.Repository:
    """The repository as the product sees it, without a cache."""
    return client.connect(
        api_url=github.url,
        repository=name,
        auth=client.Token(value=token or github.token),
        cache=None,
        clock=SkippingClock(),
    )


def lineage(commit: str | None, run: str = "run-1", *, dirty: bool = False) -> Lineage:
    return dataclasses.replace(LINEAGE, commit=commit, run_id=run, dirty=dirty)


def version(
    store: Store,
    folder: Path,
    commit: str | None,
    *,
    run: str = "run-1",
    name: str = "digits",
    files: dict[str, bytes] | None = None,
    dirty: bool = False,
    after: str | None = None,
) -> Version:
    """A version that is registered in the store, with its files there."""
    content = FILES if files is None else files
    draft = Draft(
        name=name,
        bump="minor",
        framework="tensorflow",
        framework_version="2.15.1",
        resources=Resources(cpu=1.0, memory_bytes=512 << 20),
        files=tuple(put(store, folder, path, each) for path, each in content.items()),
        lineage=lineage(commit, run, dirty=dirty),
        created_at_s=1000.5,
        after=after,
    )
    return models.register(store, draft)


def published(repository: client.Repository, store: Store, of: Version, **kwargs: Any) -> str:
    """As a job would publish it: attested, but with nothing to sign with."""
    origin = Origin(by="ann")
    statement = attest(models.StoreShelf(store), of, origin, {}).document
    url = "https://github.example"
    return publish(repository, store, of, origin=origin, server_url=url, statement=statement, **kwargs)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A repository on GitHub and a store, and what is between them."""

    github: GitHub
    repo: Repository
    store: Store
    folder: Path

    @property
    def repository(self) -> client.Repository:
        """A new connection."""
        return connected(self.github)

    @property
    def shelf(self) -> GitHubShelf:
        """Opened anew, as by another command."""
        return GitHubShelf(self.repository, store=self.store)

    def version(self, **kwargs: Any) -> Version:
        """A version of the repository's head, unless `commit` is another."""
        return version(self.store, self.folder, kwargs.pop("commit", self.repo.head()), **kwargs)

    def publish(self, of: Version, **kwargs: Any) -> str:
        return published(kwargs.pop("repository", self.repository), self.store, of, **kwargs)


def desk_of(github: GitHub, store: Store, folder: Path) -> Desk:
    repo = github.repository("lab/mnist", {"train.yml": "name: digits\n"})
    return Desk(github=github, repo=repo, store=store, folder=folder)
