"""GPUs are found by NVML and leased to one run at a time."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from runner.gpus import GUARD, Gpu, acquire, discover, holders, matches

FAKES = Path(__file__).parent / "fakes"
HOLD = """
import sys
from pathlib import Path
from runner.gpus import Gpu, acquire
gpus = tuple(Gpu(index=i, uuid=f"GPU-{i}", model="H100", memory_bytes=1) for i in range(4))
lease = acquire(Path(sys.argv[1]), gpus, count=int(sys.argv[2]), holder=sys.argv[3])
print("none" if lease is None else ",".join(gpu.uuid for gpu in lease.gpus), flush=True)
"""
LIST = """
import dataclasses, json
from runner.gpus import discover
print(json.dumps([dataclasses.asdict(gpu) for gpu in discover()]))
"""
WAIT = "import sys; sys.stdin.read()"
WITH_CHILD = f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", {WAIT!r}], pass_fds=lease.fds)
print(child.pid, flush=True)
"""


def gpus(count: int, model: str = "NVIDIA H100 80GB HBM3") -> tuple[Gpu, ...]:
    return tuple(Gpu(index=i, uuid=f"GPU-{i}", model=model, memory_bytes=80 * 2**30) for i in range(count))


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def hold(folder: Path, count: int, holder: str, then: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD + then + WAIT, str(folder), str(count), holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def found(named: str) -> list[dict[str, object]]:
    env = {**os.environ, "PYTHONPATH": str(FAKES), "FAKE_GPUS": named}
    answer = subprocess.run([sys.executable, "-c", LIST], env=env, check=True, capture_output=True, text=True)
    listed: list[dict[str, object]] = json.loads(answer.stdout)
    return listed


def test_every_gpu_is_found_with_its_model_and_memory() -> None:
    assert found("NVIDIA H100 80GB HBM3:2") == [
        {"index": i, "uuid": f"GPU-fake-{i}", "model": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 * 2**30}
        for i in range(2)
    ]


def test_a_gpu_divided_by_mig_is_found_as_its_instances() -> None:
    listed = found("Tesla V100-SXM2-16GB:1,NVIDIA A100-SXM4-40GB:1/1g.5gb*2")
    assert [gpu["uuid"] for gpu in listed] == ["GPU-fake-0", "MIG-fake-1-0", "MIG-fake-1-1"]
    assert listed[1]["model"] == "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert listed[1]["memory_bytes"] == 5 * 2**30
    assert listed[1]["index"] == 1


@pytest.mark.parametrize("named", ["", "mismatch"])
def test_without_a_working_driver_there_are_no_gpus(named: str) -> None:
    assert found(named) == []


def test_looking_for_gpus_twice_gives_the_same() -> None:
    assert discover() == discover()


@pytest.mark.parametrize(
    ("model", "name", "expected"),
    [
        (None, "NVIDIA H100 80GB HBM3", True),
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100", "NVIDIA H100 80GB HBM3", True),
        ("H100-80GB", "NVIDIA H100 80GB HBM3", True),
        ("A100", "NVIDIA A100-SXM4-40GB", True),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", False),
        ("H10", "NVIDIA H100 80GB HBM3", False),
        ("H200", "NVIDIA GH200 480GB", False),
        ("1g.5gb", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", True),
    ],
)
def test_a_model_matches_by_whole_words(model: str | None, name: str, expected: bool) -> None:
    assert matches(Gpu(index=0, uuid="x", model=name, memory_bytes=1), model) is expected


def test_a_lease_takes_the_first_free_gpus_of_the_model(tmp_path: Path) -> None:
    mixed = (*gpus(1, "Tesla V100"), *gpus(4)[1:])
    with acquire(tmp_path, mixed, count=2, model="H100", holder="run-1") as lease:  # type: ignore[union-attr]  # None fails here
        assert [gpu.uuid for gpu in lease.gpus] == ["GPU-1", "GPU-2"]
        assert holders(tmp_path) == {"GPU-1": "run-1", "GPU-2": "run-1"}


def test_a_lease_is_all_or_none(tmp_path: Path) -> None:
    with acquire(tmp_path, gpus(4), count=3, holder="run-1"):  # type: ignore[union-attr]  # None fails here
        assert acquire(tmp_path, gpus(4), count=2, holder="run-2") is None
        assert set(holders(tmp_path).values()) == {"run-1"}
        assert len(holders(tmp_path)) == 3


def test_a_released_lease_is_free_and_nobody_holds_it(tmp_path: Path) -> None:
    for holder in ("a-long-name-of-a-run", "short"):
        lease = acquire(tmp_path, gpus(1), count=1, holder=holder)
        assert lease is not None
        assert holders(tmp_path) == {"GPU-0": holder}
        lease.release()
        assert holders(tmp_path) == {}


def test_nobody_holds_anything_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert holders(tmp_path / "none") == {}
    assert not (tmp_path / "none").exists()


def test_a_lease_of_no_gpus_always_succeeds(tmp_path: Path) -> None:
    lease = acquire(tmp_path, (), count=0, holder="run-1")
    assert lease is not None
    assert lease.fds == ()


def test_killing_the_holder_frees_its_gpus(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    started.append(process := hold(tmp_path, 3, "run-1"))
    assert line(process) == "GPU-0,GPU-1,GPU-2"
    assert acquire(tmp_path, gpus(4), count=2, holder="run-2") is None
    assert holders(tmp_path) == {"GPU-0": "run-1", "GPU-1": "run-1", "GPU-2": "run-1"}
    process.kill()
    process.wait()
    with acquire(tmp_path, gpus(4), count=4, holder="run-2"):  # type: ignore[union-attr]  # None fails here
        assert set(holders(tmp_path).values()) == {"run-2"}


def test_a_child_that_was_passed_the_lease_keeps_it_when_the_holder_is_killed(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    started.append(process := hold(tmp_path, 2, "run-1", WITH_CHILD))
    line(process)
    child = int(line(process))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holders(tmp_path) == {"GPU-0": "run-1", "GPU-1": "run-1"}
    pidfd = os.pidfd_open(child)
    os.kill(child, signal.SIGKILL)
    wait_for_end(pidfd)
    assert holders(tmp_path) == {}


def test_releasing_in_the_parent_leaves_the_childs_lease(tmp_path: Path) -> None:
    lease = acquire(tmp_path, gpus(1), count=1, holder="run-1")
    assert lease is not None
    child = subprocess.Popen([sys.executable, "-c", WAIT], stdin=subprocess.PIPE, pass_fds=lease.fds)
    try:
        lease.release()
        assert holders(tmp_path) == {"GPU-0": "run-1"}
    finally:
        child.kill()
        child.communicate()
    assert holders(tmp_path) == {}


def test_a_child_that_was_not_passed_the_lease_does_not_keep_it(tmp_path: Path) -> None:
    lease = acquire(tmp_path, gpus(1), count=1, holder="run-1")
    assert lease is not None
    child = subprocess.Popen(
        [sys.executable, "-c", f"print('started', flush=True); {WAIT}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        close_fds=False,
    )
    try:
        assert line(child) == "started"
        lease.release()
        assert holders(tmp_path) == {}
    finally:
        child.kill()
        child.communicate()


def test_leases_are_taken_one_after_the_other_so_that_none_is_split(tmp_path: Path) -> None:
    with (tmp_path / GUARD).open("w") as guard, ThreadPoolExecutor(1) as pool:
        fcntl.flock(guard, fcntl.LOCK_EX)
        taken = pool.submit(acquire, tmp_path, gpus(2), count=2, holder="run-1")
        assert not wait([taken], timeout=0.1).done
        fcntl.flock(guard, fcntl.LOCK_UN)
        lease = taken.result(timeout=10)
    assert lease is not None
    lease.release()


def test_of_many_at_once_exactly_as_many_win_as_fit(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    started.extend(hold(tmp_path, 2, f"run-{number}") for number in range(6))
    answers = [line(process) for process in started]
    won = sorted(gpu for answer in answers if answer != "none" for gpu in answer.split(","))
    assert won == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]


def wait_for_end(pidfd: int) -> None:
    import select

    ended, _, _ = select.select([pidfd], [], [], 10)
    os.close(pidfd)
    assert ended
