from __future__ import annotations

import pytest

from runner.slurm.left_out import others_do
from runner.slurm.nodes import Node
from runner.slurm.queue import Job

JOB = Job(
    id="1", name="run", state="PENDING", reason="", priority=1, partition="", user="", nodes=2, hosts="",
    gpus_per_node=2, submitted_at_s=0.0, starts_at_s=None, restarts=1, comment="", features="pool_lab",
)  # fmt: skip


def host(name: str, *, state: str = "IDLE", gpus: int = 2, pool: str = "lab") -> Node:
    states = frozenset(state.split("+"))
    return Node(
        name=name, address=name, states=states, reason="", cpus=8, memory_bytes=1, gpus={"v100": gpus},
        gpus_used=0, cpus_used=0, features=("pushtrain", f"pool_{pool}"), version="", comment="",
    )  # fmt: skip


def test_a_host_is_left_out_where_enough_others_could_be_the_jobs() -> None:
    for state in ("ALLOCATED", "IDLE+POWERED_DOWN", "MIXED+POWERING_UP+NOT_RESPONDING"):
        assert others_do(JOB, [host("h0"), host("h1"), host("h2", state=state)], without={"h1"})


@pytest.mark.parametrize(
    "third",
    [
        host("h2", state="DOWN"),
        host("h2", state="DOWN+POWERED_DOWN"),
        host("h2", state="IDLE+NOT_RESPONDING"),
        host("h2", gpus=1),
        host("h2", pool="other"),
    ],
)
def test_a_host_is_not_left_out_where_the_job_would_wait_for_ever_then(third: Node) -> None:
    assert not others_do(JOB, [host("h0"), host("h1"), third], without={"h1"})
