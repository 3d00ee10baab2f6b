"""A machine that has Slurm's commands and no Docker submits to a fleet, and what only one machine has is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engines.project import PUSHTRAIN
from tests.slurm.project import FleetProject

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

NO_DOCKER = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def test_its_plan_is_the_same_and_its_run_goes_through(fleet: FleetProject) -> None:
    fleet.write("print('trained on', os.environ['PUSHTRAIN_NODE_RANK'])", resources={"nodes": 2})
    with_docker = json.loads(fleet.pushtrain("plan", "--json").output)
    fleet.environ = {**fleet.environ, **NO_DOCKER}
    without = json.loads(fleet.pushtrain("plan", "--json").output)
    assert (without["hash"], without["environment_present"]) == (with_docker["hash"], True)

    finished = fleet.pushtrain("run", within_s=120)

    assert finished.code == 0, finished.output + fleet.told()
    assert "trained on 0" in fleet.log(fleet.run.id)


def test_an_image_that_only_a_host_has_is_told_with_what_to_do(fleet: FleetProject) -> None:
    assert fleet.lab is not None
    registry = fleet.lab.registry.address
    fleet.environment = {"image": f"{registry}/only-here:1"}
    fleet.environ = {**fleet.environ, **NO_DOCKER}
    fleet.write("pass")
    finished = fleet.pushtrain("run")
    assert finished.code == 68
    assert f"docker push {registry}/NAME" in finished.output
    assert fleet.jobs() == []


@pytest.mark.parametrize("environment", [{"image": "pushtrain-mine:1"}, {"base": "pushtrain-mine:1"}])
def test_an_image_that_was_never_pushed_is_refused_where_other_hosts_may_have_the_run(
    fleet: FleetProject, environment: dict[str, str]
) -> None:
    assert fleet.lab is not None
    fleet.host("h0").docker("tag", fleet.lab.base_image(), "pushtrain-mine:1")
    fleet.environment = environment
    fleet.write("pass")
    finished = fleet.pushtrain("run")
    assert finished.code == 68, finished.output
    assert "only in this machine's Docker, and h1, h2 may have the run" in finished.output
    assert f"docker push {fleet.lab.registry.address}/pushtrain-mine:1" in finished.output
    assert fleet.jobs() == []


def test_a_store_that_only_this_machine_has_is_refused_at_once(fleet: FleetProject, tmp_path: Path) -> None:
    fleet.write("pass")
    environ = {**fleet.environ, "PUSHTRAIN_HOME": str(tmp_path / "home")}
    argv = (str(PUSHTRAIN), "run", "--engine", "slurm")
    done = fleet.host("h0").run(*argv, folder=fleet.folder, environ=environ, check=False)
    assert done.returncode == 64
    assert "needs a store that all hosts reach" in done.stderr
    assert "PUSHTRAIN_STORE=s3://" in done.stderr
    assert fleet.jobs() == []
