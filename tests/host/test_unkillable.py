"""A process that the kernel does not let go: whoever ends processes says so, and its GPUs stay leased."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.host import leash
from runner.host.attempt import Attempt
from runner.host.gpu_use import GpuUse
from runner.launch import Process
from runner.lock import is_held
from runner.slurm import roll
from tests.engines.project import wait_for
from tests.fakes.bare_docker import bare_docker

from .jobs import job

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may freeze a file system")

MARK = "run-unkillable:0:1:"
WRITES = "import sys; print('I live', flush=True); open(sys.argv[1], 'w').write('x')"


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """A file system on which whoever writes waits in the kernel."""
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        subprocess.run(["fsfreeze", "--freeze", mounted], check=True)
        yield mounted
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", mounted], check=False)
        subprocess.run(["umount", mounted], check=True)


@pytest.fixture
def stuck(frozen: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A rank that waits for its disk, and no signal ends it."""
    argv = (sys.executable, "-c", WRITES, str(frozen / "x"))
    child = subprocess.Popen(argv, env={**os.environ, leash.MARK: f"{MARK}x"}, stdout=subprocess.PIPE)
    status = Path(f"/proc/{child.pid}/stat")
    assert child.stdout is not None
    child.stdout.readline()  # Before, it may wait for a moment for Python's own files.
    wait_for(lambda: status.read_text().rpartition(")")[2].split()[0] == "D", what="a process in the kernel")
    yield child
    subprocess.run(["fsfreeze", "--unfreeze", frozen], check=True)
    child.communicate()
    subprocess.run(["fsfreeze", "--freeze", frozen], check=True)


def test_who_ends_it_is_told_its_host_its_number_and_what_to_do(stuck: subprocess.Popen[bytes]) -> None:
    with pytest.raises(
        leash.Unkillable, match=f"SIGKILL does not end process {stuck.pid} .*state D"
    ) as raised:
        leash.end_processes(MARK, grace_s=0, within_s=0.2)
    assert os.uname().nodename in str(raised.value)
    assert f"/proc/{stuck.pid}/stack" in raised.value.tip


def test_the_guardian_of_a_lease_holds_it_until_the_process_is_gone(
    stuck: subprocess.Popen[bytes], frozen: Path, tmp_path: Path
) -> None:
    import fcntl

    path = tmp_path / "gpu.lock"
    with path.open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        guardian = subprocess.Popen(
            [sys.executable, "-m", "runner.host.leash", MARK, "local", "0", "0.2"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=(lease.fileno(),),
            env={
                **os.environ,
                "PUSHTRAIN_LEASE_FDS": str(lease.fileno()),
            },
        )
    assert guardian.stderr is not None
    with guardian.stderr as said:
        assert f"does not end process {stuck.pid}" in said.readline()
    assert is_held(path)
    subprocess.run(["fsfreeze", "--unfreeze", frozen], check=True)
    assert guardian.wait(60) == 0
    assert not is_held(path)
    subprocess.run(["fsfreeze", "--freeze", frozen], check=True)


def test_why_a_rank_did_not_start_is_told_all_the_same(
    stuck: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    rank = Process(rank=1, local_rank=0, node_rank=1, argv=("true",), kind="direct")
    told = job(tmp_path, rank, mark=MARK, log_keys={1: "runs/x/rank-1.log"})  # Without a working folder.
    events: list[dict[str, object]] = []
    attempt = Attempt(
        told,
        tell=lambda event, *, keep: events.append(event),
        post=lambda _, act: act(),
        gpu_use=GpuUse(),
    )
    attempt.go()
    assert [event["event"] for event in events] == ["error"]
    assert "rank 1 cannot be started" in str(events[0]["message"])
    assert stuck.poll() is None
    attempt.close()


def test_the_containers_of_its_run_are_removed_all_the_same(
    stuck: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bare_docker() as docker:
        monkeypatch.setenv("DOCKER_HOST", docker.address)
        with pytest.raises(leash.Unkillable, match=f"process {stuck.pid} "):
            roll.end(MARK.partition(":")[0], within_s=0.2)
    assert any("/containers/json" in each and "run-unkillable" in each for each in docker.asked)
