"""What happens in a run, as any process reads it from the run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner import metrics, runs
from runner.errors import EngineError
from runner.follow import Event, Lines, Measured, Moved, Quiet, Tail, follow, goes_on
from runner.metrics import Point
from runner.runs import Attempt, Run, State
from runner.store import Store
from tests.flow import made

RUN = "20260101-000000-aaaa"


def following(store: Store, *, alive: bool = True) -> Iterator[Event]:
    return follow(store, RUN, every_s=0.0, supervised=lambda _: alive)


def until_quiet(events: Iterator[Event]) -> list[Event]:
    found: list[Event] = []
    for event in events:
        if isinstance(event, Quiet):
            break
        found.append(event)
    return found


def running(store: Store, *, attempts: int = 1, ranks: int = 1) -> Run:
    made.run(store, RUN, State.PREPARING, State.RUNNING)
    numbered = tuple(Attempt(number=n, started_at_s=0.0) for n in range(1, attempts + 1))
    return runs.update(store, RUN, lambda run: replace(run, attempts=numbered, world_size=ranks))


def write(store: Store, text: str, *, attempt: int = 1, rank: int = 0) -> None:
    key = runs.log_key(RUN, attempt=attempt, rank=rank)
    store.append(key, text.encode(), offset=len(store.tail(key, offset=0)))


def test_moves_lines_and_metrics_are_told_once_each(store: Store) -> None:
    run = running(store)
    write(store, "a\nb\n")
    point = Point(name="loss", step=1, value=0.5, time_s=1.0)
    store.append(runs.metrics_key(RUN), metrics.encode([point]), offset=0)
    events = following(store)
    assert until_quiet(events) == [Moved(run=run), Lines(rank=0, lines=("a", "b")), Measured(points=(point,))]
    assert until_quiet(events) == []
    write(store, "c\n")
    assert until_quiet(events) == [Lines(rank=0, lines=("c",))]


def test_it_ends_with_the_run_after_everything_that_was_written(store: Store) -> None:
    running(store)
    events = following(store)
    until_quiet(events)
    write(store, "last words")
    ended = runs.move(store, RUN, State.FAILED, at_s=9.0, exit_code=3)
    assert list(events) == [Lines(rank=0, lines=("last words",)), Moved(run=ended)]


def test_a_run_that_ended_long_ago_is_told_whole(store: Store) -> None:
    running(store)
    write(store, "a\n")
    ended = runs.move(store, RUN, State.SUCCEEDED, at_s=9.0)
    assert list(following(store)) == [Moved(run=ended), Lines(rank=0, lines=("a",))]


def test_every_rank_of_every_attempt_is_read(store: Store) -> None:
    running(store, attempts=2, ranks=2)
    for attempt in (1, 2):
        for rank in (0, 1):
            write(store, f"{attempt}.{rank}\n", attempt=attempt, rank=rank)
    lines = [event for event in until_quiet(following(store)) if isinstance(event, Lines)]
    assert lines == [Lines(rank=rank, lines=(f"{attempt}.{rank}",)) for attempt in (1, 2) for rank in (0, 1)]


def test_the_build_of_the_environment_is_told_before_the_ranks_start(store: Store) -> None:
    made.run(store, RUN, State.PREPARING)
    store.append(runs.build_log_key(RUN), b"installing\n", offset=0)
    assert Lines(rank=None, lines=("installing",)) in until_quiet(following(store))


def test_a_supervisor_that_is_gone_is_an_error_with_the_way_on(store: Store) -> None:
    running(store)
    with pytest.raises(EngineError, match="in state running") as caught:
        list(following(store, alive=False))
    assert caught.value.tip == f"pushtrain resume {RUN}"


def test_a_supervisor_that_ended_the_run_and_then_itself_is_no_error(store: Store) -> None:
    running(store)

    def ends(_: Run) -> bool:
        runs.move(store, RUN, State.SUCCEEDED, at_s=9.0)
        return False

    last = list(follow(store, RUN, every_s=0.0, supervised=ends))[-1]
    assert isinstance(last, Moved)
    assert last.run.state is State.SUCCEEDED


def test_a_run_that_its_supervisor_has_not_made_yet_is_waited_for(store: Store) -> None:
    events = follow(store, RUN, every_s=0.0, supervised=lambda _: True)
    run = made.run(store, RUN)
    assert next(events) == Moved(run=run)


# One stream


def tailed(store: Store, *pieces: bytes) -> list[tuple[str, ...]]:
    tail, offset, read = Tail(store, "logs/x"), 0, []
    for piece in pieces:
        store.append("logs/x", piece, offset=offset)
        offset += len(piece)
        read.append(tail.read())
    return [*read, tail.read(last=True)]


def test_a_line_is_read_once_it_is_whole(store: Store) -> None:
    assert tailed(store, b"a", b"b\nc", b"d") == [(), ("ab",), (), ("cd",)]


def test_carriage_returns_end_lines_and_empty_lines_are_kept(store: Store) -> None:
    assert tailed(store, b"1%\r2%\r\n\nend\n") == [("1%", "2%", "", "end"), ()]


def test_a_letter_that_is_cut_in_two_is_read_whole(store: Store) -> None:
    letter = "ü\n".encode()
    assert tailed(store, letter[:1], letter[1:]) == [(), ("ü",), ()]


def test_bytes_that_are_no_text_are_shown_as_such(store: Store) -> None:
    assert tailed(store, b"\xff\n") == [("�",), ()]


def test_a_stream_that_is_not_there_yet_has_no_lines(store: Store) -> None:
    assert Tail(store, "logs/x").read(last=True) == ()


def test_on_a_host_of_a_fleet_a_run_whose_job_is_gone_is_taken_up_by_itself(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(running(store), engine="slurm")
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    assert goes_on(run) == f"pushtrain resume {RUN}"
    (tmp_path / "slurm.conf").touch()
    assert goes_on(run).startswith("the head's agent takes it up by itself")
    assert goes_on(run).endswith(f"pushtrain resume {RUN}")
    assert goes_on(replace(run, tip="where its secrets are")) == "where its secrets are"
    assert goes_on(replace(run, engine="local")) == f"pushtrain resume {RUN}"
