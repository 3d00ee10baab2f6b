from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.agent import processes
from runner.agent.daemons import Daemon
from runner.agent.keeper import Keeper
from runner.agent.processes import Noted, Process
from runner.errors import EngineError

STAYS = 'echo "$0 $$" >>"$1"; exec sleep 600'


class Bench:
    """A keeper of shell scripts, and what they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wakeup, self._write = os.pipe()
        self.keepers: list[Keeper] = []

    def daemon(self, name: str, script: str = STAYS, *, word: str = "") -> Daemon:
        return Daemon(name=name, argv=("sh", "-c", script, f"{name}{word}", str(self.folder / "starts")))

    def keeper(self, *daemons: Daemon) -> Keeper:
        made = Keeper(daemons, noted=self.folder / "daemons.json", logs=self.folder)
        self.keepers.append(made)
        return made

    def starts(self) -> list[str]:
        path = self.folder / "starts"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def noted(self) -> dict[str, Noted]:
        return processes.load(self.folder / "daemons.json")

    def process(self, name: str) -> Process:
        found = self.noted()[name].process
        assert found is not None
        return found

    def until(self, keeper: Keeper, true: Callable[[], bool], *, within_s: float = 20) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline_s
            keeper.wait(self.wakeup, most_s=0.05)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for keeper in made.keepers:
        keeper.end()


def test_daemons_start_in_order_and_end_the_other_way(bench: Bench) -> None:
    says = 'trap "echo end-$0 >>$1; exit" TERM; echo "$0" >>"$1"; while :; do sleep 0.05; done'
    keeper = bench.keeper(*(bench.daemon(name, says) for name in "abc"))
    keeper.begin()
    bench.until(keeper, lambda: len(bench.starts()) == 3)
    keeper.end()
    assert bench.starts()[3:] == ["end-c", "end-b", "end-a"]
    assert all(note.process is None for note in bench.noted().values())


def test_a_daemon_that_is_killed_is_started_again_at_once(bench: Bench) -> None:
    keeper = bench.keeper(bench.daemon("a"))
    keeper.begin()
    bench.until(keeper, lambda: len(bench.starts()) == 1)
    first = bench.process("a")
    os.kill(first.pid, signal.SIGKILL)
    killed_s = time.monotonic()
    bench.until(keeper, lambda: len(bench.starts()) == 2)
    assert time.monotonic() - killed_s < 1
    assert not first.alive


def test_a_daemon_that_dies_at_once_is_tried_ever_less_often(bench: Bench) -> None:
    keeper = bench.keeper(bench.daemon("a", 'echo "$0" >>"$1"; exit 3'))
    began_s = time.monotonic()
    keeper.begin()
    bench.until(keeper, lambda: bench.noted()["a"].failures == 3)
    # At once, after one second, after two.
    bench.until(keeper, lambda: len(bench.starts()) == 4)
    assert 3 <= time.monotonic() - began_s < 6


def test_a_program_that_is_not_there_is_tried_again_and_holds_up_no_other(bench: Bench) -> None:
    keeper = bench.keeper(Daemon(name="a", argv=("/nonexistent/a",)), bench.daemon("b"))
    keeper.begin()
    bench.until(keeper, lambda: bench.starts() == ["b"] and bench.noted()["a"].failures >= 2)


def test_daemons_outlive_their_keeper_and_are_taken_over(bench: Bench) -> None:
    # A keeper that is killed: a process of its own.
    script = (
        "import sys; from pathlib import Path; from runner.agent.keeper import Keeper\n"
        "from runner.agent.daemons import Daemon\n"
        "folder = Path(sys.argv[1])\n"
        "made = Daemon(name='a', argv=('sh', '-c', sys.argv[2], 'a', str(folder / 'starts')))\n"
        "Keeper((made,), noted=folder / 'daemons.json', logs=folder).begin()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(bench.folder), STAYS], check=True)
    process = bench.process("a")
    keeper = bench.keeper(bench.daemon("a"))
    keeper.begin()
    assert bench.process("a") == process
    bench.until(keeper, lambda: bench.starts() == ["a"])
    process.signal(signal.SIGKILL)
    bench.until(keeper, lambda: bench.starts() == ["a", "a"])


def test_a_daemon_is_noted_before_it_is_ready_so_that_none_is_forgotten_with_its_keeper(bench: Bench) -> None:
    ready = bench.folder / "ready"
    script = (
        f"until grep -q pid {bench.folder}/daemons.json; do sleep 0.5; done; touch {ready}; exec sleep 600"
    )
    bench.keeper(replace(bench.daemon("a", script), ready=ready)).begin()
    assert ready.exists(), "nothing was noted while it was waited for"


def test_a_daemon_that_is_to_be_another_is_not_taken_over(bench: Bench) -> None:
    bench.keeper(bench.daemon("a")).begin()
    before = bench.process("a")
    keeper = bench.keeper(bench.daemon("a", word="2"))
    keeper.begin()
    assert not before.alive
    bench.until(keeper, lambda: bench.starts()[-1] == "a2")


def test_a_number_that_was_given_again_is_not_the_same_process() -> None:
    ticks = processes.started_ticks(os.getpid())
    assert ticks is not None
    assert Process(pid=os.getpid(), started_ticks=ticks).alive
    other = Process(pid=os.getpid(), started_ticks=ticks - 1)
    assert not other.alive
    other.signal(signal.SIGKILL)


def test_a_daemon_may_be_let_to_end_and_comes_back(bench: Bench) -> None:
    keeper = bench.keeper(bench.daemon("a"))
    keeper.begin()
    bench.until(keeper, lambda: len(bench.starts()) == 1)
    keeper.restart("a")
    bench.until(keeper, lambda: len(bench.starts()) == 2)


def test_what_is_done_before_a_start_is_done_before_a_later_one_too_and_may_put_it_off(bench: Bench) -> None:
    asked: list[str] = []

    def refuses_the_second() -> None:
        asked.append("")
        if len(asked) == 2:
            raise EngineError("not now", tip="later")

    keeper = bench.keeper(bench.daemon("a"))
    keeper.begin(before={"a": refuses_the_second})
    bench.until(keeper, lambda: len(bench.starts()) == 1)
    keeper.restart("a")
    bench.until(keeper, lambda: len(bench.starts()) == 2)
    assert len(asked) == 3


def test_a_log_keeps_its_end_and_who_writes_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab") as writer:
        writer.write(b"x" * 1000 + b"end")
        writer.flush()
        processes.rotate(path, most_bytes=100)
        writer.write(b"more")
    assert path.read_bytes() == b"more"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 97 + b"end"


def test_the_end_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert processes.tail(path) == ""
    path.write_text("one\n\ntwo\nthree\n")
    assert processes.tail(path, lines=2) == "two\nthree"


def test_failures_are_counted_from_this_start_on(bench: Bench) -> None:
    ends = bench.daemon("a", "exit 1")
    keeper = bench.keeper(ends)
    keeper.begin()
    bench.until(keeper, lambda: bench.noted()["a"].failures == 3)
    keeper.end()
    assert bench.noted()["a"].failures == 0
    first = bench.keeper(bench.daemon("b"))
    first.begin()
    noted = bench.noted()
    processes.save(bench.folder / "daemons.json", {"b": replace(noted["b"], failures=4)})
    second = bench.keeper(bench.daemon("b"))
    second.begin()
    assert bench.noted()["b"].failures == 0
