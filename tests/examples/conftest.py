"""The state folder of those who try the examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.docker import cache_folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Its environments, and the wheels beside them, are kept between test sessions: they are keyed by content."""
    envs = cache_folder() / "envs"
    envs.mkdir(parents=True, exist_ok=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "envs").symlink_to(envs)
    return tmp_path / "home"
