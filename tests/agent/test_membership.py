"""What the head knew of a host is forgotten before its slurmd says something else."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner.agent import membership
from runner.errors import Refused
from runner.slurm import conf
from tests.agent.test_skew import MEMBER

GIB = 2**30
SCONTROL = f"""\
#!{sys.executable}
import pathlib, sys
node, argv = pathlib.Path(__file__).with_name("node"), sys.argv[1:]
if argv[:2] == ["show", "hostnames"]:
    sys.exit(print(argv[2]))
if not node.exists():
    sys.exit("Unable to contact slurm controller (connect failure)")
if argv[:2] == ["show", "node"]:
    sys.exit(print(node.read_text()) if node.read_text() else "Node gpu1 not found")
elif argv == ["delete", "nodename=gpu1"] and "State=MIXED" not in node.read_text():
    node.write_text("")
else:
    sys.exit("slurm_delete_node error: Node state is invalid")
"""


def host(*, address: str = "10.0.0.7", memory_bytes: int = 64 * GIB, gres: str = "gpu:v100:2") -> str:
    return conf.host_conf(address=address, cpus=8, memory_bytes=memory_bytes, gres=gres, features=())


ABOUT = replace(MEMBER, address="10.0.0.7", host_conf=host())


class Head:
    """What answers as slurmctld would."""

    def __init__(self, folder: Path) -> None:
        self._node = folder / "node"

    def knows(self, host_conf: str, *, state: str = "IDLE") -> None:
        words = host_conf.replace("CPUs=", "CPUTot=").replace("Feature=", "ActiveFeatures=")
        self._node.write_text(f"NodeName=gpu1 {words} AvailableFeatures=pushtrain State={state}")

    def knows_none(self) -> None:
        self._node.write_text("")

    @property
    def forgot(self) -> bool:
        return self._node.read_text() == ""


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "scontrol").write_text(SCONTROL)
    (commands / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    (tmp_path / "slurm.conf").write_text("")
    return Head(commands)


def test_a_host_that_is_as_it_was_stays_known(head: Head) -> None:
    head.knows(host())
    assert membership.clear(ABOUT) == "kept"
    assert not head.forgot
    head.knows_none()
    assert membership.clear(ABOUT) == "kept"


@pytest.mark.parametrize(
    "before",
    [
        host(gres="gpu:v100:4"),
        host(memory_bytes=65 * GIB),
        host(memory_bytes=32 * GIB),
        host(memory_bytes=64 * GIB + 2**20),
    ],
)
def test_a_host_that_has_other_things_is_forgotten(head: Head, before: str) -> None:
    head.knows(before)
    assert membership.clear(ABOUT) == "changed"
    assert head.forgot


def test_a_host_that_was_refused_for_what_it_had_before_is_forgotten(head: Head) -> None:
    head.knows(host(), state="INVAL")
    assert membership.clear(ABOUT) == "changed"
    assert head.forgot


def test_a_kernel_that_leaves_some_mib_more_is_no_other_host(head: Head) -> None:
    head.knows(host(memory_bytes=64 * GIB - 8 * 2**20), state="IDLE+DRAIN")
    assert membership.clear(ABOUT) == "kept"
    assert not head.forgot


def test_a_host_of_another_address_is_forgotten_as_soon_as_it_does_not_answer_there(head: Head) -> None:
    head.knows(host(address="10.0.0.99"))
    with pytest.raises(Refused, match=r"already, at 10\.0\.0\.99"):
        membership.clear(ABOUT)
    head.knows(host(address="10.0.0.99"), state="DOWN*")
    assert membership.clear(ABOUT) == "changed"


def test_a_head_that_does_not_answer_is_asked_again_later(head: Head) -> None:
    assert membership.clear(ABOUT) == "later"


def test_what_a_job_holds_stays_until_the_next_start_but_at_another_address(head: Head) -> None:
    head.knows(host(gres="gpu:v100:4"), state="MIXED")
    assert membership.clear(ABOUT) == "kept"
    head.knows(host(address="10.0.0.99"), state="State=MIXED+DRAIN")
    assert membership.clear(ABOUT) == "later"
