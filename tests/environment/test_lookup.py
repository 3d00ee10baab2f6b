"""A plan that is made without Docker is the plan that is made with it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.environment import Lookup, Recipe, bases, image_recipe, lookup, prepare_image
from runner.environment.lookup import InRegistries, OnMachine
from runner.errors import EnvironmentFailed
from tests.environment.specs import planned_image, written
from tests.fakes.registry import DIGEST, Registry, serving
from tests.fixtures.docker import cache_folder
from tests.flow import made
from tests.services.dockerd import DockerEngine

NOWHERE = "unix:///nowhere/docker.sock"


def recipe_by(
    look_up: Lookup, folder: Path, environment: str, files: Mapping[str, str] | None = None
) -> Recipe:
    spec = written(folder, environment, files)
    facts = look_up.facts(bases(spec, folder, train_file="train.yml"))
    return image_recipe(spec, folder, train_file="train.yml", docker=facts)


def both(registry: str | None, folder: Path) -> tuple[OnMachine, InRegistries]:
    return OnMachine(registry=registry, home=folder), InRegistries(registry=registry)


@pytest.fixture
def published(docker_engine: DockerEngine, base_image: str, registry: str) -> str:
    """The base image, in the registry alone."""
    name = f"{registry}/team/base:1"
    docker_engine.docker("tag", base_image, name)
    docker_engine.docker("push", "--quiet", name)
    docker_engine.docker("image", "rm", "--no-prune", name)
    return name


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "environment",
    [
        "image: {name}",
        "base: {name}\npip: [six==1.17.0]\napt: [make]",
        "base: {name}\npip: [tensorflow==2.15.0, horovod==0.28.1]",
        "dockerfile: Dockerfile",
    ],
)
def test_without_docker_a_plan_has_the_hash_that_it_has_with_docker(
    docker_engine: DockerEngine, published: str, registry: str, tmp_path: Path, environment: str
) -> None:
    here, there = both(registry, tmp_path)
    text = environment.format(name=published)
    files = {"Dockerfile": f"FROM {published} AS first\nFROM {published}\n"}

    with_docker = recipe_by(here, tmp_path, text, files)
    without = recipe_by(there, tmp_path, text, files)
    docker_engine.docker("pull", "--quiet", published)
    with_the_image = recipe_by(here, tmp_path, text, files)
    docker_engine.docker("image", "rm", "--no-prune", published)

    assert without == with_docker == with_the_image
    plans = {made.plan(engine="slurm", recipe=each).hash for each in (without, with_docker)}
    assert len(plans) == 1


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_an_environment_is_there_once_it_is_in_the_registry(
    docker_engine: DockerEngine, published: str, registry: str, tmp_path: Path
) -> None:
    _, there = both(registry, tmp_path)
    recipe = recipe_by(there, tmp_path, f"base: {published}\npip: [iniconfig==2.0.0]")
    assert there.present(recipe) is False

    wheels, lines = cache_folder() / "wheels", list[str]()
    prepare_image(
        recipe, folder=tmp_path, registry=registry, secrets={}, wheel_cache=wheels, log=lines.append
    )

    assert there.present(recipe) is True


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_where_docker_answers_it_is_asked(docker_engine: DockerEngine, tmp_path: Path) -> None:
    assert isinstance(lookup(registry=None, home=tmp_path, elsewhere=True), OnMachine)


@pytest.mark.parametrize(("elsewhere", "kind"), [(True, InRegistries), (False, OnMachine)])
def test_only_what_trains_elsewhere_is_looked_up_without_docker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, kind: type[Lookup]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert isinstance(lookup(registry=None, home=tmp_path, elsewhere=elsewhere), kind)


def test_a_docker_that_does_not_answer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    assert isinstance(lookup(registry=None, home=tmp_path, elsewhere=True), InRegistries)


@pytest.mark.parametrize(
    ("told", "platform"),
    [
        ("", "linux/amd64"),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
    ],
)
def test_the_platform_is_the_fleets_unless_told(
    monkeypatch: pytest.MonkeyPatch, told: str, platform: str
) -> None:
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", told)
    assert InRegistries(registry=None).facts(()).platform == platform


def test_an_image_of_some_hosts_docker_is_to_be_pushed() -> None:
    with serving(Registry()) as registry, pytest.raises(EnvironmentFailed) as caught:
        InRegistries(registry="gpu1:5000").facts([f"{registry.address}/mine:1"])
    assert "cannot be named from a machine without Docker" in str(caught.value)
    assert "docker push gpu1:5000/NAME" in caught.value.tip


def test_without_a_registry_nobody_knows_whether_an_environment_is_there(tmp_path: Path) -> None:
    recipe = planned_image(tmp_path, "pip: [six]")
    assert InRegistries(registry=None).present(recipe) is None
    assert InRegistries(registry="127.0.0.1:9").present(recipe) is None


def test_an_image_that_was_named_is_there(tmp_path: Path) -> None:
    with serving(Registry()) as registry:
        look_up = InRegistries(registry=None)
        recipe = recipe_by(look_up, tmp_path, f"image: {registry.address}/team/train:1")
    assert recipe.base_digest == DIGEST
    assert look_up.present(recipe) is True


def test_no_image_is_made_of_a_forks_dockerfile_unless_the_registry_has_it(tmp_path: Path) -> None:
    with serving(Registry()) as registry:
        base = f"{registry.address}/team/train:1"
        look_up = InRegistries(registry=registry.address)
        files = {"Dockerfile": f"FROM {base}\nRUN true\n"}
        recipe = recipe_by(look_up, tmp_path, "dockerfile: Dockerfile", files)
        with pytest.raises(EnvironmentFailed, match="for a fork"):
            look_up.check_isolated(recipe)
        registry.images = {f"pushtrain-env:{recipe.key}": DIGEST}
        look_up.check_isolated(recipe)


def test_docker_itself_is_not_needed_for_any_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        subprocess.run(["docker"], check=False)
    with serving(Registry()) as registry:
        look_up = lookup(registry=None, home=tmp_path, elsewhere=True)
        assert look_up.facts([f"{registry.address}/team/train:1"]).bases[0].digest == DIGEST
