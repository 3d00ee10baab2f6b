"""Slurm as Pushtrain uses it: its commands, its queue, its nodes. Nothing here knows of runs."""

from __future__ import annotations

from runner.slurm.client import Slurm, find
from runner.slurm.left_out import deaf, left_out, put_back, take_back
from runner.slurm.nodes import Node, node, nodes
from runner.slurm.queue import Job, ended_by, ended_on, jobs, marked

__all__ = [
    "Job",
    "Node",
    "Slurm",
    "deaf",
    "ended_by",
    "ended_on",
    "find",
    "jobs",
    "left_out",
    "marked",
    "node",
    "nodes",
    "put_back",
    "take_back",
]
