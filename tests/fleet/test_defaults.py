"""A machine of a fleet knows the fleet's store and registry without being told."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.agent import login
from runner.commands.shop import workshop
from runner.slurm import submission


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    monkeypatch.setenv("PUSHTRAIN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PUSHTRAIN_STORE", raising=False)
    monkeypatch.delenv("PUSHTRAIN_ENGINE", raising=False)
    for name in ("PUSHTRAIN_REGISTRY", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, "")  # So that what the command sets is taken back after the test.
    return tmp_path


def test_the_heads_store_and_registry_are_taken(run_folder: Path) -> None:
    told = {"store": "s3://bucket/fleet", "registry": "gpu1:5000"}
    (run_folder / "agent.json").write_text(json.dumps(told))
    shop = workshop(argparse.Namespace())
    assert (shop.store_uri, shop.registry) == ("s3://bucket/fleet", "gpu1:5000")
    assert shop.store_named
    assert shop.engine_name == "local"


def test_what_a_person_says_goes_before(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_folder / "agent.json").write_text(json.dumps({"store": "s3://bucket/fleet", "registry": None}))
    monkeypatch.setenv("PUSHTRAIN_STORE", "/srv/mine")
    shop = workshop(argparse.Namespace())
    assert (shop.store_uri, shop.registry) == ("/srv/mine", None)


def test_without_an_agent_it_is_a_folder_of_this_machine(run_folder: Path) -> None:
    shop = workshop(argparse.Namespace())
    assert shop.store_uri == str(run_folder / "home" / "store")
    assert not shop.store_named


def test_a_fleet_that_was_told_of_no_store_has_none(run_folder: Path) -> None:
    (run_folder / "agent.json").write_text(json.dumps({"store": None, "registry": None}))
    assert not workshop(argparse.Namespace()).store_named
    assert workshop(argparse.Namespace(store="/srv/mine")).store_named


def test_supervisors_have_the_fleets_registry_and_its_password_from_whoever_starts_them(
    run_folder: Path,
) -> None:
    (run_folder / "agent.json").write_text(json.dumps({"store": None, "registry": "gpu1:5000"}))
    login.write(run_folder, registry="gpu1:5000", key=b"k" * 128)
    workshop(argparse.Namespace())
    assert os.environ["PUSHTRAIN_REGISTRY"] == "gpu1:5000"
    assert os.environ["DOCKER_CONFIG"] == str(run_folder / "docker")


def test_a_configuration_of_docker_that_a_person_names_goes_before(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login.write(run_folder, registry="gpu1:5000", key=b"k" * 128)
    monkeypatch.setenv("DOCKER_CONFIG", "/srv/mine")
    workshop(argparse.Namespace())
    assert os.environ["DOCKER_CONFIG"] == "/srv/mine"


@pytest.mark.parametrize(("mine", "found"), [(None, "docker"), ("/srv/mine", "/srv/mine")])
def test_what_a_run_starts_on_a_host_finds_the_hosts_own_login(
    run_folder: Path, mine: str | None, found: str
) -> None:
    login.write(run_folder, registry="gpu1:5000", key=b"k" * 128)
    told = "import os; print(os.environ.get('DOCKER_CONFIG'))"
    argv = ["sh", "-c", submission.on_host(), "on-host", sys.executable, "", str(run_folder), "-c", told]
    environ = {"DOCKER_CONFIG": mine} if mine else {}
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=environ).stdout
    assert said.strip() == str(run_folder / found)
    (run_folder / "docker" / "config.json").unlink()
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=environ).stdout
    assert said.strip() == str(mine)
