from __future__ import annotations

from pathlib import Path

import pytest

from runner.store import Store, open_store
from tests.fixtures.s3 import s3_credentials, s3_endpoint, s3_uri

__all__ = ["s3_credentials", "s3_endpoint", "s3_uri"]


@pytest.fixture(params=["directory", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store of each kind."""
    if request.param == "directory":
        return str(tmp_path / "store")
    place: str = request.getfixturevalue("s3_uri")
    return place


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri)
