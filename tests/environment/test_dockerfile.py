"""Generated Dockerfiles against those in `dockerfiles/`. PUSHTRAIN_WRITE_GOLDEN=1 writes them anew, to be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.environment.dockerfile import bases
from tests.environment.specs import planned_image

GOLDEN = Path(__file__).with_name("dockerfiles")
CASES = {
    "bare": "base: python:3.11-slim",
    "apt": "base: debian:12\napt: [libgl1, git=1:2.39.5-0+deb12u2]",
    "pip": "pip: [six==1.17.0]",
    "constraints": "pip: [-c limits.txt, six]",
    "secrets": "pip: [six]\nbuild_secrets: [PIP_TOKEN, OTHER]",
    "legacy-keras": "pip: [tensorflow-cpu==2.18.1]\nlegacy_keras: true",
    "horovod": "pip: [tensorflow-cpu==2.15.1, horovod==0.28.1, -c limits.txt]",
    "conda": "conda: environment.yml",
    "everything": "base: ubuntu:24.04\napt: [git]\nconda: [numpy]\npip: [six]\nbuild_secrets: [TOKEN]",
}


@pytest.mark.parametrize("name", CASES)
def test_the_generated_dockerfile_is_the_one_that_was_read_by_a_person(tmp_path: Path, name: str) -> None:
    files = {"limits.txt": "six<2\n", "environment.yml": "dependencies: [numpy]\n"}
    golden = GOLDEN / f"{name}.Dockerfile"
    generated = planned_image(tmp_path, CASES[name], files).dockerfile
    assert generated is not None
    if os.environ.get("PUSHTRAIN_WRITE_GOLDEN"):
        golden.write_text(generated)

    assert generated == golden.read_text()


def test_horovods_wheel_comes_out_of_a_build_of_its_own(tmp_path: Path) -> None:
    recipe = planned_image(
        tmp_path,
        "base: debian:12\napt: [git, python3]\npip: [tensorflow-cpu==2.15.1, horovod]\nbuild_secrets: [TOKEN]",
    )
    golden = GOLDEN / "horovod-wheel.Dockerfile"
    assert recipe.wheel_dockerfile is not None
    if os.environ.get("PUSHTRAIN_WRITE_GOLDEN"):
        golden.write_text(recipe.wheel_dockerfile)

    assert recipe.wheel_dockerfile == golden.read_text()


@pytest.mark.parametrize("name", CASES)
def test_a_generated_dockerfile_is_plain_enough_for_docker_20(tmp_path: Path, name: str) -> None:
    files = {"limits.txt": "", "environment.yml": ""}
    text = planned_image(tmp_path, CASES[name], files).dockerfile or ""

    assert "# syntax" not in text
    assert "<<" not in text


def test_a_list_of_conda_packages_becomes_an_environment_file(tmp_path: Path) -> None:
    recipe = planned_image(tmp_path, "conda: [numpy, 'python=3.11']")

    assert recipe.conda == 'channels:\n  - conda-forge\ndependencies:\n  - "numpy"\n  - "python=3.11"\n'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM python:3.11\n", ("python:3.11",)),
        ("# syntax=x\nfrom --platform=linux/amd64 python:3.11 as a\nFROM a\n", ("python:3.11",)),
        ("ARG V=3.11\nFROM python:${V}-slim\n", ("python:3.11-slim",)),
        ("ARG V\nFROM python:$V\n", ()),
        ("ARG V\nFROM python:${V:-3.12}\n", ("python:3.12",)),
        ("FROM scratch\nCOPY x /\nFROM \\\n  debian:12\n", ("debian:12",)),
        ("FROM a:1 AS one\nFROM b:1\nCOPY --from=one /x /x\n", ("a:1", "b:1")),
    ],
)
def test_the_images_that_a_dockerfile_starts_from(text: str, found: tuple[str, ...]) -> None:
    assert bases(text) == found
