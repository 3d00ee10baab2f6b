"""What `top` shows while the head of the fleet is slow, or away."""

from __future__ import annotations

import threading

import pytest

from runner.errors import EngineError
from runner.fleet.looks import Look, Looks, once
from runner.fleet.rows import Place

PLACES = (Place(host="h0", card=None, trouble="down"),)


def fails() -> tuple[tuple[Place, ...], str]:
    raise EngineError("scontrol: no head", tip="")


def test_what_was_seen_stays_when_the_head_goes_away_and_why_is_told() -> None:
    before = Look(places=PLACES, note="a note", at_s=100.0)
    seen = once(fails, before=before)
    assert (seen.places, seen.at_s) == (PLACES, 100.0)
    assert seen.told(now_s=101.0, every_s=2.0) == "the fleet does not answer: scontrol: no head; a note"
    again = once(lambda: (PLACES, ""), before=seen)
    assert again.told(now_s=again.at_s, every_s=2.0) == ""


def test_a_late_answer_is_told_with_its_age() -> None:
    seen = Look(places=PLACES, at_s=100.0)
    assert seen.told(now_s=104.9, every_s=2.0) == ""
    assert seen.told(now_s=112.0, every_s=2.0) == "the fleet has not answered for 12 s"


def test_whoever_draws_does_not_wait_for_an_answer() -> None:
    answers = threading.Event()

    def look() -> tuple[tuple[Place, ...], str]:
        answers.wait(60)
        return PLACES, ""

    with Looks(look, every_s=0.01) as looks:
        looks.wait(0.0)
        assert looks.latest is None
        answers.set()
        looks.wait(60)
        assert looks.latest is not None
        assert looks.latest.places == PLACES


def test_a_fault_of_a_look_is_raised_by_whoever_waits() -> None:
    def look() -> tuple[tuple[Place, ...], str]:
        raise ZeroDivisionError

    with Looks(look, every_s=0.01) as looks, pytest.raises(ZeroDivisionError):
        looks.wait(60)


def test_after_the_block_nobody_looks() -> None:
    lookers: set[threading.Thread] = set()

    def look() -> tuple[tuple[Place, ...], str]:
        lookers.add(threading.current_thread())
        return PLACES, ""

    with Looks(look, every_s=3600.0) as looks:
        looks.wait(60)
    (looker,) = lookers
    looker.join(60)
    assert not looker.is_alive()
