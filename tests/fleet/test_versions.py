"""Versions of a host and of its head -> what people are told."""

from __future__ import annotations

import dataclasses
import json

import pytest

from runner.fleet import standing, versions
from tests.fleet import recordings


def test_a_host_with_another_version_than_the_head_is_told_with_the_command_that_cures_it() -> None:
    told = {"pushtrain": "0.1.0", "metrics": 6820, "head": "0.2.0/22.05.8"}
    node = dataclasses.replace(
        recordings.nodes("full")[0],
        gpus_used=0,
        cpus_used=0,
        states=frozenset({"IDLE"}),
        version="22.05.8",
        comment=json.dumps(told),
    )
    assert standing.state(node, ()) == (
        "idle; Pushtrain 0.1.0 while the head has 0.2.0; there, when nothing runs: check out Pushtrain "
        "0.2.0 in its clone (the head's commit), scripts/venv; pushtrain agent stop; pushtrain agent start"
    )
    assert not standing.is_well(node)
    older = dataclasses.replace(node, comment=json.dumps({"pushtrain": "0.1.0", "settings": False}))
    assert standing.state(older, ()).startswith(
        "idle; another store or registry than the head; there: pushtrain"
    )
    assert not standing.is_well(older)
    hostile = dataclasses.replace(node, comment=json.dumps(told | {"head": "0.2.0; rm -rf /"}))
    assert standing.state(hostile, ()) == "idle"


@pytest.mark.parametrize(
    ("here", "head", "words"),
    [
        ("0.1.0/22.05.8", "0.1.0/22.05.8", ""),
        ("0.1.0/22.05.8", "0.1.0/22.05.11", ""),  # Of one release.
        ("0.1.0/", "0.1.0/22.05.8", ""),  # Not known.
        ("0.1.0/22.05.8", "0.1.0/23.02.1", "Slurm 22.05.8 while the head has 23.02.1"),
        ("0.3.0/22.05.8", "0.2.0/23.02.1", "Slurm 22.05.8 while the head has 23.02.1, Pushtrain 0.3.0 while"),
    ],
)
def test_versions_of_one_release_of_slurm_and_one_of_pushtrain_go_together(
    here: str, head: str, words: str
) -> None:
    ours, heads = versions.read(here), versions.read(head)
    assert ours is not None
    assert heads is not None
    said = versions.told(ours, heads, where="here")
    assert said.startswith(words)
    assert bool(said) is bool(words)
