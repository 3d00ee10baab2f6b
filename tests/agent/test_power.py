"""Slurm calls `resume` and `suspend` each in a process of its own: whoever waits for the lock may be late."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner import lock
from runner.agent.power import Growth
from runner.providers import Place, provider, settings
from tests.fakes.slurm import Said

# A machine is a file: its name, and in it a number that no other has. One that ends is there for a moment more.
MACHINES = """\
import pathlib, sys, time, uuid
verb, names = sys.argv[1], sys.argv[2:]
here = pathlib.Path(__file__).with_name("machines")
if verb == "start":
    for name in names:
        if (here / "refuse").exists():
            sys.exit("there is none")
        (here / f"m-{name}").write_text(uuid.uuid4().hex)
if verb == "stop":
    for name in names:
        if (here / f"m-{name}").exists():
            (here / f"m-{name}").rename(here / f"ending-{name}")
for each in sorted(here.glob("*-a-*")):
    print(each.name.partition("-")[2])
    if verb == "list" and each.name.startswith("ending-"):
        each.unlink()
"""
ELASTIC = """\
idle: 10s
start_within: 60s
stop_within: 30s
hosts:
  a: {{cpus: 2, memory: 4GiB, max_hosts: 3}}
command: {{start: "{call} start", stop: "{call} stop", list: "{call} list"}}
"""


@dataclass(kw_only=True)
class Head:
    """What Slurm calls, and what it says of a-1 when it is asked."""

    folder: Path
    state: str = "IDLE+CLOUD+POWERING_DOWN"
    said: dict[str, str] = field(default_factory=lambda: {"scontrol update": ""})

    def growth(self) -> Growth:
        """As a process of its own has it."""
        text = ELASTIC.format(call=f"{sys.executable} {self.folder / 'machines.py'}")
        read = settings.parse(text)
        place = Place(
            cluster="c", head="h0", address="10.0.0.9", token=self.folder / "token", state=self.folder
        )
        self.said["scontrol show"] = (
            f"NodeName=a-1 NodeAddr=a-1 CPUTot=2 CPUAlloc=0 RealMemory=9 State={self.state}\n"
        )
        slurm = Said(conf=self.folder / "slurm.conf", answers=self.said)
        return Growth(settings=read, provider=provider(read, place), slurm=slurm, state=self.folder)

    @property
    def machine(self) -> str:
        """The number of a-1's machine, empty where it has none."""
        path = self.folder / "machines" / "m-a-1"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines.py").write_text(MACHINES)
    return Head(folder=tmp_path)


def test_a_host_that_is_powered_down_has_its_machine_stopped_and_later_another(head: Head) -> None:
    head.growth().resume(["a-1"])
    first = head.machine
    head.growth().resume(["a-1"])
    assert head.machine == first, "safe to repeat"
    head.growth().suspend(["a-1"])
    assert head.machine == ""
    head.growth().resume(["a-1"])
    assert head.machine not in ("", first)


def test_a_host_that_is_wanted_again_when_its_stop_is_late_keeps_no_machine_of_before(head: Head) -> None:
    """Slurm waits for one that boots after it asked; the one that runs would never do."""
    head.growth().resume(["a-1"])
    first = head.machine
    head.state = "MIXED+CLOUD+POWERING_UP"
    head.growth().suspend(["a-1"])
    assert head.machine == first, "it is not the one to stop it any more"
    head.growth().resume(["a-1"])
    assert head.machine not in ("", first)
    second = head.machine
    head.growth().resume(["a-1"])
    assert head.machine == second


def test_whoever_of_a_late_stop_and_the_next_start_comes_first_there_is_a_new_machine(head: Head) -> None:
    head.growth().resume(["a-1"])
    first = head.machine
    with lock.held(head.folder / "power.lock") as ours:
        assert ours
        calls = [threading.Thread(target=head.growth().suspend, args=(["a-1"],))]
        calls[0].start()
        deadline_s = time.monotonic() + 60
        while not list(head.folder.glob("stops/*")):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        head.state = "MIXED+CLOUD+POWERING_UP"
        calls.append(threading.Thread(target=head.growth().resume, args=(["a-1"],)))
        calls[1].start()
    for each in calls:
        each.join(timeout=60)
    assert head.machine not in ("", first)
    assert list(head.folder.glob("stops/*")) == [], "what comes late finds that it is over"


def test_a_start_that_failed_counts_also_while_the_disk_of_the_head_is_full(head: Head) -> None:
    (head.folder / "starts.part").symlink_to("/dev/full")
    (head.folder / "machines" / "refuse").touch()
    for count in (1, 2):
        growth = head.growth()
        growth.resume(["a-1"])
        assert isinstance(growth.slurm, Said)
        assert any(f"reason=start {count} of 5 failed" in line for line in growth.slurm.asked), (
            growth.slurm.asked
        )
