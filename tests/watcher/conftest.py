"""`scene`: a repository with a training on the stand-in for GitHub, and a machine that watches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answer.scene import team
from tests.services.github import GitHub
from tests.watcher.scene import Scene, project


@pytest.fixture
def scene(github: GitHub, node_modules: Path, tmp_path: Path) -> Iterator[Scene]:
    """Its main branch has a training; ada may write, eve may read."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    repository, webhooks = team(github, node_modules)
    made = Scene(
        project=project(tmp_path, "home", store=tmp_path / "store", github=github),
        github=github,
        repository=repository,
        webhooks=webhooks,
        folder=folder,
        token=github.actions_token(repository.name),
    )
    yield made
    made.end()
