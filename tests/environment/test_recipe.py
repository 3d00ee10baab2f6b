from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path

import pytest

from runner.environment import Recipe
from runner.errors import EnvironmentFailed, PlanError
from tests.environment.specs import planned_image, venv


def test_a_recipe_survives_json(tmp_path: Path) -> None:
    from pydantic import TypeAdapter

    recipe = planned_image(tmp_path, "apt: [git]\npip: [six]")

    assert TypeAdapter(Recipe).validate_json(json.dumps(asdict(recipe))) == recipe


def test_the_key_of_a_venv_does_not_depend_on_comments_or_places(tmp_path: Path) -> None:
    listed = venv(tmp_path, "pip: [six, pip]")
    filed = venv(tmp_path, "pip: r.txt", {"r.txt": "# ours\nsix\n\npip\n"})

    assert listed.key == filed.key


@pytest.mark.parametrize("other", ["pip: [six==1]", "pip: [pip, six]", "pip: [six, pip]\nlegacy_keras: true"])
def test_the_key_of_a_venv_depends_on_what_is_installed(tmp_path: Path, other: str) -> None:
    assert venv(tmp_path, "pip: [six, pip]").key != venv(tmp_path, other).key


def test_the_python_of_a_venv_is_that_of_the_base_in_full(tmp_path: Path) -> None:
    major_minor = ".".join(platform.python_version_tuple()[:2])

    recipe = venv(tmp_path, f"base: python:{major_minor}-slim")

    assert recipe.python == platform.python_version()


@pytest.mark.parametrize("line", ["python: '3.99'", "base: python:3.99-slim"])
def test_a_python_that_is_not_installed_is_named_with_what_to_type(tmp_path: Path, line: str) -> None:
    with pytest.raises(EnvironmentFailed, match=r"Python 3\.99 is not installed") as caught:
        venv(tmp_path, line)

    assert caught.value.tip.startswith("uv python install 3.99")


@pytest.mark.parametrize("line", ["dockerfile: Dockerfile", "image: team/train:1", "conda: [numpy]"])
def test_what_needs_docker_is_refused_by_the_local_engine(tmp_path: Path, line: str) -> None:
    with pytest.raises(PlanError, match="needs the engine docker") as caught:
        venv(tmp_path, line)

    assert "--engine docker" in caught.value.tip
    assert "--engine slurm" in caught.value.tip


@pytest.mark.parametrize(
    "other",
    [
        "apt: [git]",
        "pip: [six]",
        "conda: [six]",
        "build_secrets: [A]",
        "legacy_keras: true",
        "pip: ['-cc.txt']",
    ],
)
def test_the_key_of_an_image_depends_on_all_that_goes_in(tmp_path: Path, other: str) -> None:
    files = {"c.txt": "six<2\n"}

    assert planned_image(tmp_path, "apt: []", files).key != planned_image(tmp_path, other, files).key


def test_the_key_of_an_image_follows_the_digest_of_its_base_not_its_name(tmp_path: Path) -> None:
    first = planned_image(tmp_path, "base: python:3.11")

    assert planned_image(tmp_path, "base: python:3").key == first.key
    assert planned_image(tmp_path, "base: python:3.11", digest="sha256:cd").key != first.key


def test_the_order_of_debian_packages_does_not_matter(tmp_path: Path) -> None:
    assert planned_image(tmp_path, "apt: [a1, b1]").key == planned_image(tmp_path, "apt: [b1, a1]").key


def test_the_base_of_a_python_version_is_its_official_image(tmp_path: Path) -> None:
    assert planned_image(tmp_path, "python: '3.12'").base == "python:3.12-slim"
    assert planned_image(tmp_path, "pip: [six]").base == "python:3.11-slim"


def test_a_ready_image_is_keyed_by_its_digest(tmp_path: Path) -> None:
    recipe = planned_image(tmp_path, "image: team/train:1")

    assert recipe.key == planned_image(tmp_path, "image: team/other:2").key
    assert recipe.key != planned_image(tmp_path, "image: team/train:1", digest="sha256:cd").key
    assert recipe.dockerfile is None


def test_an_own_dockerfile_is_keyed_by_all_it_may_copy_and_all_it_starts_from(tmp_path: Path) -> None:
    text = "FROM golang:1 AS build\nRUN make\nFROM python:3.11\nCOPY --from=build /x /x\n"
    files = {"Dockerfile": text, "a.txt": "1", "train.py": "1"}
    recipe = planned_image(tmp_path, "dockerfile: Dockerfile", files)

    assert (recipe.base, [name for name, _ in recipe.stages]) == ("python:3.11", ["golang:1"])
    assert [name for name, _ in recipe.context] == ["Dockerfile", "a.txt", "train.py", "train.yml"]
    changed = planned_image(tmp_path, "dockerfile: Dockerfile", {**files, "a.txt": "2"})
    assert changed.key != recipe.key


def test_legacy_keras_with_an_own_dockerfile_is_refused(tmp_path: Path) -> None:
    files = {"Dockerfile": "FROM python:3.11\n"}

    with pytest.raises(
        PlanError, match=r"train\.yml:5: legacy_keras is for packages that pushtrain installs"
    ):
        planned_image(tmp_path, "dockerfile: Dockerfile\nlegacy_keras: true", files)


def test_a_dockerfile_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"train\.yml:4: Dockerfile cannot be read"):
        planned_image(tmp_path, "dockerfile: Dockerfile")
