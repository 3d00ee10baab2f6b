"""What Slurm 22.05.8 printed of three hosts with four fake GPUs each, at three moments.

full: two runs and a job run, others wait. preempt: h1 was drained, and an urgent run ends what ran on h2.
lost: slurmd of h2 was killed meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from runner.slurm.nodes import Node
from runner.slurm.nodes import read as read_nodes
from runner.slurm.queue import Job
from runner.slurm.queue import read as read_jobs

FOLDER = Path(__file__).parent / "recorded"


def jobs(moment: str) -> tuple[Job, ...]:
    return read_jobs((FOLDER / f"{moment}.squeue").read_bytes().decode("utf-8", "surrogateescape"))


def nodes(moment: str) -> tuple[Node, ...]:
    return read_nodes((FOLDER / f"{moment}.nodes").read_text())


def job(moment: str, name: str) -> Job:
    return next(each for each in jobs(moment) if each.name == name)
