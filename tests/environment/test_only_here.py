"""An image that only this machine's Docker has serves runs of this machine, and of no other host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.environment import (
    Base,
    DockerFacts,
    Image,
    Recipe,
    bases,
    image_recipe,
    prepare_image,
    require_registry,
    require_shared,
)
from runner.errors import EnvironmentFailed
from tests.environment.specs import DIGEST, image, planned_image, written
from tests.fixtures.docker import cache_folder
from tests.services.dockerd import DockerEngine

OTHER = "sha256:" + "cd" * 32
NAME = "team/train:1"
ENVIRONMENTS = (
    f"image: {NAME}",
    f"base: {NAME}\npip: [six==1.17.0]",
    "dockerfile: Dockerfile",
)
FILES = {"Dockerfile": f"FROM {NAME} AS first\nFROM python:3.11-slim\n"}


def local(folder: Path, environment: str) -> Recipe:
    """As on a Docker in which `NAME` was made and everything else pulled."""
    spec = written(folder, environment, FILES)
    known = tuple(
        Base(reference=name, digest=DIGEST, source=name if name == NAME else f"{name}@{DIGEST}")
        for name in bases(spec, folder, train_file="train.yml")
    )
    facts = DockerFacts(platform="linux/amd64", bases=known)
    return image_recipe(spec, folder, train_file="train.yml", docker=facts)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_other_hosts_are_refused_with_the_commands_that_push_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    recipe = local(tmp_path, environment)
    with pytest.raises(EnvironmentFailed, match=f"{NAME} is only in this machine's Docker") as caught:
        require_shared(recipe, others=("h1", "h2"), registry="gpu1:5000/team")
    assert "h1, h2 may have the run" in str(caught.value)
    assert caught.value.tip == (
        f"docker tag {NAME} gpu1:5000/team/train:1 && docker push gpu1:5000/team/train:1, "
        "and name gpu1:5000/team/train:1 in environment"
    )


def test_the_login_that_an_agent_made_is_in_what_is_to_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/run/pushtrain/docker")
    with pytest.raises(EnvironmentFailed) as caught:
        require_shared(local(tmp_path, ENVIRONMENTS[0]), others=("h1",), registry=None)
    assert "DOCKER_CONFIG=/run/pushtrain/docker docker push REGISTRY/train:1" in caught.value.tip


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_where_no_other_host_may_have_the_run_it_serves(tmp_path: Path, environment: str) -> None:
    require_shared(local(tmp_path, environment), others=(), registry=None)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_image_of_a_registry_serves_all_hosts(tmp_path: Path, environment: str) -> None:
    recipe = planned_image(tmp_path, environment, FILES)
    require_shared(recipe, others=("h1", "h2"), registry=None)


BUILT = ("pip: [six==1.17.0]", "dockerfile: Dockerfile")


@pytest.mark.parametrize("environment", BUILT)
def test_a_gang_whose_image_one_host_would_build_for_itself_alone_is_refused(
    tmp_path: Path, environment: str
) -> None:
    recipe = planned_image(tmp_path, environment, FILES)
    with pytest.raises(EnvironmentFailed, match="the other 2 cannot have it: no registry") as caught:
        require_registry(recipe, nodes=3, others=("h1", "h2"), registry=None)
    for cure in ("PUSHTRAIN_REGISTRY=HOST", "agent stop", "agent start --head", "--serve-registry", "token"):
        assert cure in caught.value.tip


@pytest.mark.parametrize("environment", BUILT)
def test_what_is_built_for_one_host_or_pushed_is_not_refused(tmp_path: Path, environment: str) -> None:
    recipe = planned_image(tmp_path, environment, FILES)
    require_registry(recipe, nodes=1, others=("h1",), registry=None)
    require_registry(recipe, nodes=3, others=(), registry=None)
    require_registry(recipe, nodes=3, others=("h1", "h2"), registry="gpu1:5000")
    given = planned_image(tmp_path, f"image: {NAME}", FILES)
    require_registry(given, nodes=3, others=("h1", "h2"), registry=None)


def test_the_key_is_what_it_is_without(tmp_path: Path) -> None:
    recipe = planned_image(tmp_path, f"image: {NAME}")
    assert local(tmp_path, f"image: {NAME}").key == recipe.key


def prepare(recipe: Recipe, folder: Path) -> Image:
    wheels = cache_folder() / "wheels"
    return prepare_image(recipe, folder=folder, registry=None, secrets={}, wheel_cache=wheels, log=print)


@pytest.fixture
def mine(docker_engine: DockerEngine, base_image: str) -> Iterator[str]:
    """A name of the base image that no registry knows."""
    docker_engine.docker("tag", base_image, "pushtrain-mine:1")
    yield "pushtrain-mine:1"
    docker_engine.docker("image", "rm", "--no-prune", "pushtrain-mine:1")


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_it_is_started_by_its_id(docker_engine: DockerEngine, mine: str, tmp_path: Path) -> None:
    made = prepare(image(tmp_path, f"image: {mine}"), tmp_path)
    assert made.reference == mine
    assert made.pinned == docker_engine.docker("image", "inspect", "-f", "{{.Id}}", mine)


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "environment", ["image: {}", "base: {}\npip: [six==1.17.0]", "dockerfile: Dockerfile"]
)
def test_another_image_of_that_name_is_not_taken(mine: str, tmp_path: Path, environment: str) -> None:
    files = {"Dockerfile": f"FROM {mine}\nLABEL its=own\n"}
    recipe = image(tmp_path, environment.format(mine), files)
    elsewhere = replace(recipe, key="0" * 32, only_here=((mine, OTHER),))
    with pytest.raises(
        EnvironmentFailed, match=rf"{mine} was sha256:cdcdcdcdcdcd in .*; here it is"
    ) as caught:
        prepare(elsewhere, tmp_path)
    assert f"docker tag {mine} REGISTRY/pushtrain-mine:1" in caught.value.tip


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_a_host_that_lacks_it_says_so_and_asks_no_registry(mine: str, tmp_path: Path) -> None:
    recipe = image(tmp_path, f"image: {mine}")
    gone = replace(recipe, image="pushtrain-gone:1", only_here=(("pushtrain-gone:1", OTHER),))
    with pytest.raises(EnvironmentFailed, match=r"pushtrain-gone:1 was .*; there is none here"):
        prepare(gone, tmp_path)
