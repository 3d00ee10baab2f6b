from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.store import Store, open_store
from tests.datasets.desk import Desk
from tests.datasets.server import Site, serving
from tests.fixtures.s3 import s3_credentials, s3_endpoint, s3_uri

__all__ = ["s3_credentials", "s3_endpoint", "s3_uri"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def desk(tmp_path: Path, store: Store) -> Desk:
    """A repository's folder, a store and a cache of their own."""
    repository = tmp_path / "repository"
    repository.mkdir()
    return Desk(folder=repository, store=store, cache=tmp_path / "cache")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as served:
        yield served
