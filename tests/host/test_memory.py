"""The kernel's counters -> whether it ended a process for memory. Shown with a real memory group, where root may."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.host import memory
from runner.host.memory import MemoryWatch
from tests.host.groups import Group, made_group

GREEDY = "b = [bytearray(b'x' * (8 << 20)) for _ in range(64)]"


@pytest.fixture
def group() -> Iterator[Group]:
    found = made_group()
    if found is None:
        pytest.skip("no memory group can be made here")
    yield found
    found.folder.rmdir()


def test_a_process_that_the_kernel_ends_for_memory_is_counted(group: Group) -> None:
    machine, own = MemoryWatch(), MemoryWatch(Path("/nowhere"), (group.folder / group.counter,))
    assert group.run(GREEDY) == -signal.SIGKILL
    assert own.kills() == 1
    assert machine.kills() >= 1


def test_a_process_that_was_killed_otherwise_is_not_counted(group: Group) -> None:
    own = MemoryWatch(Path("/nowhere"), (group.folder / group.counter,))
    assert group.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    assert own.kills() == 0


def test_what_was_counted_before_does_not_count(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("pgfault 9\noom_kill 18\nnuma_hit 1\n")
    watch = MemoryWatch(vmstat, ())
    assert watch.kills() == 0
    vmstat.write_text("pgfault 9\noom_kill 20\nnuma_hit 1\n")
    assert watch.kills() == 2


def test_what_was_counted_before_the_last_look_does_not_count_since_it(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("oom_kill 18\n")
    watch = MemoryWatch(vmstat, ())
    vmstat.write_text("oom_kill 20\n")
    assert watch.kills_since_look() == 2
    watch.look()
    assert watch.kills_since_look() == 2, "the news of a kill may come after the next look"
    watch.look()
    assert (watch.kills(), watch.kills_since_look()) == (2, 0)
    vmstat.write_text("oom_kill 21\n")
    assert (watch.kills(), watch.kills_since_look()) == (3, 1)


def test_counters_that_cannot_be_read_count_nothing(tmp_path: Path) -> None:
    assert MemoryWatch(tmp_path / "absent", (tmp_path / "also",)).kills() == 0


def test_the_own_group_is_found_under_either_version(tmp_path: Path) -> None:
    table = tmp_path / "cgroup"
    table.write_text("9:name=systemd:/\n4:cpu,memory:/box\n0::/job\n")
    root = tmp_path / "fs"
    old, new = root / "memory/box/memory.oom_control", root / "unified/job/memory.events"
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.touch()
    assert memory.own_group_files(table, root) == (old, new)
    assert memory.own_group_files(tmp_path / "absent", root) == ()
