"""run.json is a state machine that several processes move on together, and a run is found by little of its id."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner import runs
from runner.errors import Corrupt, RunNotFound, StoreError
from runner.runs import Run, Stage, State
from runner.store import Store
from tests.flow import made

A = "20260101-000000-aaaa"
B = "20260102-000000-bbbb"
C = "20260102-000000-cccc"


def test_a_run_goes_through_its_states_and_each_has_its_times(store: Store) -> None:
    run = made.run(
        store, A, State.PREPARING, State.RUNNING, State.COLLECTING, State.PUBLISHING, State.SUCCEEDED
    )
    assert run.stages[0] == Stage(state=State.QUEUED, started_at_s=0.0, ended_at_s=1.0)
    assert run.stages[2] == Stage(state=State.RUNNING, started_at_s=2.0, ended_at_s=3.0)
    assert run.stages[-1] == Stage(state=State.SUCCEEDED, started_at_s=5.0, ended_at_s=5.0)
    assert runs.load(store, A) == run


def test_the_time_in_a_state_is_that_of_all_its_visits(store: Store) -> None:
    run = made.run(store, A, State.PREPARING, State.RUNNING, State.PREPARING, State.RUNNING)
    assert run.seconds_in(State.RUNNING, now_s=10.0) == 1.0 + 6.0
    assert run.seconds_in(State.PREPARING) == 2.0
    assert run.seconds_in(State.WAITING) == 0.0


@pytest.mark.parametrize("end", sorted(runs.ENDS))
@pytest.mark.parametrize("state", list(State))
def test_no_move_leads_out_of_an_end(store: Store, end: State, state: State) -> None:
    ended = made.run(store, A, State.RUNNING, end)
    assert runs.move(store, A, state, at_s=9.0, reason="again") == ended
    assert runs.load(store, A) == ended


@pytest.mark.parametrize("before", [state for state in State if not state.ended])
@pytest.mark.parametrize("end", [State.FAILED, State.CANCELLED])
def test_a_run_may_fail_or_be_cancelled_from_anywhere(store: Store, before: State, end: State) -> None:
    made.run(store, A, before)
    assert runs.move(store, A, end, at_s=9.0, reason="why", exit_code=1).state is end


def test_a_run_is_prepared_again_for_another_attempt(store: Store) -> None:
    assert made.run(store, A, State.RUNNING, State.PREPARING, State.WAITING).state is State.WAITING


def test_a_run_whose_hosts_are_taken_away_is_queued_again_and_the_wait_counts_as_that(store: Store) -> None:
    run = made.run(store, A, State.PREPARING, State.RUNNING, State.QUEUED, State.PREPARING)
    assert run.state is State.PREPARING
    assert run.seconds_in(State.QUEUED) == 2.0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (State.RUNNING, State.WAITING),
        (State.COLLECTING, State.RUNNING),
        (State.PUBLISHING, State.COLLECTING),
    ],
)
def test_no_other_step_leads_back(store: Store, before: State, after: State) -> None:
    made.run(store, A, before)
    with pytest.raises(ValueError, match="never"):
        runs.move(store, A, after, at_s=9.0)


def test_moving_to_the_state_that_it_is_in_only_changes_what_is_said(store: Store) -> None:
    before = made.run(store, A, State.PREPARING)
    assert runs.move(store, A, State.PREPARING, at_s=9.0) == before
    after = runs.move(store, A, State.PREPARING, at_s=9.0, reason="why")
    assert (after.stages, after.reason) == (before.stages, "why")


def test_creating_a_run_again_gives_it_as_it_stands(store: Store) -> None:
    run = made.run(store, A, State.RUNNING)
    assert made.run(store, A) == run


def test_updates_of_several_processes_at_once_lose_nothing(store: Store) -> None:
    made.run(store, A)
    program = """if True:
        import sys
        from msgspec.structs import replace
        from runner import runs
        from runner.store import open_store
        store = open_store(sys.argv[1])
        for number in range(10):
            word = f"{sys.argv[3]}-{number}"
            runs.update(store, sys.argv[2], lambda run: replace(run, warnings=(*run.warnings, word)))
    """
    root = store.uri.removeprefix("file://")
    processes = [subprocess.Popen([sys.executable, "-c", program, root, A, name]) for name in "abc"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(runs.load(store, A).warnings) == sorted(f"{name}-{n}" for name in "abc" for n in range(10))


def test_an_update_that_changes_nothing_writes_nothing(store: Store) -> None:
    made.run(store, A)
    before = store.read_versioned(runs.key(A, "run.json"))
    runs.update(store, A, lambda run: replace(run))
    assert store.read_versioned(runs.key(A, "run.json")) == before


def test_a_run_that_cannot_be_read_is_told_by_its_name(store: Store) -> None:
    store.write(runs.key(A, "run.json"), b'{"id": 1}')
    with pytest.raises(Corrupt, match=A):
        runs.load(store, A)


# Finding


@pytest.mark.parametrize("text", [A, "20260101", "20260101-000000-a", "aaaa", "a", "00-aaaa"])
def test_a_run_is_found_by_its_id_its_beginning_or_its_end(store: Store, text: str) -> None:
    made.run(store, A)
    made.run(store, B)
    assert runs.find(store, text).id == A


def test_last_is_the_newest(store: Store) -> None:
    for run_id in (B, A):
        made.run(store, run_id)
    assert runs.find(store, "last").id == B


def test_a_text_that_means_several_runs_names_them(store: Store) -> None:
    for run_id in (A, B, C):
        made.run(store, run_id)
    with pytest.raises(RunNotFound, match=f"{C}, {B}") as caught:
        runs.find(store, "20260102")
    assert caught.value.tip == "type more of the id"


@pytest.mark.parametrize("text", ["dddd", "", "2025", "../runs"])
def test_a_text_that_means_no_run_is_refused(store: Store, text: str) -> None:
    made.run(store, A)
    with pytest.raises(RunNotFound) as caught:
        runs.find(store, text)
    assert caught.value.tip == "pushtrain runs"


def test_the_last_of_no_runs_says_how_to_start_one(store: Store) -> None:
    with pytest.raises(RunNotFound) as caught:
        runs.find(store, "last")
    assert caught.value.tip.startswith("pushtrain run")


def test_runs_are_listed_newest_first_and_those_half_there_are_passed_over(store: Store) -> None:
    for run_id in (A, B):
        made.run(store, run_id)
    store.write(runs.key(C, "plan.json"), b"{}")
    assert [run.id for run in runs.listing(store)] == [B, A]


def test_runs_are_listed_by_state_branch_and_model(store: Store) -> None:
    made.run(store, A, State.RUNNING, State.FAILED)
    made.run(store, B, State.RUNNING)
    runs.update(store, B, lambda run: replace(run, branch="main", model="digits"))
    assert [run.id for run in runs.listing(store, state="failed")] == [A]
    assert [run.id for run in runs.listing(store, branch="main", model="digits")] == [B]
    assert list(runs.listing(store, branch="main", state="failed")) == []


def test_ids_sort_by_time_and_are_known_as_ids() -> None:
    early, late = runs.new_id(now_s=1e9), runs.new_id(now_s=1e9 + 1)
    assert early < late
    assert runs.is_id(early)
    assert not runs.is_id("last")


# Cancelling


def test_a_wish_to_cancel_is_left_in_the_runs_folder(store: Store) -> None:
    made.run(store, A)
    assert runs.cancel_requested(store, A) is None
    runs.request_cancel(store, A, how="stop")
    runs.request_cancel(store, A, how="kill")
    assert runs.cancel_requested(store, A) == "kill"


def test_the_first_reason_of_a_wish_to_cancel_stays_and_a_kill_is_never_softened(store: Store) -> None:
    made.run(store, A)
    assert runs.cancel_reason(store, A) == ""
    runs.request_cancel(store, A, how="stop", why=f"superseded by {B}")
    runs.request_cancel(store, A, how="kill", why="cancelled by\nann")
    runs.request_cancel(store, A, how="stop")
    assert runs.cancel_requested(store, A) == "kill"
    assert runs.cancel_reason(store, A) == f"superseded by {B}"


def test_a_reason_is_one_line_of_bearable_length(store: Store) -> None:
    made.run(store, A)
    runs.request_cancel(store, A, how="stop", why="by\nann  " + "x" * 1000)
    assert runs.cancel_requested(store, A) == "stop"
    assert runs.cancel_reason(store, A) == "by ann " + "x" * (runs.REASON_CHARACTERS - 7)


def test_a_name_that_is_no_key_is_refused_by_the_store(store: Store) -> None:
    with pytest.raises(StoreError):
        runs.load(store, "../x")


def test_a_run_says_what_it_is(tmp_path: Path) -> None:
    run = Run(id=A, name="n", engine="local", plan_hash="h", state=State.QUEUED, created_at_s=0.0)
    assert (run.attempt, run.state.ended) == (0, False)
