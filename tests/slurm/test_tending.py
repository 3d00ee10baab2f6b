"""Runs whose jobs wait, or are gone before anybody spoke: what is said of them, and how often Slurm is asked."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from runner import manifest, runs
from runner import plan as plans
from runner.agent.queued import end_forgotten
from runner.engines import synced
from runner.engines.tending import Tender
from runner.errors import StoreError
from runner.record import Record
from runner.runs import Attempt, Run, State, Supervisor
from runner.store import Store, open_store
from runner.store.directory import DirectoryStore
from runner.sync import Mirror
from tests.fakes.slurm import Said, host
from tests.flow import made as flow

HOUR_S = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}")


def made(store: Store, *, number: int = 0, ago_s: float = 0.0) -> Run:
    run = Run(
        id=f"20260101-000000-{number:06x}",
        name="digits",
        engine="slurm",
        plan_hash="",
        state=State.QUEUED,
        created_at_s=time.time() - ago_s,
    )
    return runs.create(store, run)


def ended(run: Run, status: int) -> dict[str, str]:
    return {"Name": run.id, "BatchHost": "h1", "exit_code": str(status)}


def running(run: Run, *, ago_s: float) -> dict[str, str]:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - ago_s))
    return {"JobID": "7", "Name": run.id, "StateCompact": "R", "NodeList": "h1", "StartTime": at}


def looked(store: Store, run: Run, slurm: Said) -> Run:
    Tender(slurm, store).look(run)
    return runs.load(store, run.id)


def test_a_young_run_whose_job_slurm_does_not_know_may_have_been_forgotten(store: Store) -> None:
    run = made(store)
    seen = looked(store, run, Said())
    assert seen.reason.startswith("Slurm knows nothing of its job: perhaps slurmctld ended before")
    assert "MinJobAge" in seen.reason
    assert (seen.state, seen.tip) == (State.QUEUED, f"pushtrain resume {run.id}")


def test_an_old_run_whose_job_is_gone_may_have_another_store(store: Store) -> None:
    seen = looked(store, made(store, ago_s=HOUR_S), Said())
    assert seen.reason.startswith("its job is over, and no supervisor has spoken: all hosts have to reach")


def test_a_job_that_saw_another_store_fails_its_run(store: Store) -> None:
    run = made(store)
    seen = looked(store, run, Said(ended=[ended(run, 66 << 8)]))
    assert (seen.state, seen.exit_code) == (State.FAILED, 74)
    assert "h1" in seen.reason


@pytest.mark.parametrize("status", [4294967294, 127])
def test_a_job_of_which_slurm_has_no_exit_code_fails_nothing(store: Store, status: int) -> None:
    run = made(store, ago_s=HOUR_S)
    assert looked(store, run, Said(ended=[ended(run, status)])).state is State.QUEUED


@pytest.mark.parametrize(
    ("ago_s", "said"), [(HOUR_S, "its job runs on h1, and no supervisor has spoken"), (0, "")]
)
def test_a_job_that_runs_for_a_while_without_a_word_is_told(store: Store, ago_s: float, said: str) -> None:
    run = made(store)
    seen = looked(store, run, Said(queue=[running(run, ago_s=ago_s)]))
    assert seen.reason.startswith(said)
    assert bool(seen.reason) is bool(said)


@pytest.mark.parametrize(
    ("ago_s", "clears", "ended"),
    [(10.0, False, ()), (100.0, False, ("7",)), (100.0, True, ()), (900.0, True, ("7",))],
)
def test_the_job_of_a_run_that_ended_is_ended_unless_what_the_run_left_is_being_removed(
    store: Store, ago_s: float, clears: bool, ended: tuple[str, ...]
) -> None:
    run = made(store, ago_s=HOUR_S)
    runs.move(store, run.id, State.SUCCEEDED, at_s=time.time() - ago_s)
    slurm = Said(queue=[running(run, ago_s=HOUR_S)], answers={"scancel 7": ""})
    with runs.clearing(store, run.id) if clears else contextlib.nullcontext():
        assert end_forgotten(slurm, store) == ended
    assert ("scancel 7" in slurm.asked) is bool(ended)
    assert not runs.is_being_cleared(store, run.id)


def test_slurm_is_asked_once_for_all_jobs_that_were_put_back(store: Store) -> None:
    waiting = [made(store, number=number) for number in range(40)]
    queue = [
        {"JobID": str(at), "Name": run.id, "StateCompact": "PD", "RestartCnt": "1", "PriorityLong": "1"}
        for at, run in enumerate(waiting)
    ]
    answers = {
        "scontrol show node": host("h0") + host("h1", state="DOWN"),
        "squeue --noheader --all --format=%A %x": "3 h0\n4 \n5 h1\n",
        "scontrol update": "",
    }
    slurm = Said(queue=queue, answers=answers)
    tender = Tender(slurm, store)
    for run in waiting:
        assert tender.look(run)
    # A slow computer asks again after seconds.
    assert len(slurm.asked) < len(waiting)
    assert [each for each in slurm.asked if "update" in each] == ["scontrol update JobId=3 ExcNodeList="]


def test_a_host_that_was_given_a_job_twice_is_resumed_by_whoever_looks_after_a_job(store: Store) -> None:
    run = made(store)
    queue = [{"JobID": "3", "Name": run.id, "StateCompact": "PD", "PriorityLong": "1"}]
    drained = host("h0", state="IDLE+DRAIN", reason="Duplicate jobid [slurm@2026-11-22T06:46:17]")
    slurm = Said(queue=queue, answers={"scontrol show node": drained, "scontrol update NodeName=h0": ""})
    looked(store, run, slurm)
    assert "scontrol update NodeName=h0 State=RESUME" in slurm.asked


def put_back(store: Store, run: Run, tmp_path: Path) -> None:
    """It trained on two hosts, of which each sent what it wrote; then it was preempted."""
    plan = flow.plan()
    store.write(runs.key(run.id, "plan.json"), plans.to_json(plan).encode())
    attempt = Attempt(number=1, started_at_s=1.0, outcome="lost")
    runs.move(store, run.id, State.RUNNING, at_s=1.0, attempts=(attempt,))
    for node in range(2):
        written = tmp_path / f"written-{node}"
        written.mkdir()
        (written / "weights").write_text(f"of {node}")
        (written / "train.log").write_text("grows")
        Mirror(store, runs.key(run.id, f"live/node-{node}/"), {"outputs": written}).sync()
    runs.move(store, run.id, State.PREPARING, at_s=2.0)


def waits(run: Run, **more: str) -> Said:
    queue = [{"JobID": "3", "Name": run.id, "StateCompact": "PD", "PriorityLong": "1", **more}]
    return Said(queue=queue, answers={"scancel": "", "scontrol show node": host("h0"), "squeue": ""})


def test_what_was_synced_is_the_outputs_of_a_run_that_is_cancelled_while_it_waits_again(
    store: Store, tmp_path: Path
) -> None:
    run = made(store)
    put_back(store, run, tmp_path)
    runs.request_cancel(store, run.id, how="stop")
    seen = looked(store, runs.load(store, run.id), waits(run))
    assert (seen.state, seen.exit_code) == (State.CANCELLED, 130)
    files = manifest.Manifest.from_json(store.read(runs.key(run.id, "outputs.json"))).files
    kept = {each.path: store.read_blob(each.digest) for each in files}
    assert kept == {
        "node-1/outputs/train.log": b"grows",
        "node-1/outputs/weights": b"of 1",
        "outputs/train.log": b"grows",
        "outputs/weights": b"of 0",
    }
    assert list(store.keys(runs.key(run.id, "live/"))) == []


def test_a_run_that_was_sealed_and_goes_on_all_the_same_loses_nothing_of_what_it_writes_then(
    store: Store, tmp_path: Path
) -> None:
    """Whoever ended it was killed before the end was written down."""
    run = made(store)
    put_back(store, run, tmp_path)
    synced.seal(store, runs.load(store, run.id))
    live = runs.key(run.id, "live/node-0/")
    again = tmp_path / "again"
    manifest.restore(store, live, again)
    assert (again / "outputs" / "weights").read_text() == "of 0"

    Record(store, run.id).unseal()
    (again / "outputs" / "later").write_text("of the second attempt")
    Mirror(store, live, {"outputs": again / "outputs"}).sync()
    runs.request_cancel(store, run.id, how="stop")
    assert looked(store, runs.load(store, run.id), waits(run)).state is State.CANCELLED
    files = manifest.Manifest.from_json(store.read(runs.key(run.id, "outputs.json"))).files
    assert {"outputs/later", "outputs/weights", "node-1/outputs/weights"} <= {each.path for each in files}
    assert list(store.keys(runs.key(run.id, "live/"))) == []


def test_a_run_that_slurm_puts_back_for_ever_keeps_what_was_synced_as_well(
    store: Store, tmp_path: Path
) -> None:
    run = made(store)
    put_back(store, run, tmp_path)
    seen = looked(store, runs.load(store, run.id), waits(run, RestartCnt="40"))
    assert seen.state is State.FAILED
    assert b"outputs/weights" in store.read(runs.key(run.id, "outputs.json"))


class Keeping(DirectoryStore):
    """A store that removes nothing of runs that are sealed."""

    def delete(self, key: str) -> None:
        """Refuses, or as of any store."""
        if list(self.keys(f"{key.partition('/live/')[0]}/outputs.json")):
            raise StoreError(f"no answer for {key}")
        super().delete(key)


def test_a_store_that_does_not_remove_what_was_synced_is_no_fault_of_the_run_that_has_ended(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = made(store)
    put_back(store, run, tmp_path)
    runs.request_cancel(store, run.id, how="stop")
    assert looked(Keeping(tmp_path), runs.load(store, run.id), waits(run)).state is State.CANCELLED
    assert b"outputs/weights" in store.read(runs.key(run.id, "outputs.json"))
    assert "what was synced stays: no answer for" in caplog.text


def test_a_run_that_never_trained_ends_without_outputs(store: Store) -> None:
    run = made(store)
    runs.request_cancel(store, run.id, how="stop")
    assert looked(store, run, waits(run)).state is State.CANCELLED
    assert list(store.keys(runs.key(run.id, "outputs"))) == []


@pytest.mark.parametrize("reason", ["JobHeldAdmin", "JobHeldUser", "job requeued in held state"])
def test_what_somebody_holds_stays_held_and_says_how_it_goes_on(store: Store, reason: str) -> None:
    run = made(store)
    slurm = waits(run, PriorityLong="0", Reason=reason, RestartCnt="1")
    seen = looked(store, run, slurm)
    assert not any("release" in each for each in slurm.asked)
    assert seen.reason.endswith("it never starts until: scontrol release 3")


def test_what_slurm_holds_by_itself_is_released(store: Store) -> None:
    run = made(store)
    slurm = waits(run, PriorityLong="0", Reason="launch failed requeued held", RestartCnt="1")
    slurm = replace(slurm, answers={**slurm.answers, "scontrol release": ""})
    looked(store, run, slurm)
    assert "scontrol release 3" in slurm.asked


def taken(store: Store, run: Run, **changes: object) -> Run:
    """Its supervisor has spoken."""
    mine = Supervisor(host="h1", pid=1, job="7.0")
    return runs.update(store, run.id, lambda now: msgspec.structs.replace(now, supervisor=mine, **changes))


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            "TIMEOUT",
            "a time limit was reached: its own, its partition's, or the hours of its account (TIMEOUT)",
        ),
        ("CANCELLED", "somebody cancelled it in Slurm (scancel) (CANCELLED)"),
        ("FAILED", "its batch script was killed (signal 9)"),
    ],
)
def test_a_run_whose_job_slurm_ended_for_good_says_so_and_not_that_it_goes_on(
    store: Store, state: str, told: str
) -> None:
    run = taken(store, made(store), reason="its hosts were taken away; it goes on in the queue")
    seen = looked(store, run, Said(ended=[{"Name": run.id, "State": state, "exit_code": "9"}]))
    assert seen.reason == f"its job is over: {told}"
    assert (seen.state, seen.tip) == (State.QUEUED, f"pushtrain resume {run.id}")


@pytest.mark.parametrize("known", [[], ["FAILED"], ["COMPLETED"]])
def test_what_a_supervisor_said_at_its_end_stays_where_slurm_did_not_end_it(
    store: Store, known: list[str]
) -> None:
    run = taken(store, made(store), reason="the store is full", tip="make room")
    seen = looked(
        store, run, Said(ended=[{"Name": run.id, "State": state, "exit_code": "18944"} for state in known])
    )
    assert (seen.reason, seen.tip) == ("the store is full", "make room")


@pytest.mark.parametrize(
    ("read", "meanwhile"),
    [(State.QUEUED, State.PREPARING), (State.QUEUED, State.RUNNING), (State.WAITING, State.COLLECTING)],
)
def test_a_run_whose_job_started_since_it_was_read_is_moved_back_by_nobody(
    store: Store, read: State, meanwhile: State
) -> None:
    made(store)
    run = runs.move(store, made(store).id, read, at_s=1.0)
    runs.move(store, run.id, meanwhile, at_s=2.0, reason="it builds")
    seen = looked(store, run, waits(run))
    assert (seen.state, seen.reason) == (meanwhile, "it builds")


def test_a_run_that_another_start_of_its_job_took_is_told_nothing_old(store: Store) -> None:
    run = made(store)
    taken(store, run, reason="at work")
    assert looked(store, run, waits(run)).reason == "at work"


def test_a_run_that_gave_way_to_others_again_and_again_is_not_given_up(store: Store) -> None:
    run = made(store)
    for _ in range(40):
        for state in (State.PREPARING, State.WAITING, State.QUEUED):
            run = runs.move(store, run.id, state, at_s=1.0)
    assert looked(store, run, waits(run, RestartCnt="40")).state is State.QUEUED
    assert looked(store, run, waits(run, RestartCnt="61")).state is State.FAILED
