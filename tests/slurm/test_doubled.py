"""Hosts that Slurm drained since they had the job already that it started on them."""

from __future__ import annotations

import logging

import pytest

from runner import slurm
from runner.slurm.doubled import Doubled
from tests.fakes.slurm import Said, host

DRAINED = host("h0", state="IDLE+DRAIN", reason="Duplicate jobid [slurm@2026-11-22T06:46:17]")
OTHERS = host("h1", state="IDLE+DRAIN", reason="being mended [root@2026-11-22T06:46:17]") + host("h2")


def test_only_a_host_that_slurm_drained_for_that_is_resumed() -> None:
    answers = {"scontrol show node": DRAINED + OTHERS, "scontrol update NodeName=h0 State=RESUME": ""}
    said = Said(answers=answers)
    assert Doubled(said).resume(slurm.nodes(said)) == ("h0",)
    assert [each for each in said.asked if "update" in each] == ["scontrol update NodeName=h0 State=RESUME"]


def test_a_host_that_is_resumed_already_is_left_alone() -> None:
    said = Said(answers={"scontrol show node": DRAINED.replace("+DRAIN", "")})
    assert Doubled(said).resume(slurm.nodes(said)) == ()
    assert not any("update" in each for each in said.asked)


def test_a_refusal_is_tried_again_and_told_once_for_each_drain(caplog: pytest.LogCaptureFixture) -> None:
    said = Said(answers={"scontrol show node": DRAINED})
    doubled = Doubled(said)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert doubled.resume(slurm.nodes(said)) == ()
    assert len([each for each in said.asked if "RESUME" in each]) == 3
    assert [each.message.partition(" (")[0] for each in caplog.records] == ["h0 stays drained"]
    assert "refused" in caplog.text
    assert "pushtrain agent resume h0" in caplog.text
    doubled.resume(())
    doubled.resume(slurm.nodes(said))
    assert len(caplog.records) == 2
