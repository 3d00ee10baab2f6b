"""`scene`: a repository with a training on the stand-in for GitHub, and a runner on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answer.scene import Scene, files
from tests.engines.project import Project
from tests.services.events import Webhooks
from tests.services.github import GitHub


@pytest.fixture
def scene(github: GitHub, node_modules: Path, tmp_path: Path) -> Iterator[Scene]:
    """Its main branch has a training; ada may write, eve may read."""
    folder, home = tmp_path / "jobs", tmp_path / "home"
    folder.mkdir()
    repository = github.repository("lab/digits", files())
    repository.grant("ada", "write")
    repository.grant("eve", "read")
    webhooks = Webhooks(
        node_modules=node_modules,
        repository=repository.name,
        head=repository.head(),
        server_url=github.url,
        api_url=github.url,
    )
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
