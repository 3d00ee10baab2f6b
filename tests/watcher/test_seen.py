"""What was seen is kept, whoever saw it, and is not asked for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import Corrupt
from runner.store import Store, open_store
from runner.watcher import seen
from runner.watcher.seen import OVERLAP_S, Seen, Settled

KEY = "github/lab/digits/watch/x/seen.json"
FIRST = Seen(refs={"refs/heads/main": "a"}, since_s=1000.0, comments={})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def test_the_first_look_counts_whoever_takes_it(store: Store) -> None:
    other = Seen(refs={}, since_s=5.0, comments={})
    assert seen.load(store, KEY) is None
    assert seen.begin(store, KEY, FIRST) == FIRST
    assert seen.begin(store, KEY, other) == FIRST
    seen.forget(store, KEY)
    assert seen.begin(store, KEY, other) == other


def test_a_change_that_came_in_between_is_kept(store: Store) -> None:
    seen.begin(store, KEY, FIRST)

    def between(found: Seen) -> Seen:
        return seen.settled_ref(found, "between", "b")

    came = iter((between,))

    def step(found: Seen) -> Seen:
        for other in came:
            seen.change(store, KEY, other)
        return seen.settled_ref(found, "refs/heads/main", "c")

    seen.change(store, KEY, step)
    found = seen.load(store, KEY)
    assert found is not None
    assert found.refs == {"refs/heads/main": "c", "between": "b"}


def test_a_ref_that_is_gone_is_forgotten() -> None:
    assert seen.settled_ref(FIRST, "refs/heads/main", None).refs == {}


def test_a_comment_is_known_as_it_was_and_not_as_it_is_edited_later() -> None:
    found = seen.settled_comments(FIRST, [Settled(id=1, digest="x", at_s=2000)], pending_at_s=None)
    assert (seen.knows(found, 1, "x"), seen.knows(found, 1, "y"), seen.knows(found, 2, "x")) == (
        True,
        False,
        False,
    )
    assert found.since_s == 2000 - OVERLAP_S


def test_a_comment_that_waits_for_its_turn_is_asked_for_again() -> None:
    later = [Settled(id=2, digest="x", at_s=9000)]
    found = seen.settled_comments(FIRST, later, pending_at_s=1500)
    assert found.since_s == 1500
    assert seen.knows(found, 2, "x")


def test_comments_behind_the_overlap_are_not_kept() -> None:
    found = seen.settled_comments(FIRST, [Settled(id=1, digest="x", at_s=2000)], pending_at_s=None)
    found = seen.settled_comments(found, [Settled(id=2, digest="y", at_s=9000)], pending_at_s=None)
    assert found.comments.keys() == {"2"}


def test_what_a_newer_version_wrote_is_not_read(store: Store) -> None:
    store.write(KEY, b'{"refs": {}, "since_s": 0, "comments": {}, "colour": "red"}')
    with pytest.raises(Corrupt, match="cannot be read"):
        seen.load(store, KEY)
