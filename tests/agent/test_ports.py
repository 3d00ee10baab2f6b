"""A port that another program has -> what the machine lacks, with whose it is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from runner.agent import inventory, needs, ports
from runner.slurm.conf import Ports


@pytest.fixture(autouse=True)
def own_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))


def test_a_port_that_is_taken_is_missing_and_who_has_it_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        places = ports.wanted(
            Ports(slurmd=port), role="member", works=True, serves_registry=False, address="127.0.0.1"
        )
        found = ports.taken({"slurmd": places["slurmd"]})
    assert [(each.port, each.daemon) for each in found] == [(port, "slurmd")]
    assert f"(process {os.getpid()})" in found[0].by
    assert ports.taken({"slurmd": places["slurmd"]}) == ()
    lacks = needs.missing(inventory.look(tmp_path), role="client", taken=found)
    assert f"TCP port {port} for slurmd: {found[0].by} listens on it" in needs.listed(lacks)


def test_a_slurm_that_is_there_is_told_from_other_programs() -> None:
    found = (ports.Taken(port=6818, daemon="slurmd", by="slurmd (process 7)"),)
    (lack,) = needs._ports(found)
    assert "systemctl disable --now slurmd; a Slurm cluster that is there needs no agent" in lack.cure
    (lack,) = needs._ports((ports.Taken(port=6820, daemon="agent"),))
    assert "ss -ltnp sport = :6820" in lack.cure


def test_each_role_listens_where_it_has_to() -> None:
    wants = {
        role: set(ports.wanted(Ports(), role=role, works=works, serves_registry=serves, address="10.0.0.1"))
        for role, works, serves in (("head", True, True), ("member", True, False), ("client", False, False))
    }
    assert wants == {
        "head": {"slurmctld", "slurmd", "docker-registry", "agent"},
        "member": {"slurmd", "agent"},
        "client": set(),
    }
