"""Real images on a real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.environment import Image, Recipe, base_digest, prepare_image, present
from runner.errors import EngineError, EnvironmentFailed
from tests.environment.specs import image
from tests.fixtures.docker import cache_folder
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

SECRET = "correct-horse-battery"


def prepare(
    recipe: Recipe,
    folder: Path,
    lines: list[str] | None = None,
    *,
    registry: str | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Image:
    log = (lines if lines is not None else []).append
    return prepare_image(
        recipe,
        folder=folder,
        registry=registry,
        secrets=secrets or {},
        wheel_cache=cache_folder() / "wheels",
        log=log,
    )


def here(engine: DockerEngine) -> tuple[set[str], set[str]]:
    return set(engine.docker("image", "ls", "-aq").split()), set(engine.docker("ps", "-aq").split())


def failure(
    engine: DockerEngine, folder: Path, environment: str, files: Mapping[str, str] | None = None
) -> EnvironmentFailed:
    recipe = image(folder, environment, files)
    before = here(engine)
    with pytest.raises(EnvironmentFailed) as caught:
        prepare(recipe, folder)
    assert here(engine) == before, "a failed build leaves no image and no container"
    return caught.value


def test_an_image_has_the_packages_of_pip_and_apt_and_a_python(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    recipe = image(tmp_path, f"base: {base_image}\napt: [make]\npip: [six==1.17.0]")
    lines: list[str] = []

    made = prepare(recipe, tmp_path, lines)

    run = ("run", "--rm", "--user", "1000:1000", made.reference)
    assert docker_engine.docker(*run, "python", "-c", "import six; print(six.__version__)") == "1.17.0"
    assert docker_engine.docker(*run, "make", "--version").startswith("GNU Make")
    assert made.reference == f"pushtrain/env:{recipe.key}"
    assert any("six==1.17.0" in line for line in lines)
    assert docker_engine.docker("image", "ls", "-q", "--filter", f"label=pushtrain.environment={recipe.key}")


def test_preparing_again_is_quick_and_builds_nothing(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    recipe = image(tmp_path, f"base: {base_image}\npip: [six==1.17.0]")
    made = prepare(recipe, tmp_path)
    lines: list[str] = []
    started_s = time.perf_counter()

    assert present(recipe, root=tmp_path, registry=None)
    again = prepare(recipe, tmp_path, lines)

    assert (again, lines) == (made, [])
    assert time.perf_counter() - started_s < 1


def test_a_python_in_usr_local_is_taken_as_well_as_debians(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    moved = derived(
        docker_engine,
        base_image,
        "RUN cp -r /usr/lib/python3.11 /usr/local/lib/ && cp /usr/bin/python3.11 /usr/local/bin/python3 \\\n"
        "    && rm /usr/bin/python3 /usr/bin/python3.11 /usr/lib/python3.11/EXTERNALLY-MANAGED",
    )

    made = prepare(image(tmp_path, f"base: {moved}\npip: [six==1.17.0]"), tmp_path)

    said = docker_engine.docker(
        "run", "--rm", made.reference, "python", "-c", "import six, sys; print(sys.executable)"
    )
    assert said.startswith("/usr/local/bin/python")


def test_a_base_without_python_is_told_what_to_add(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    bare = derived(docker_engine, base_image, "RUN rm -f /usr/bin/python3*")

    error = failure(docker_engine, tmp_path, f"base: {bare}\npip: [six]")

    assert "has no Python" in str(error)
    assert "python3" in error.tip


def test_a_misspelt_python_package_is_named_with_its_line(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    files = {"r.txt": "six\nnosuchpackage-of-pushtrain==1\n"}

    error = failure(docker_engine, tmp_path, f"base: {base_image}\npip: r.txt", files)

    assert str(error).startswith("r.txt:2: nosuchpackage-of-pushtrain==1 cannot be installed\n")
    assert "was not found in the package registry" in str(error)
    assert len(str(error).splitlines()) <= 4


def test_a_misspelt_debian_package_is_named_with_its_line(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    error = failure(docker_engine, tmp_path, f"base: {base_image}\napt:\n  - make\n  - nosuch-of-pushtrain")

    assert str(error).splitlines()[0] == "train.yml:7: nosuch-of-pushtrain cannot be installed"
    assert len(str(error).splitlines()) <= 4


def test_a_version_that_debian_does_not_have_is_named_with_its_line(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    error = failure(docker_engine, tmp_path, f"base: {base_image}\napt: [make=99.0]")

    assert str(error).splitlines()[0] == "train.yml:5: make=99.0 cannot be installed"


def test_a_base_that_does_not_exist_is_said_before_anything_is_built(
    docker_engine: DockerEngine, registry: str, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFailed, match="there is no image") as caught:
        image(tmp_path, f"base: {registry}/nothing:1")

    assert "docker pull" in caught.value.tip


def test_a_registry_that_does_not_answer_is_said_so(docker_engine: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="connection refused"):
        image(tmp_path, "base: 127.0.0.1:9/nothing:1")


def test_a_secret_serves_the_build_and_stays_nowhere(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    text = (
        f"FROM {base_image}\n"
        "RUN --mount=type=secret,id=TOKEN,required cat /run/secrets/TOKEN && wc -c </run/secrets/TOKEN >/size\n"
    )
    recipe = image(tmp_path, "dockerfile: Dockerfile\nbuild_secrets: [TOKEN]", {"Dockerfile": text})
    lines: list[str] = []

    made = prepare(recipe, tmp_path, lines, secrets={"TOKEN": SECRET})

    assert docker_engine.docker("run", "--rm", made.reference, "cat", "/size") == str(len(SECRET))
    assert "***" in "\n".join(lines)
    assert SECRET not in "\n".join(lines)
    assert_nowhere(docker_engine, made, tmp_path)


def test_a_secret_fills_the_url_of_an_index_and_stays_nowhere(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    index = "--extra-index-url https://user:${TOKEN}@nowhere.invalid/simple"
    environment = f"base: {base_image}\nbuild_secrets: [TOKEN]\npip: r.txt"
    recipe = image(tmp_path, environment, {"r.txt": f"{index}\nsix\n"})
    lines: list[str] = []

    with pytest.raises(EnvironmentFailed) as caught:
        prepare(recipe, tmp_path, lines, secrets={"TOKEN": SECRET})

    assert "nowhere.invalid" in str(caught.value)
    assert SECRET not in str(caught.value) + "\n".join(lines)


def test_a_secret_without_a_value_is_asked_for(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    recipe = image(tmp_path, f"base: {base_image}\nbuild_secrets: [TOKEN]")

    with pytest.raises(EnvironmentFailed, match="without a value: TOKEN") as caught:
        prepare(recipe, tmp_path)

    assert caught.value.tip.startswith("export TOKEN=")


def test_an_own_dockerfile_copies_what_git_tracks(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    files = {
        "docker/Dockerfile": f"FROM {base_image}\nWORKDIR /app\nCOPY . .\n",
        "train.py": "print('here')\n",
        "data/huge.bin": "x",
        "notes.md": "x",
        ".gitignore": "data/\n",
        ".dockerignore": "*.md\n",
    }

    made = prepare(image(tmp_path, "dockerfile: docker/Dockerfile", files), tmp_path)

    found = docker_engine.docker("run", "--rm", made.reference, "find", ".", "-type", "f").split()
    assert sorted(found) == [
        "./.dockerignore",
        "./.gitignore",
        "./docker/Dockerfile",
        "./train.py",
        "./train.yml",
    ]


def test_a_step_of_an_own_dockerfile_that_fails_is_shown_with_its_last_words(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    text = f"FROM {base_image}\nRUN echo working && echo out of luck >&2 && exit 3\n"

    error = failure(docker_engine, tmp_path, "dockerfile: Dockerfile", {"Dockerfile": text})

    lines = str(error).splitlines()
    assert lines[0].startswith("Dockerfile failed: RUN echo working")
    assert "  out of luck" in lines  # BuildKit reads stdout and stderr apart, in either order


def test_a_dockerfile_that_docker_cannot_read_is_named(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    error = failure(
        docker_engine, tmp_path, "dockerfile: Dockerfile", {"Dockerfile": f"FROM {base_image}\nRUNN x\n"}
    )

    assert str(error).startswith("Dockerfile failed")
    assert "RUNN" in str(error)


def test_a_built_image_is_pushed_and_another_machine_gets_it_from_there(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    # Other tests of this session have made the other version's.
    recipe = image(tmp_path, f"base: {base_image}\npip: [iniconfig==1.1.1]")
    assert not present(recipe, root=tmp_path, registry=registry)
    made = prepare(recipe, tmp_path, registry=registry)
    docker_engine.docker("image", "rm", "-f", made.reference, f"pushtrain/env:{recipe.key}")
    lines: list[str] = []

    assert present(recipe, root=tmp_path, registry=registry)
    again = prepare(recipe, tmp_path, lines, registry=registry)

    assert again == made
    assert made.reference == f"{registry}/pushtrain-env:{recipe.key}"
    assert made.pinned == f"{registry}/pushtrain-env@{made.digest}"
    assert any("Pull complete" in line or "Downloaded newer image" in line for line in lines)
    assert not any("uv pip install" in line for line in lines)


def test_an_image_that_was_built_before_there_was_a_registry_is_pushed_not_built(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    recipe = image(tmp_path, f"base: {base_image}\npip: [iniconfig==2.0.0]")
    prepare(recipe, tmp_path)
    lines: list[str] = []

    made = prepare(recipe, tmp_path, lines, registry=registry)

    assert made.digest.startswith("sha256:")
    assert made.digest == base_digest(made.reference)
    assert not any("uv pip install" in line for line in lines)


def test_a_ready_image_is_pulled_at_the_digest_that_was_planned(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/team/train:1"
    published(docker_engine, base_image, name)
    recipe = image(tmp_path, f"image: {name}")
    later = derived(docker_engine, base_image, "RUN touch /later")
    published(docker_engine, later, name)

    made = prepare(recipe, tmp_path)

    assert made.reference == f"{registry}/team/train@{recipe.base_digest}"
    run = ("run", "--rm", made.reference, "sh", "-c")
    assert docker_engine.docker(*run, "[ -e /later ] || echo as planned") == "as planned"


def test_a_base_of_a_registry_has_one_digest_whether_it_is_here_or_not(
    docker_engine: DockerEngine, base_image: str, registry: str
) -> None:
    name = f"{registry}/base:1"
    published(docker_engine, base_image, name)
    there = base_digest(name)
    docker_engine.docker("pull", name)

    assert base_digest(name) == there


def test_a_base_of_a_registry_is_built_on_without_pulling_it_first(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/base:2"
    published(docker_engine, base_image, name)

    made = prepare(image(tmp_path, f"base: {name}\npip: [six]"), tmp_path)

    assert docker_engine.docker("run", "--rm", made.reference, "python", "-c", "import six; print(1)") == "1"


def test_conda_makes_an_environment_that_is_first_on_path(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    """With a stand-in for micromamba: the channels of conda cannot be reached from everywhere."""
    stand_in = (
        "RUN printf '%s\\n' '#!/bin/sh' 'set -e' 'test \"$1\" = create' 'mkdir -p /opt/conda/bin' "
        "'cp /usr/bin/python3 /opt/conda/bin/python' 'cat /run/pushtrain/environment.yml >/opt/conda/made-from' "
        ">/bin/micromamba && chmod +x /bin/micromamba"
    )
    micromamba = derived(docker_engine, base_image, stand_in)
    docker_engine.docker("tag", micromamba, "mambaorg/micromamba:2.3.0")

    made = prepare(image(tmp_path, f"base: {base_image}\nconda: [numpy]"), tmp_path)

    said = docker_engine.docker(
        "run", "--rm", made.reference, "sh", "-c", "command -v python; cat /opt/conda/made-from"
    )
    assert said.startswith("/opt/conda/bin/python\nchannels:")


def test_a_daemon_that_does_not_answer_is_said_so(
    docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")

    with pytest.raises(EngineError, match="Docker does not answer") as caught:
        image(tmp_path, "base: debian:12")

    assert "systemctl start docker" in caught.value.tip


def derived(engine: DockerEngine, base: str, step: str) -> str:
    """An image of one step upon `base`; its reference."""
    name = f"derived:{abs(hash(step)):x}"
    builder = "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else "docker"
    subprocess.run(
        [builder, "build", "-q", "-t", name, "-"],
        env={**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_HOST": engine.host},
        input=f"FROM {base}\n{step}\n",
        text=True,
        check=True,
        capture_output=True,
    )
    return name


def published(engine: DockerEngine, source: str, name: str) -> None:
    """Pushes `source` as `name` and forgets that name here."""
    engine.docker("tag", source, name)
    engine.docker("push", name)
    engine.docker("image", "rm", name)


def assert_nowhere(engine: DockerEngine, made: Image, folder: Path) -> None:
    """The secret is neither in the history, nor in the configuration, nor in any file of any layer."""
    assert SECRET not in engine.docker("history", "--no-trunc", made.reference)
    assert SECRET not in json.dumps(json.loads(engine.docker("image", "inspect", made.reference)))
    archive = folder / "image.tar"
    engine.docker("save", "-o", str(archive), made.reference)
    assert SECRET.encode() not in archive.read_bytes()
    with tarfile.open(archive) as layers:
        assert len(layers.getnames()) > 3
