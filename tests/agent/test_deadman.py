"""A machine's own timer: what it takes for being alone, and what it does then."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.agent import deadman
from runner.agent.deadman import Timer

KNOWN = "NodeName=a-1 Arch=x86_64 Reason=was_DOWN_once State=IDLE+CLOUD ThreadsPerCore=1"


@dataclass(kw_only=True)
class Machine:
    """One whose scontrol says what a file says, and that writes a file instead of switching itself off."""

    folder: Path
    pids: set[int] = field(default_factory=set)

    def say(self, text: str | None) -> None:
        program = self.folder / "bin" / "scontrol"
        program.write_text(f"#!/bin/sh\necho '{text}'\n" if text else "#!/bin/sh\nexit 1\n")
        program.chmod(0o755)

    def start(self, *, alone_s: int = 2) -> int:
        pid = deadman.start(Timer(name="a-1", alone_s=alone_s, off=f"touch {self.folder}/off"))
        self.pids.add(pid)
        return pid

    @contextlib.contextmanager
    def timed(self, *, beside: str = "") -> Iterator[None]:
        """Its timer within the block, among processes of its own: `beside` is run there, too."""
        script = f'{beside}\nexec sh {deadman.SCRIPT} a-1 2 /nonexistent "touch {self.folder}/off"'
        own = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", script]
        with subprocess.Popen(own) as process:
            try:
                yield
            finally:
                process.kill()

    @property
    def off(self) -> bool:
        return (self.folder / "off").exists()

    def goes_off(self, *, within_s: float = 10.0) -> bool:
        deadline_s = time.monotonic() + within_s
        while not self.off and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return self.off


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    made = Machine(folder=tmp_path)
    yield made
    for pid in made.pids:
        if deadman.alive() == pid:
            os.kill(pid, signal.SIGKILL)


root = pytest.mark.skipif(os.geteuid() != 0, reason="processes of its own need root")


@root
@pytest.mark.parametrize(
    "said",
    [
        None,
        "NodeName=a-1 State=DOWN+CLOUD ThreadsPerCore=1",
        "NodeName=a-1 State=IDLE+CLOUD+POWERED_DOWN ThreadsPerCore=1",
        "Node a-1 not found",
    ],
)
def test_a_machine_that_is_alone_switches_itself_off(machine: Machine, said: str | None) -> None:
    machine.say(said)
    with machine.timed():
        assert machine.goes_off()


@root
def test_a_machine_that_the_head_counts_on_stays_until_it_is_heard_no_more(machine: Machine) -> None:
    machine.say(KNOWN)
    with machine.timed():
        assert not machine.goes_off(within_s=4.0)
        machine.say(None)
        assert machine.goes_off()


@root
def test_a_machine_on_which_a_job_runs_stays(machine: Machine) -> None:
    machine.say(None)
    with machine.timed(beside="(exec -a 'slurmstepd: [7.batch]' sleep 4) &"):
        assert not machine.goes_off(within_s=3.5)
        assert machine.goes_off()


def test_it_is_started_once_and_again_when_it_was_killed(machine: Machine) -> None:
    machine.say(KNOWN)
    pid = machine.start(alone_s=60)
    assert machine.start(alone_s=60) == pid
    os.kill(pid, signal.SIGKILL)
    while deadman.alive():
        time.sleep(0.02)
    deadman.keep()
    again = deadman.alive()
    assert again is not None
    machine.pids.add(again)


def test_where_none_was_started_none_is_kept(machine: Machine) -> None:
    deadman.keep()
    assert deadman.alive() is None
