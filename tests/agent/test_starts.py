"""Starts that failed: when they are tried again."""

from __future__ import annotations

import time
from pathlib import Path

from runner.agent.starts import MOST_PAUSE_S, Starts


def test_each_pause_is_twice_as_long_as_the_one_before_up_to_an_hour(tmp_path: Path) -> None:
    now_s = time.time()
    pauses = []
    for _ in range(9):
        # A head that boots goes on where it was.
        failure = Starts.load(tmp_path).fail("a-1", "no machine", first_pause_s=60)
        pauses.append(round(failure.again_s - now_s))
    assert pauses[:4] == [60, 120, 240, 480]
    assert pauses[-1] == MOST_PAUSE_S
    assert failure.count == 9


def test_a_good_start_ends_the_count(tmp_path: Path) -> None:
    starts = Starts.load(tmp_path)
    starts.fail("a-1", "no machine", first_pause_s=60)
    starts.forget("a-1")
    starts.forget("a-1")
    assert Starts.load(tmp_path).failed == {}


def test_a_host_is_held_from_a_failure_until_it_may_be_started_again(tmp_path: Path) -> None:
    starts = Starts.load(tmp_path)
    assert starts.fail("a-1", "no machine", first_pause_s=60).held
    starts.let_go("a-1")
    starts.let_go("a-2")
    assert not Starts.load(tmp_path).failed["a-1"].held
    assert starts.fail("a-1", "no machine", first_pause_s=60).held


def test_notes_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / "starts.json").write_text('{"a-1": {"cou')
    assert Starts.load(tmp_path).failed == {}


def test_on_a_full_disk_a_failure_counts_and_is_kept_in_memory_until_there_is_room(tmp_path: Path) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    (tmp_path / "starts.part").symlink_to("/dev/full")
    for count in (1, 2):
        starts = Starts.load(tmp_path, spare=spare)
        assert starts.fail("a-1", "no machine", first_pause_s=60).count == count
    assert starts.failed["a-1"].count == 2
    assert Starts.load(tmp_path).fail("a-1", "no machine", first_pause_s=60).count == 1, (
        "without a spare, here alone"
    )
    (tmp_path / "starts.part").unlink()
    Starts.load(tmp_path, spare=spare).forget("a-1")
    assert Starts.load(tmp_path, spare=spare).failed == {}
    assert list(spare.iterdir()) == []
