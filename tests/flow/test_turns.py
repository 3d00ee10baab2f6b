"""Runs of one group go one after the other, or the newer replaces the older: in a folder and in S3."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner import runs, turns
from runner.lock import held
from runner.runs import Run, State, Supervisor
from runner.store import Store, open_store
from runner.turns import Ticket, Turn
from tests.fixtures.s3 import s3_credentials, s3_endpoint, s3_uri
from tests.flow import made

__all__ = ["s3_credentials", "s3_endpoint", "s3_uri"]

A, B, C, D = (f"2026010{n}-000000-aaaa" for n in (1, 2, 3, 4))
GROUP = "owner/name: digits: main"


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return open_store(request.getfixturevalue("s3_uri") if request.param == "s3" else str(tmp_path / "store"))


def turn(store: Store, run_id: str, home: Path, *, group: str = GROUP, supersede: bool = False) -> Turn:
    """The turn of a run that is in the store."""
    made.run(store, run_id)
    return Turn(store, Ticket(run_id=run_id, supersede=supersede), group=group, home=home)


def names(found: tuple[Run, ...]) -> list[str]:
    return [run.id for run in found]


def test_runs_go_in_the_order_in_which_they_came(shared: Store, tmp_path: Path) -> None:
    first, second, third = (turn(shared, each, tmp_path) for each in (A, B, C))
    assert [each.enter() for each in (first, second, third)] == [None, None, None]

    assert names(first.ahead()) == []
    assert names(third.ahead()) == [A, B]
    assert third.reason(third.ahead()) == f"3rd in group main, behind {A}, {B}"

    runs.move(shared, A, State.FAILED, at_s=1.0)
    assert names(second.ahead()) == []
    assert third.reason(third.ahead()) == f"2nd in group main, behind {B}"


def test_a_run_of_another_group_is_not_waited_for(shared: Store, tmp_path: Path) -> None:
    turn(shared, A, tmp_path).enter()
    other = turn(shared, B, tmp_path, group="owner/name: digits: feature")
    other.enter()
    assert other.ahead() == ()


def test_entering_again_keeps_the_place(shared: Store, tmp_path: Path) -> None:
    first = turn(shared, A, tmp_path)
    first.enter()
    second = turn(shared, B, tmp_path)
    second.enter()

    successor = turn(shared, A, tmp_path)
    successor.enter()

    assert names(successor.ahead()) == []
    assert names(second.ahead()) == [A]


def test_of_runs_that_come_at_once_only_one_goes(tmp_path: Path, shared: Store) -> None:
    count = 6
    at_once = threading.Barrier(count)
    all_ids = [f"20260101-00000{n}-aaaa" for n in range(count)]

    def come(run_id: str) -> int:
        mine = turn(shared, run_id, tmp_path)
        at_once.wait()
        mine.enter()
        return len(mine.ahead())

    with ThreadPoolExecutor(count) as pool:
        before = list(pool.map(come, all_ids))
    assert sorted(before) == list(range(count))


def test_numbers_grow_though_those_of_ended_runs_are_cleared_away(shared: Store, tmp_path: Path) -> None:
    for each in (A, B):
        turn(shared, each, tmp_path).enter()
        runs.move(shared, each, State.SUCCEEDED, at_s=1.0)
    late = turn(shared, C, tmp_path)
    late.enter()
    assert late.ahead() == ()
    kept = [key for key in shared.keys("groups/")]
    assert [key.rpartition("/")[2] for key in kept] == ["00000003"]


# Superseding


def test_a_newer_run_asks_the_older_ones_to_end_and_waits_for_them(shared: Store, tmp_path: Path) -> None:
    older = turn(shared, A, tmp_path)
    older.enter()
    newer = turn(shared, B, tmp_path, supersede=True)

    assert newer.enter() is None

    assert names(newer.ahead()) == [A]
    assert runs.cancel_requested(shared, A) == "stop"
    assert runs.cancel_reason(shared, A) == f"superseded by {B}"


def test_an_older_run_that_comes_late_is_the_one_that_is_replaced(shared: Store, tmp_path: Path) -> None:
    turn(shared, B, tmp_path, supersede=True).enter()
    assert turn(shared, A, tmp_path, supersede=True).enter() == B
    assert runs.cancel_requested(shared, B) is None


@pytest.mark.parametrize(
    ("newer", "older", "does"),
    [
        (Ticket(run_id=B, supersede=True), Ticket(run_id=A), True),
        (Ticket(run_id=B), Ticket(run_id=A), False),
        (Ticket(run_id=A, supersede=True), Ticket(run_id=B), False),
        (
            Ticket(run_id=B, supersede=True, isolated=True, branch="x:y"),
            Ticket(run_id=A, branch="x:y"),
            False,
        ),
        (Ticket(run_id=B, supersede=True), Ticket(run_id=A, isolated=True, branch="x:y"), True),
        (
            Ticket(run_id=B, supersede=True, isolated=True, branch="x:y"),
            Ticket(run_id=A, isolated=True, branch="x:y"),
            True,
        ),
        (
            Ticket(run_id=B, supersede=True, isolated=True, branch="x:y"),
            Ticket(run_id=A, isolated=True, branch="z:y"),
            False,
        ),
    ],
)
def test_a_forks_run_replaces_those_of_its_own_branch_alone(newer: Ticket, older: Ticket, does: bool) -> None:
    assert turns.replaces(newer, older) is does


# Supervisors that died


def _left(store: Store, run_id: str, host: str) -> None:
    runs.update(store, run_id, lambda run: replace(run, supervisor=Supervisor(host=host, pid=1)))


def test_a_run_that_nobody_supervises_is_told_and_then_passed_over(store: Store, tmp_path: Path) -> None:
    turn(store, A, tmp_path).enter()
    _left(store, A, socket.gethostname())
    mine = turn(store, B, tmp_path)
    mine.enter()
    ended: list[str] = []

    assert f"{A} has no supervisor: pushtrain resume {A}" in mine.reason(mine.ahead())
    mine.pass_over(mine.ahead(), after_s=3600, end=lambda run: ended.append(run.id))
    assert names(mine.ahead()) == [A]
    mine.pass_over(mine.ahead(), after_s=0, end=lambda run: ended.append(run.id))

    assert mine.ahead() == ()
    assert ended == [A]
    resumed = turn(store, A, tmp_path)
    resumed.enter()
    assert names(resumed.ahead()) == [B]


def test_a_run_whose_supervisor_lives_is_never_passed_over(store: Store, tmp_path: Path) -> None:
    turn(store, A, tmp_path).enter()
    _left(store, A, socket.gethostname())
    mine = turn(store, B, tmp_path)
    mine.enter()
    with held(tmp_path / "scratch" / A / "supervisor.lock"):
        mine.pass_over(mine.ahead(), after_s=0, end=lambda _: pytest.fail("it lives"))
    assert names(mine.ahead()) == [A]


def test_a_run_of_another_machine_is_taken_to_live(store: Store, tmp_path: Path) -> None:
    turn(store, A, tmp_path).enter()
    _left(store, A, "elsewhere")
    mine = turn(store, B, tmp_path)
    mine.enter()
    mine.pass_over(mine.ahead(), after_s=0, end=lambda _: pytest.fail("it may live"))
    assert mine.reason(mine.ahead()) == f"2nd in group main, behind {A}"


@pytest.mark.parametrize("has_job", [True, False])
def test_a_run_of_a_batch_system_is_passed_over_only_where_it_has_no_job(
    store: Store, tmp_path: Path, has_job: bool
) -> None:
    turn(store, A, tmp_path).enter()
    preempted = Supervisor(host=socket.gethostname(), pid=1, job="17.0")
    runs.update(store, A, lambda run: replace(run, supervisor=preempted))
    made.run(store, B)
    mine = Turn(store, Ticket(run_id=B), group=GROUP, home=tmp_path, lives=lambda _: has_job)
    mine.enter()
    ended: list[str] = []
    mine.pass_over(mine.ahead(), after_s=0, end=lambda run: ended.append(run.id))
    assert ended == ([] if has_job else [A])
    assert names(mine.ahead()) == ([A] if has_job else [])


def test_a_run_that_lost_its_job_before_anybody_took_it_is_passed_over(store: Store, tmp_path: Path) -> None:
    turn(store, A, tmp_path).enter()
    made.run(store, B)
    mine = Turn(store, Ticket(run_id=B), group=GROUP, home=tmp_path, lives=lambda _: False)
    mine.enter()
    assert mine.reason(mine.ahead()).endswith(f"{A} has no supervisor: pushtrain resume {A}")
    mine.pass_over(mine.ahead(), after_s=0, end=lambda _: None)
    assert mine.ahead() == ()


def test_a_run_whose_folder_is_gone_holds_up_nobody(store: Store, tmp_path: Path) -> None:
    turn(store, A, tmp_path).enter()
    store.delete(runs.key(A, "run.json"))
    mine = turn(store, B, tmp_path)
    mine.enter()
    assert mine.ahead() == ()


def test_processes_that_come_at_once_never_share_a_number(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from runner.store import open_store
        from runner.turns import Ticket, Turn
        for number in range(20):
            ticket = Ticket(run_id=f"20260101-0000{number:02d}-{sys.argv[2]}")
            Turn(open_store(sys.argv[1]), ticket, group="g", home=Path(sys.argv[1])).enter()
    """
    root = str(tmp_path / "store")
    processes = [subprocess.Popen([sys.executable, "-c", program, root, name * 4]) for name in "abc"]
    assert [each.wait() for each in processes] == [0, 0, 0]
    numbers = [key.rpartition("/")[2] for key in open_store(root).keys("groups/")]
    assert numbers == [f"{n:08d}" for n in range(1, 61)]


@pytest.mark.parametrize(("count", "text"), [(1, "2nd"), (2, "3rd"), (3, "4th"), (10, "11th"), (20, "21st")])
def test_a_place_is_told_in_words(store: Store, tmp_path: Path, count: int, text: str) -> None:
    mine = Turn(store, Ticket(run_id=D), group="g", home=tmp_path)
    others = tuple(made.run(store, f"20260101-0000{n:02d}-aaaa") for n in range(count))
    reason = mine.reason(others)
    assert reason.startswith(f"{text} in group g, behind 20260101-000000-aaaa")
    assert ("more" in reason) is (count > 3)
