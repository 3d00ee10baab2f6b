"""Horovod really built, once for each machine: the wheels are kept in the cache of the tests, as are the venvs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runner.environment import (
    Demand,
    check_image,
    check_venv,
    prepare_image,
    prepare_venv,
    wheels,
    wheels_folder,
)
from tests.environment.specs import image, venv
from tests.fixtures.docker import cache_folder
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PACKAGES = "pip: [tensorflow-cpu==2.15.1, 'horovod[tensorflow]==0.28.1']"
SUM = (
    "import tensorflow as tf, horovod.tensorflow as h; h.init();"
    "print('sum', int(h.allreduce(tf.constant([h.rank() + 1.0]), op=h.Sum)[0]))"
)
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", "-mca",
          "btl_vader_single_copy_mechanism", "none")  # fmt: skip


def test_a_venv_gets_a_horovod_that_was_built_for_its_tensorflow_once(tmp_path: Path) -> None:
    recipe = venv(tmp_path, PACKAGES)
    lines: list[str] = []
    envs = cache_folder() / "envs"

    made = prepare_venv(recipe, root=envs, log=lines.append)

    check_venv(recipe, made, Demand(distribution="mpi", env={}), log=lines.append)
    done = subprocess.run(
        [*MPIRUN, made.python, "-c", SUM], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stdout.split().count("sum") == 2, done.stderr
    assert done.stdout.split().count("3") == 2
    assert recipe.horovod is not None
    assert list((wheels_folder(envs) / recipe.horovod.wheel).glob("horovod-0.28.1-*.whl"))
    again: list[str] = []
    assert wheels.for_venv(recipe, root=wheels_folder(envs), log=again.append) is not None
    assert again == [], "it is built once"


@pytest.mark.docker
def test_an_image_gets_a_horovod_that_was_built_on_its_base_once(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    recipe = image(tmp_path, f"base: {base_image}\n{PACKAGES}", distribution="mpi")

    nameless = ("image", "ls", "-q", "--filter", "dangling=true")
    before = set(docker_engine.docker(*nameless).split())
    made = prepare_image(
        recipe,
        folder=tmp_path,
        registry=None,
        secrets={},
        wheel_cache=wheels_folder(cache_folder() / "envs"),
        log=lines.append,
    )

    demand = Demand(distribution="mpi", env={})
    check_image(recipe, made, demand, probes=tmp_path / "probes", log=lines.append)
    said = docker_engine.docker("run", "--rm", made.reference, *MPIRUN, "python", "-c", SUM)
    assert said.split().count("3") == 2
    assert set(docker_engine.docker(*nameless).split()) == before, "the build of the wheel left an image"
