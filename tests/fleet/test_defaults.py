"""A machine of a fleet knows the fleet's store and registry without being told."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from runner.commands.shop import workshop


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    monkeypatch.setenv("PUSHTRAIN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PUSHTRAIN_STORE", raising=False)
    monkeypatch.delenv("PUSHTRAIN_ENGINE", raising=False)
    monkeypatch.delenv("PUSHTRAIN_REGISTRY", raising=False)
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
