from __future__ import annotations

from dataclasses import replace

import pytest

from runner.slurm.left_out import others_do, put_back
from runner.slurm.nodes import Node
from runner.slurm.queue import Job
from tests.fakes.slurm import Said
from tests.fakes.slurm import host as shown

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


@pytest.mark.parametrize(
    ("kinds", "others"), [(("a40", "a40", "a80"), False), (("a40", "a80", "a40"), True), (("a40",) * 3, True)]
)
def test_a_host_is_left_out_only_where_enough_of_one_type_are_left_for_a_job_that_wants_one(
    kinds: tuple[str, ...], others: bool
) -> None:
    job = replace(JOB, features="pool_lab&[gpu__a40|gpu__a80]")
    fleet = [host(f"h{number}") for number in range(3)]
    known = [
        replace(each, features=(*each.features, f"gpu__{kind}"))
        for each, kind in zip(fleet, kinds, strict=True)
    ]
    assert others_do(job, known, without={"h1"}) is others


def cluster(*names: str, before: str = "", knows: bool = True) -> Said:
    """A job of one host, which had to do without some before."""
    there = {"scontrol show node": "".join(map(shown, names))} if knows else {}
    answers = {"squeue --noheader --all --name run --format=%A %x": f"7 {before}\n", **there}
    queue = [{"JobID": "7", "Name": "run", "StateCompact": "R", "NumNodes": "1"}]
    return Said(queue=queue, answers={**answers, "scontrol requeue 7": "", "scontrol update": ""})


@pytest.mark.parametrize(
    ("names", "before", "written"),
    [
        (("h0", "h1", "h2"), "", "h1"),
        (("h0", "h1", "h2", "h3"), "h[0,3]", "h0,h1,h3"),
        (("h0", "h1"), "h0", "h1"),  # One has to be tried again: the one that failed last is the worst.
    ],
)
def test_the_second_host_that_fails_a_job_is_left_out_beside_the_first(
    names: tuple[str, ...], before: str, written: str
) -> None:
    slurm = cluster(*names, before=before)
    assert put_back(slurm, "7", "run", {"h1"}) == ("h1",)
    assert slurm.asked[-2:] == ["scontrol requeue 7", f"scontrol update JobId=7 ExcNodeList={written}"]


@pytest.mark.parametrize("slurm", [cluster("h0", "h1", knows=False), cluster("h1")])
def test_a_job_is_put_back_also_where_no_host_can_be_left_out(slurm: Said) -> None:
    assert put_back(slurm, "7", "run", {"h1"}) == ()
    assert slurm.asked[-1] == "scontrol requeue 7"
