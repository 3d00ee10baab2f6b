"""`project`: a repository on each engine in turn. `local_project` and `docker_project`: on one of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.project import Project, wait_for
from tests.services.dockerd import DockerEngine

LOCAL = pytest.param("local", id="local")
DOCKER = pytest.param("docker", id="docker", marks=[pytest.mark.docker, pytest.mark.timeout(600)])


@pytest.fixture(params=[LOCAL, DOCKER])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    """A project on each engine. After the test nothing of its runs may be left."""
    yield from request.getfixturevalue(f"{request.param}_project_maker")


@pytest.fixture
def local_project_maker(tmp_path: Path) -> Iterator[Project]:
    """See `local_project`."""
    return _projects(tmp_path, engine="local", environment={}, docker=None)


@pytest.fixture
def docker_project_maker(tmp_path: Path, docker_engine: DockerEngine, base_image: str) -> Iterator[Project]:
    """See `docker_project`."""
    return _projects(tmp_path, engine="docker", environment={"image": base_image}, docker=docker_engine)


@pytest.fixture
def local_project(local_project_maker: Iterator[Project]) -> Iterator[Project]:
    """A project on the engine `local`."""
    yield from local_project_maker


@pytest.fixture
def docker_project(docker_project_maker: Iterator[Project]) -> Iterator[Project]:
    """A project on the engine `docker`."""
    yield from docker_project_maker


def _projects(
    tmp_path: Path, *, engine: str, environment: dict[str, Any], docker: DockerEngine | None
) -> Iterator[Project]:
    home = tmp_path / "home"
    made = Project(
        folder=tmp_path / "repository",
        home=home,
        engine=engine,
        environment=environment,
        store_uri=str(home / "store"),
        environ={"PUSHTRAIN_LEASE_S": "2"},
    )
    try:
        yield made
        wait_for(
            lambda: not made.leftovers() and not _containers(docker),
            what="nothing of an ended run left",
            told=lambda: "\n".join(made.leftovers() + _containers(docker)),
            within_s=20,
        )
    finally:
        made.end()
        if docker is not None:
            _remove(docker)


def _containers(docker: DockerEngine | None) -> list[str]:
    if docker is None:
        return []
    label = ("--filter", "label=pushtrain.run")
    return [
        *docker.docker("ps", "-a", *label, "--format", "container {{.Names}}").splitlines(),
        *docker.docker("network", "ls", *label, "--format", "network {{.Name}}").splitlines(),
    ]


def _remove(docker: DockerEngine) -> None:
    for left in _containers(docker):
        kind, name = left.split()
        docker.docker(*(("rm", "-f", name) if kind == "container" else ("network", "rm", name)))
