from __future__ import annotations

from pathlib import Path

import pytest

from runner.store import Store, open_store
from tests.publish.made import Desk, desk_of
from tests.services.github import GitHub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def desk(github: GitHub, store: Store, tmp_path: Path) -> Desk:
    return desk_of(github, store, tmp_path)
