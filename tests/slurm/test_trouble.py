"""What is said where Slurm's commands fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import EngineError
from runner.slurm import Slurm, trouble

CONF = "ClusterName=yard\nSlurmctldHost=h0(10.0.0.1)\nSlurmctldPort=6817\n"
NO_MUNGE = "scontrol: error: Munge encode failed: Failed to access /run/pushtrain/munge.socket"
SILENT = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A slurm.conf that an agent wrote."""
    (tmp_path / "agent.json").write_text("{}")
    (tmp_path / "slurm.conf").write_text(CONF)
    return tmp_path / "slurm.conf"


def test_where_the_agent_was_stopped_it_is_said_what_starts_it(conf: Path) -> None:
    (conf.parent / "agent.pid").write_text(f"{os.getpid()}\n")
    with pytest.raises(EngineError, match="the agent of this host does not run") as raised:
        Slurm(conf=conf).run("false")
    assert raised.value.tip == "sudo pushtrain agent start"
    (conf.parent / "munge.socket").touch()
    assert trouble.stopped(conf) is None
    assert trouble.stopped(conf, NO_MUNGE) is not None


def test_an_agent_that_runs_or_is_not_there_is_not_blamed(conf: Path) -> None:
    argv = [sys.executable, "-c", "print(flush=True); import sys; sys.stdin.read()", "runner.agent"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        agent.stdout.readline()  # What it is called is known once it runs.
        (conf.parent / "agent.pid").write_text(f"{agent.pid}\n")
        assert trouble.stopped(conf, NO_MUNGE) is None
        agent.communicate()
    (conf.parent / "munge.socket").touch()
    assert trouble.stopped(conf, SILENT) is None
    assert trouble.stopped(None, NO_MUNGE) is None
    (conf.parent / "agent.json").unlink()
    assert trouble.stopped(conf, NO_MUNGE) is None


def test_a_head_that_is_silent_is_named_with_its_address_and_where_to_look(conf: Path) -> None:
    told = trouble.explained("scontrol", SILENT, conf=conf)
    assert str(told).startswith("the head h0 (10.0.0.1) does not answer; scontrol: slurm_load")
    assert "ping h0" in told.tip
    assert "there: sudo pushtrain agent status" in told.tip
    (conf.parent / "agent.json").unlink()
    assert "systemctl status slurmctld" in trouble.explained("scontrol", SILENT, conf=conf).tip
    assert "systemctl status slurmctld" in trouble.explained("scontrol", SILENT, conf=None).tip


def test_what_is_to_be_typed_finds_the_fleet_of_the_agent(conf: Path) -> None:
    assert f"SLURM_CONF={conf} sinfo -R" in trouble.explained("sbatch", "Invalid qos", conf=conf).tip
    assert "sudo" in trouble.explained("scontrol", "Access/permission denied", conf=conf).tip
    assert trouble.explained("sbatch", "Invalid qos", conf=None).tip == "sinfo -R"


@pytest.mark.parametrize(
    ("said", "is_none"),
    [("squeue: fatal: Could not establish a configuration source", True), (SILENT, False)],
)
def test_a_machine_of_no_cluster_is_told_from_a_head_that_is_silent(said: str, is_none: bool) -> None:
    assert trouble.no_cluster(trouble.explained("squeue", said, conf=None)) is is_none
