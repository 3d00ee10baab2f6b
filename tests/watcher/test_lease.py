"""Of several who want a turn one has it, until it is done or its time is over."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runner.answer.lease import Lease
from runner.errors import Corrupt
from runner.store import Store, open_store

KEY = "github/lab/digits/watch/x/claims/ref-1"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lease(store: Store, clock: Clock, by: str) -> Lease:
    return Lease(store, KEY, by=by, lasts_s=60.0, now_s=clock)


def test_the_first_has_it_and_the_other_has_not(store: Store, clock: Clock) -> None:
    first, other = lease(store, clock, "one"), lease(store, clock, "other")
    assert (first.take(), other.take(), first.take()) == ("ours", "theirs", "ours")
    assert (first.inherited, other.inherited) == (False, True)


def test_of_many_at_once_one_has_it(store: Store, clock: Clock) -> None:
    found: list[str] = []
    ready = threading.Barrier(8)

    def take(by: str) -> None:
        ready.wait()
        found.append(lease(store, clock, by).take())

    threads = [threading.Thread(target=take, args=(f"watcher-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["ours"] + 7 * ["theirs"]


def test_it_is_taken_over_once_its_time_is_over_and_prolonged_before(store: Store, clock: Clock) -> None:
    first, other = lease(store, clock, "one"), lease(store, clock, "other")
    first.take()
    clock.now_s += 50
    assert first.take() == "ours"
    clock.now_s += 50
    assert other.take() == "theirs"
    clock.now_s += 11
    assert other.take() == "ours"
    assert first.take() == "theirs"


def test_who_stays_has_it_for_as_long_as_he_does(store: Store, clock: Clock) -> None:
    first, other = lease(store, clock, "one"), lease(store, clock, "other")
    first.take()
    for _ in range(30):
        clock.now_s += 5
        first.stay()
        assert other.take() == "theirs"
    clock.now_s += 61
    assert other.take() == "ours"
    first.stay()
    assert other.take() == "ours"


def test_who_had_it_before_a_restart_has_it_at_once(store: Store, clock: Clock) -> None:
    lease(store, clock, "one").take()
    again = lease(store, clock, "one")
    assert (again.take(), again.inherited) == ("ours", True)


def test_it_is_taken_over_at_once_from_one_that_is_known_to_be_gone(store: Store, clock: Clock) -> None:
    lease(store, clock, "one").take()
    for gone, standing in (("somebody else", "theirs"), ("one", "ours")):
        other = Lease(store, KEY, by="other", lasts_s=60.0, now_s=clock, is_gone=gone.__eq__)
        assert other.take() == standing


def test_what_is_done_is_done_for_all(store: Store, clock: Clock) -> None:
    first = lease(store, clock, "one")
    first.take()
    first.finish()
    clock.now_s += 1e6
    assert (lease(store, clock, "other").take(), first.take()) == ("done", "done")


def test_a_failed_try_gives_it_back_and_is_counted(store: Store, clock: Clock) -> None:
    first, other = lease(store, clock, "one"), lease(store, clock, "other")
    first.take()
    assert first.failed() == 1
    assert other.take() == "ours"
    assert other.failed() == 2


def test_it_is_given_back_by_its_holder_alone(store: Store, clock: Clock) -> None:
    first, other = lease(store, clock, "one"), lease(store, clock, "other")
    first.take()
    other.give_back()
    assert other.take() == "theirs"
    first.give_back()
    assert other.take() == "ours"


def test_what_a_newer_version_wrote_is_not_taken(store: Store, clock: Clock) -> None:
    store.write(KEY, b'{"by": "x", "until_s": 0, "colour": "red"}')
    with pytest.raises(Corrupt, match="cannot be read"):
        lease(store, clock, "one").take()
