"""What a supervisor writes down of attempts that it finds: no processes, a store in a folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runner import metrics, runs
from runner.metrics import Point
from runner.record import Record
from runner.runs import Attempt, Run, State
from runner.store import Store, open_store

RUN = "20260101-000000-aaaa"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}")


def trained(store: Store, *, from_s: float) -> Record:
    run = Run(id=RUN, name="digits", engine="slurm", plan_hash="", state=State.QUEUED, created_at_s=from_s)
    runs.create(store, run)
    runs.move(store, RUN, State.RUNNING, at_s=from_s, attempts=(Attempt(number=1, started_at_s=from_s),))
    return Record(store, RUN)


def test_an_attempt_that_was_lost_with_its_hosts_ended_when_its_gpus_were_last_seen(store: Store) -> None:
    from_s = time.time() - 3600
    record = trained(store, from_s=from_s)
    for node, for_s in ((0, 60.0), (1, 90.0)):
        point = Point(name="gpu_util", step=1, value=1.0, time_s=from_s + for_s)
        store.append(runs.system_key(RUN, attempt=1, node=node), metrics.encode((point,)), offset=0)
    record.note_lost(why="")
    (lost,) = record.load().attempts
    assert lost.outcome == "lost"
    assert lost.ended_at_s == pytest.approx(from_s + 90.0)


def test_an_attempt_that_nobody_saw_may_have_gone_on_until_it_is_found(store: Store) -> None:
    began_s = time.time() - 3600
    record = trained(store, from_s=began_s)
    record.note_lost(why="")
    (lost,) = record.load().attempts
    assert (lost.ended_at_s or 0.0) - began_s >= 3600
