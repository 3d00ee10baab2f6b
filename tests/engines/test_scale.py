"""64 ranks of a light program on each engine: all start, each is heard whole, and nothing of them is left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.host.leash import shared_memory
from runner.jobs import mark
from tests.engines.project import Project, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NODES, PER_NODE, LINES = 8, 8, 20
RANKS = range(NODES * PER_NODE)
WITHIN_S = 400.0

# Without Python: 64 interpreters at once say more of this machine than of a gang.
COUNT = f"""\
i=0
while [ $i -lt {LINES} ]; do echo "rank $PUSHTRAIN_RANK line $i"; i=$((i + 1)); done
"""
HOLD = "while [ ! -e go ]; do sleep 0.5; done\n"


@pytest.fixture
def gang(project: Project) -> Project:
    """A project whose image gets Open MPI where the engine takes images."""
    if "image" in project.environment:
        project.environment = {"base": project.environment["image"]}
    elif shutil.which("mpirun") is None:
        pytest.fail("not installed: openmpi-bin; run tests/services/packages", pytrace=False)
    return project


def write(project: Project, script: str, kind: str, **sections: Any) -> None:
    project.write(
        "",
        run=script,
        resources={"nodes": NODES},
        distribution={"type": kind, "processes_per_node": PER_NODE},
        **sections,
    )


def in_memory(project: Project) -> list[Path]:
    """What the run left of Open MPI's sockets and shared memory."""
    folders = [shared_memory(mark(project.run.id, node, attempt=1)) for node in range(NODES)]
    return [folder for folder in folders if folder.exists()]


@pytest.mark.parametrize("kind", ["none", "mpi"])
def test_64_ranks_start_are_heard_whole_and_end(gang: Project, kind: str) -> None:
    write(gang, COUNT, kind)
    finished = gang.pushtrain("run", within_s=WITHIN_S)
    assert finished.code == 0, finished.output + gang.told()
    assert not in_memory(gang)
    for rank in RANKS:
        lines = [f"rank {rank} line {line}" for line in range(LINES)]
        assert gang.log(gang.run.id, rank=rank).splitlines() == lines
        shown = [line for line in finished.output.splitlines() if line.startswith(f"[rank {rank}] ")]
        assert shown == [f"[rank {rank}] {line}" for line in lines]
    assert gang.run.warnings == ()


@pytest.mark.parametrize("kind", ["none", "mpi"])
def test_one_of_64_ranks_that_fails_is_named_and_ends_the_others(gang: Project, kind: str) -> None:
    write(gang, f'echo here\n{HOLD}[ "$PUSHTRAIN_RANK" = 42 ] && exit 5\nsleep 600', kind)
    command = gang.start("run")
    wait_for(lambda: gang.run_ids, what="a run", told=gang.told)
    wait_for(
        lambda: all("here" in gang.log(gang.run_ids[-1], rank=rank) for rank in RANKS),
        what="a line of every rank",
        within_s=WITHIN_S,
        told=gang.told,
    )
    gang.let_go(node=42 // PER_NODE)
    finished = command.finish(within_s=WITHIN_S)
    assert finished.code == 5, finished.output + gang.told()
    assert "rank 42 (node 5) ended with exit code 5" in finished.output
