"""train.yml text in a folder -> the recipe that it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.environment import Base, DockerFacts, Recipe, bases, docker_facts, image_recipe, venv_recipe
from runner.spec import EnvironmentSpec, load

DIGEST = "sha256:" + "ab" * 32


def written(folder: Path, environment: str, files: Mapping[str, str] | None = None) -> EnvironmentSpec:
    """Writes a train.yml whose lines 4 and on are `environment`, and the files it names."""
    indented = "".join(f"  {line}\n" for line in environment.strip("\n").splitlines())
    files = {"train.yml": f"name: example\nrun: python train.py\nenvironment:\n{indented}", **(files or {})}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return load(folder / "train.yml").environment


def venv(folder: Path, environment: str, files: Mapping[str, str] | None = None) -> Recipe:
    return venv_recipe(written(folder, environment, files), folder, train_file="train.yml")


def planned_image(
    folder: Path,
    environment: str,
    files: Mapping[str, str] | None = None,
    *,
    digest: str = DIGEST,
    distribution: str = "none",
) -> Recipe:
    """As on a Docker where every base has `digest`: no daemon is asked."""
    spec = written(folder, environment, files)
    known = tuple(
        Base(reference=name, digest=digest, source=f"{name.partition(':')[0]}@{digest}")
        for name in bases(spec, folder, train_file="train.yml", distribution=distribution)
    )
    facts = DockerFacts(platform="linux/amd64", bases=known)
    return image_recipe(spec, folder, train_file="train.yml", docker=facts, distribution=distribution)


def image(
    folder: Path,
    environment: str,
    files: Mapping[str, str] | None = None,
    *,
    distribution: str = "none",
) -> Recipe:
    """As on the Docker of this test session."""
    spec = written(folder, environment, files)
    facts = docker_facts(bases(spec, folder, train_file="train.yml", distribution=distribution))
    return image_recipe(spec, folder, train_file="train.yml", docker=facts, distribution=distribution)
