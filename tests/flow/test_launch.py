"""Plan and reservation -> the processes of a gang, held against files that a person has read."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from runner.launch import LAUNCHERS, Process, independent, patient
from runner.place import Reservation, Slot
from tests.flow import made

GOLDEN = Path(__file__).with_name("golden")

GANGS = {
    "one-process": (made.PLAIN, 1, 0),
    "two-nodes-of-two": (
        made.PLAIN + "resources: {nodes: 2}\ndistribution: {type: none, processes_per_node: 2}\n",
        2,
        0,
    ),
    "two-nodes-with-gpus": (
        made.PLAIN + "resources: {nodes: 2, gpu: 4}\ndistribution: {type: none, processes_per_node: 2}\n",
        2,
        4,
    ),
    "more-processes-than-gpus": (
        made.PLAIN + "resources: {gpu: 1}\ndistribution: {type: none, processes_per_node: 2}\n",
        1,
        1,
    ),
}


def reservation(nodes: int, gpus: int) -> Reservation:
    return Reservation(
        slots=tuple(
            Slot(
                node_rank=node,
                host="host",
                address=f"10.0.0.{node + 1}",
                gpus=tuple(f"GPU-{node}-{n}" for n in range(gpus)),
            )
            for node in range(nodes)
        )
    )


def launched(name: str) -> tuple[Process, ...]:
    text, nodes, gpus = GANGS[name]
    return independent(made.plan(text), reservation(nodes, gpus))


@pytest.mark.parametrize("name", GANGS)
def test_processes_are_those_of_the_golden_file(name: str) -> None:
    """After a change that is meant, write what is shown here to the file and read it."""
    shown = json.dumps([asdict(process) for process in launched(name)], indent=1, sort_keys=True) + "\n"
    assert shown == (GOLDEN / f"{name}.json").read_text()


def test_ranks_are_numbered_node_by_node_and_each_is_there_once() -> None:
    processes = launched("two-nodes-of-two")
    assert [(p.rank, p.node_rank, p.local_rank) for p in processes] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
    ]


def test_no_gpu_is_given_to_two_ranks_while_there_is_one_for_each() -> None:
    given = [p.env["CUDA_VISIBLE_DEVICES"].split(",") for p in launched("two-nodes-with-gpus")]
    flat = [gpu for mine in given for gpu in mine]
    assert len(flat) == len(set(flat)) == 8


def test_a_shell_waits_for_the_training_that_it_runs() -> None:
    assert patient(("/bin/sh", "-c", "python train.py")) == (
        "/bin/sh",
        "-c",
        "trap 'exit 143' TERM; python train.py",
    )
    assert patient(("python", "train.py")) == ("python", "train.py")


def test_there_is_a_launcher_for_the_kind_that_every_file_has_at_first() -> None:
    assert made.plan().distribution in LAUNCHERS
