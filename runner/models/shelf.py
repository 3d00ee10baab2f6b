"""Where versions and promotions are kept: a URI -> a Shelf, over a store or over the releases of GitHub."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from semver import Version as SemVer

from runner.errors import ModelError
from runner.models.version import ModelFile, Promotion, Version, valid_name
from runner.store import Progress, Store, open_store

GITHUB = "github://"

_ROOT = "models"


class Shelf(Protocol):
    """Versions that never change, and promotions that are numbered from 1 for each stage of a model.

    Every method raises StoreError or GitHubError where the place does not answer, and ModelError or NotFound
    where what is kept there is not there or cannot be read.
    """

    uri: str

    def names(self) -> tuple[str, ...]:
        """The names of all models that have a version, sorted."""

    def numbers(self, name: str) -> tuple[str, ...]:
        """The versions of a model, such as 1.2.0, newest first; none where there is no such model."""

    def version(self, name: str, number: str) -> Version:
        """One version that there is."""

    def stages(self, name: str) -> Mapping[str, tuple[int, ...]]:
        """The numbers of all promotions to each stage, rising, by stage, sorted."""

    def promotion(self, name: str, stage: str, n: int) -> Promotion:
        """One promotion that there is."""

    def add_promotion(self, promotion: Promotion) -> None:
        """Keeps a promotion; raises Conflict where somebody has taken its number."""

    def fetch(
        self, version: Version, file: ModelFile, target: Path, *, progress: Progress | None = None
    ) -> None:
        """Brings one file to `target`, verified; raises NotFound, or Corrupt, which leaves nothing at `target`."""

    def statement(self, version: Version) -> bytes | None:
        """The signed statement of where the version came from; None where there is none."""

    def add_statement(self, version: Version, content: bytes) -> None:
        """Keeps the statement; raises Conflict where there is one."""


class StoreShelf:
    """A Shelf in a store; files are its blobs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uri = store.uri

    def names(self) -> tuple[str, ...]:
        """See Shelf.names."""
        return tuple(name for name in self._store.children(_ROOT) if self.numbers(name))

    def numbers(self, name: str) -> tuple[str, ...]:
        """See Shelf.numbers."""
        if not valid_name(name):
            return ()
        found = (child.removesuffix(".json") for child in self._store.children(f"{_ROOT}/{name}/versions"))
        return newest_first(found)

    def version(self, name: str, number: str) -> Version:
        """See Shelf.version."""
        from runner.models.saved import VERSION, load

        key = _version_key(name, number)
        return load(VERSION, self._store.read(key), f"{key} in {self.uri}")

    def add_version(self, version: Version) -> None:
        """Keeps a version; raises Conflict where its number is taken."""
        from runner.models.saved import VERSION, dump

        self._store.create(_version_key(version.name, version.version), dump(VERSION, version))

    def stages(self, name: str) -> Mapping[str, tuple[int, ...]]:
        """See Shelf.stages."""
        if not valid_name(name):
            return {}
        folder = f"{_ROOT}/{name}/stages"
        found = {stage: self._promotions(f"{folder}/{stage}") for stage in self._store.children(folder)}
        return {stage: numbers for stage, numbers in found.items() if numbers}

    def _promotions(self, folder: str) -> tuple[int, ...]:
        names = (child.removesuffix(".json") for child in self._store.children(folder))
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def promotion(self, name: str, stage: str, n: int) -> Promotion:
        """See Shelf.promotion."""
        from runner.models.saved import PROMOTION, load

        key = _promotion_key(name, stage, n)
        return load(PROMOTION, self._store.read(key), f"{key} in {self.uri}")

    def add_promotion(self, promotion: Promotion) -> None:
        """See Shelf.add_promotion."""
        from runner.models.saved import PROMOTION, dump

        key = _promotion_key(promotion.name, promotion.stage, promotion.n)
        self._store.create(key, dump(PROMOTION, promotion))

    def has_file(self, file: ModelFile) -> bool:
        """Whether the store has the file's content."""
        return self._store.has_blob(file.digest)

    def fetch(
        self, version: Version, file: ModelFile, target: Path, *, progress: Progress | None = None
    ) -> None:
        """See Shelf.fetch. A blob is the same in every version."""
        del version
        self._store.get_blob(file.digest, target, progress=progress)

    def statement(self, version: Version) -> bytes | None:
        """See Shelf.statement."""
        key = _statement_key(version)
        there = f"{version.version}.json" in self._store.children(key.rpartition("/")[0])
        return self._store.read(key) if there else None

    def add_statement(self, version: Version, content: bytes) -> None:
        """See Shelf.add_statement."""
        self._store.create(_statement_key(version), content)


def open_shelf(uri: str, *, store: Store | None = None, cache: Path | None = None) -> Shelf:
    """Opens the shelf at `github://OWNER/REPO` or in any store (see `open_store`); nothing is spoken to yet.

    On GitHub, `store` is where files lie that are too large for a release, and `cache` a folder for answers
    that need not be asked for again. Raises StoreError or ModelError for a URI that is none, UsageError
    where the environment has no token.
    """
    if not uri.startswith(GITHUB):
        return StoreShelf(open_store(uri))
    owner, _, name = uri.removeprefix(GITHUB).strip("/").partition("/")
    if not owner or not name or "/" in name:
        raise ModelError(f"{uri}: this names no repository", tip=f"write {GITHUB}OWNER/REPOSITORY")
    # By name: what speaks to GitHub comes after the models in the order of imports, and costs time.
    opener = importlib.import_module("runner.publish.shelf").open_shelf
    opened: Shelf = opener(f"{owner}/{name}", store=store, cache=cache)
    return opened


def option(shelf: Shelf) -> str:
    """What a command for this shelf has to say of it: ` --store URI`, or nothing where it is a store of runs."""
    return f" --store {shelf.uri}" if shelf.uri.startswith(GITHUB) else ""


def newest_first(numbers: Iterable[str]) -> tuple[str, ...]:
    """Those that are versions, the newest first."""
    return tuple(sorted(filter(SemVer.is_valid, numbers), key=SemVer.parse, reverse=True))


def _version_key(name: str, number: str) -> str:
    return f"{_ROOT}/{name}/versions/{number}.json"


def _promotion_key(name: str, stage: str, n: int) -> str:
    return f"{_ROOT}/{name}/stages/{stage}/{n}.json"


def _statement_key(version: Version) -> str:
    return f"{_ROOT}/{version.name}/statements/{version.version}.json"
