"""The image of a fork's run: the team's own, or one of its own that shares nothing with anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.environment import (
    Image,
    Recipe,
    check_isolated,
    isolated_name,
    prepare_image,
    prepare_isolated_image,
    remove_isolated_image,
)
from runner.environment.dockerfile import without_caches
from runner.errors import EnvironmentFailed
from tests.environment.specs import image, planned_image
from tests.environment.test_dockerfile import CASES
from tests.services.dockerd import DockerEngine

SDIST = (
    "https://files.pythonhosted.org/packages/a2/55/"
    "8f8cab2afd404cf578136ef2cc5dfb50baa1761b68c9da1fb1e4eed343c9/docopt-0.6.2.tar.gz"
)
RUN = "20260101-000000-aaaa"
docker = pytest.mark.docker


@pytest.mark.parametrize("name", CASES)
def test_a_dockerfile_for_a_fork_mounts_no_cache_and_builds_no_package(tmp_path: Path, name: str) -> None:
    files = {"limits.txt": "", "environment.yml": ""}
    text = planned_image(tmp_path, CASES[name], files).dockerfile or ""

    alone = without_caches(text)

    assert "type=cache" not in alone
    assert "pushtrain-uv" not in alone
    assert "UV_COMPILE_BYTECODE" not in alone
    assert alone.count("uv pip install --no-build ") == text.count("uv pip install")
    assert alone.count("RUN ") == text.count("RUN ")


@pytest.fixture
def lines(docker_engine: DockerEngine) -> Iterator[list[str]]:
    """What Docker said; afterwards the run's own image is gone."""
    yield []
    remove_isolated_image(RUN)
    remove_isolated_image(RUN)
    assert not docker_engine.docker("image", "ls", "-q", isolated_name(RUN))


def prepare(recipe: Recipe, folder: Path, lines: list[str], *, registry: str | None = None) -> Image:
    return prepare_isolated_image(
        recipe, name=isolated_name(RUN), folder=folder, registry=registry, log=lines.append
    )


@docker
@pytest.mark.timeout(600)
def test_an_image_that_nobody_has_is_made_for_this_run_alone(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path, lines: list[str]
) -> None:
    recipe = image(tmp_path, f"base: {base_image}\npip: [six==1.15.0]")

    made = prepare(recipe, tmp_path, lines, registry=registry)

    assert made.reference == f"pushtrain/isolated:{RUN}"
    run = ("run", "--rm", "--user", "1000:1000", made.reference)
    assert docker_engine.docker(*run, "python", "-c", "import six; print(six.__version__)") == "1.15.0"
    assert not docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{recipe.key}")
    assert not docker_engine.docker("image", "ls", "-q", f"{registry}/pushtrain-env")
    assert not any("push" in line.split() for line in lines)
    again: list[str] = []
    assert prepare(recipe, tmp_path, again, registry=registry) == made
    assert again == []


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kept", ["here", "registry"])
def test_the_teams_own_image_is_taken_where_it_is_the_same(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path, lines: list[str], kept: str
) -> None:
    version = {"here": "2.0.0", "registry": "1.1.1"}[kept]
    recipe = image(tmp_path, f"base: {base_image}\npip: [iniconfig=={version}]")
    shared = registry if kept == "registry" else None
    ours = prepare_image(recipe, folder=tmp_path, registry=shared, secrets={}, log=lambda _: None)
    if shared:
        docker_engine.docker("image", "rm", "-f", ours.reference, f"pushtrain/env:{recipe.key}")

    made = prepare(recipe, tmp_path, lines, registry=shared)

    assert made == ours
    assert not any("uv pip install" in line for line in lines)


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "requirements",
    [
        "docopt==0.6.2",
        "--only-binary :none:\ndocopt==0.6.2",
        "--no-binary docopt\ndocopt==0.6.2",
        f"docopt @ {SDIST}",
    ],
)
def test_a_package_that_would_run_its_code_while_it_is_built_is_refused(
    base_image: str, tmp_path: Path, lines: list[str], requirements: str
) -> None:
    environment = f"base: {base_image}\npip: requirements.txt"
    recipe = image(tmp_path, environment, {"requirements.txt": f"{requirements}\n"})

    with pytest.raises(EnvironmentFailed, match=r"docopt|--no-binary"):
        prepare(recipe, tmp_path, lines)


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize("environment", ["dockerfile: Dockerfile", "base: {base}\nlegacy_keras: true"])
def test_what_runs_the_forks_code_with_a_network_is_not_built(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path, lines: list[str], environment: str
) -> None:
    files = {
        "Dockerfile": f"FROM {base_image}\nRUN --mount=type=cache,id=pushtrain-uv,target=/c touch /c/x\n"
    }
    recipe = image(tmp_path, environment.format(base=base_image), files)

    with pytest.raises(EnvironmentFailed, match="no image is made of"):
        prepare(recipe, tmp_path, lines)
    with pytest.raises(EnvironmentFailed, match="no image is made of"):
        check_isolated(recipe, registry=None)

    assert lines == []
    if recipe.dockerfile_path is not None:
        ours = prepare_image(recipe, folder=tmp_path, registry=None, secrets={}, log=lambda _: None)
        check_isolated(recipe, registry=None)
        assert prepare(recipe, tmp_path, lines) == ours
