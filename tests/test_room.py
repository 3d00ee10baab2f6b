from __future__ import annotations

import fcntl
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.services import room, slots

_Usage = namedtuple("_Usage", "total used free")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three kept folders, docker-1 used last, lab-0 first; each takes 10 of 100 bytes, 40 of which are free."""
    monkeypatch.setattr(slots, "_LOCKS", tmp_path)
    for used, name in enumerate(("lab-0", "docker-0", "docker-1")):
        (tmp_path / name / "data").mkdir(parents=True)
        os.utime(tmp_path / name, (used, used))
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(100, 0, 70 - 10 * _kept(path)))
    return tmp_path


def _kept(cache: Path) -> int:
    return sum(1 for each in cache.iterdir() if each.is_dir() and each.name != "wheels")


def test_what_was_longest_unused_goes_until_there_is_room(cache: Path) -> None:
    assert [each.name for each in room.make_room(cache, 60)] == ["lab-0", "docker-0"]
    assert [each.name for each in room.make_room(cache, 60)] == []
    assert (cache / "docker-1" / "data").is_dir()
    assert (cache / "wheels").is_dir()


def test_what_a_running_test_has_stays(cache: Path) -> None:
    with slots.lock_of("lab-{}.lock", 0).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [each.name for each in room.make_room(cache, 100)] == ["docker-0", "docker-1"]
    assert (cache / "lab-0").is_dir()


def test_enough_room_costs_nothing(cache: Path) -> None:
    assert room.make_room(cache, 40) == []
