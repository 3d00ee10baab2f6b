"""Each example of several processes, on each engine: all ranks end with the same weights, not with those of one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from uv import find_uv_bin

from runner.environment.builder import find_builder
from tests.examples.newcomer import EXAMPLES, clone, pushtrain, shown
from tests.services.dockerd import DockerEngine

# An image with TensorFlow, or Horovod's wheel, is built within it where nothing is kept from an earlier session.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WEIGHTS = re.compile(r"weights ([0-9a-f]{12})")
BASES = ("python:3.11-slim", "python:3.11-slim-bookworm")
TORCH = "pushtrain-test/torch:2.13.0"
_PLACE = 'environment: {base: "python:3.11-slim", pip: requirements.txt}'


@dataclass(frozen=True, kw_only=True)
class Case:
    """An example and the number of its ranks that end with the weights."""

    example: str
    ranks: int
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join((self.example, *self.parameters))


CASES = (
    Case(example="mpi4py", ranks=4),
    Case(example="tf-mnist-horovod", ranks=4),
    Case(example="tf-mnist-horovod", ranks=4, parameters=("loop=custom",)),
    Case(example="tf-mnist-multiworker", ranks=2),
    Case(example="torch-ddp", ranks=4),
    Case(example="jax-data-parallel", ranks=2),
)
Engine = Literal["local", "docker"]


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "local":
        return "local"
    docker: DockerEngine = request.getfixturevalue("docker_engine")
    for name in BASES:
        docker.docker("tag", request.getfixturevalue("base_image"), name)
    return "docker"


@pytest.fixture
def torch_image(docker_engine: DockerEngine, base_image: str, tmp_path: Path) -> str:
    """An image with PyTorch for CPUs: its wheel comes from the folder that PIP_FIND_LINKS names, if any does."""
    context = tmp_path / "torch"
    (context / "wheels").mkdir(parents=True)
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        for wheel in Path(folder).glob("torch-2.13.0*.whl"):
            shutil.copy2(wheel, context / "wheels")
    shutil.copy2(EXAMPLES / "torch-ddp" / "requirements.txt", context)
    shutil.copy2(find_uv_bin(), context / "uv")
    (context / "Dockerfile").write_text(
        f"FROM {base_image}\n"
        "RUN --mount=type=bind,target=/context --mount=type=cache,id=pushtrain-uv,target=/root/.cache/uv \\\n"
        "    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 \\\n"
        "    && ln -s /usr/bin/python3 /usr/local/bin/python && /context/uv pip install --system \\\n"
        "    --break-system-packages --find-links /context/wheels -r /context/requirements.txt\n",
        encoding="utf-8",
    )
    builder = find_builder(os.environ)
    built = subprocess.run(
        [*builder.command, "-t", TORCH, context],
        env={**os.environ, **dict(builder.env)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return TORCH


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_ranks_end_with_the_weights_that_all_made(
    case: Case, engine: Engine, tmp_path: Path, home: Path, request: pytest.FixtureRequest
) -> None:
    ready = engine == "docker" and case.example == "torch-ddp"
    image = request.getfixturevalue("torch_image") if ready else ""
    repository = clone(
        case.example, tmp_path, replaced={_PLACE: f'environment: {{image: "{image}"}}'} if ready else None
    )

    printed = pushtrain(
        home,
        "run",
        repository,
        "--engine",
        engine,
        *(word for each in case.parameters for word in ("-p", each)),
    )

    _succeeded(home)
    ends = [_lines(home, rank, f"rank {rank}: weights") for rank in range(case.ranks)]
    assert [len(lines) for lines in ends] == [1] * case.ranks
    (shared,) = {WEIGHTS.search(lines[0])[1] for lines in ends}  # type: ignore[index]  # The line has them.
    assert _lines(home, 0, f"all {case.ranks} ranks agree: weights {shared}")
    (alone,) = _lines(home, 0, "rank 0 alone would have:")
    assert shared not in alone
    assert "gradients are not shared" not in printed


def test_the_workers_of_a_parameter_server_train_one_set_of_weights(
    engine: Engine, tmp_path: Path, home: Path
) -> None:
    repository = clone("tf-mnist-parameter-server", tmp_path)

    pushtrain(home, "run", repository, "--engine", engine)

    _succeeded(home)
    workers = [_lines(home, 0, f"worker {worker}:")[0] for worker in range(2)]
    steps = [int(line.split()[2]) for line in workers]
    assert min(steps) > 0
    assert sum(steps) == 500
    (trained,) = _lines(home, 0, "all 2 workers trained one:")
    made = [WEIGHTS.search(line) for line in (trained, *workers)]
    assert len({found[1] for found in made if found}) == 3


def _succeeded(home: Path) -> None:
    """The last run did: the metric was recorded, the loss fell, and rank 0 left a model."""
    run = shown(home)
    name, accuracy = run["metric"]
    assert (run["state"], name) == ("succeeded", "accuracy")
    assert accuracy >= 0.9
    assert run["release"].endswith("@1.0.0")


def _lines(home: Path, rank: int, start: str) -> list[str]:
    """The lines of one rank's log that begin so."""
    return [
        line
        for line in pushtrain(home, "logs", "last", "--rank", str(rank)).splitlines()
        if line.removeprefix(f"[rank {rank}] ").startswith(start)
    ]
