"""`scene`: a repository with a training on the stand-in for GitHub, and a runner on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answer.scene import Scene, team
from tests.engines.project import Project
from tests.services.github import GitHub


@pytest.fixture
def scene(github: GitHub, node_modules: Path, tmp_path: Path) -> Iterator[Scene]:
    """Its main branch has a training; ada may write, eve may read."""
    folder, home = tmp_path / "jobs", tmp_path / "home"
    folder.mkdir()
    repository, webhooks = team(github, node_modules)
    project = Project(
        folder=folder,
        home=home,
        engine="local",
        environment={},
        store_uri=str(home / "store"),
        environ={"PUSHTRAIN_LEASE_S": "2"},
    )
    yield Scene(
        project=project,
        github=github,
        repository=repository,
        webhooks=webhooks,
        folder=folder,
        token=github.actions_token(repository.name),
    )
    project.end()
