"""Which `docker` builds: stand-ins on PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.environment.builder import find_builder
from runner.errors import EngineError


def client(folder: Path, version: str, *, buildx: bool) -> str:
    folder.mkdir()
    plugin = "echo github.com/docker/buildx v0.20" if buildx else "echo 'unknown command' >&2; exit 1"
    docker = folder / "docker"
    docker.write_text(
        f'#!/bin/sh\nif [ "$1" = buildx ]; then {plugin}; else echo "Docker version {version}, build 1"; fi\n'
    )
    docker.chmod(0o755)
    return str(docker)


def path(*clients: str) -> dict[str, str]:
    return {"PATH": ":".join([*(str(Path(one).parent) for one in clients), "/nonexistent"])}


def test_a_client_with_the_plugin_builds_by_it(tmp_path: Path) -> None:
    new = client(tmp_path / "a", "28.2.2", buildx=True)

    builder = find_builder(path(new))

    assert builder.command == (new, "buildx", "build", "--load")


def test_the_plugin_of_a_later_client_is_preferred_to_an_old_client(tmp_path: Path) -> None:
    old = client(tmp_path / "a", "20.10.24+dfsg1", buildx=False)
    new = client(tmp_path / "b", "28.2.2", buildx=True)

    assert find_builder(path(old, new)).command[0] == new


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "22.06.0-beta.0"])
def test_behind_a_new_client_without_plugin_an_old_one_is_found(tmp_path: Path, version: str) -> None:
    new = client(tmp_path / "a", "28.2.2", buildx=False)
    old = client(tmp_path / "b", version, buildx=False)

    builder = find_builder(path(new, old))

    assert builder.command == (old, "build")
    assert builder.env == (("DOCKER_BUILDKIT", "1"),)


@pytest.mark.parametrize("version", ["28.2.2", "23.0.0", "19.03.1", "nonsense"])
def test_without_any_the_error_says_what_to_install(tmp_path: Path, version: str) -> None:
    only = client(tmp_path / "a", version, buildx=False)

    with pytest.raises(EngineError, match="has no buildx plugin") as caught:
        find_builder(path(only))

    assert "apt-get install" in caught.value.tip


def test_without_docker_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no docker command on PATH"):
        find_builder({"PATH": str(tmp_path)})
