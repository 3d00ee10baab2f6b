"""A host that cannot supervise a run: what is told of it, in the run and with the host's name."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import entry, plan, runs
from runner.errors import EngineError
from runner.runs import State
from runner.store import open_store
from runner.supervise import fault
from tests.flow import made

RUN = runs.new_id(now_s=time.time())


def test_a_full_disk_is_told_as_that_and_other_faults_in_the_words_of_the_system(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there"
    full = fault(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), home)
    assert str(full).startswith(f"the disk of {socket.gethostname()} is full: ")
    broken = fault(OSError(errno.EROFS, os.strerror(errno.EROFS), str(home)), home)
    assert f"{socket.gethostname()} cannot supervise a run: [Errno 30] Read-only file system" in str(broken)


def test_a_machine_that_cannot_keep_a_supervisors_lock_says_so_in_the_run_which_can_be_resumed(
    tmp_path: Path,
) -> None:
    home, store = tmp_path / "home", open_store(f"file://{tmp_path / 'store'}")
    planned = made.plan()
    store.write(runs.key(RUN, "plan.json"), plan.to_json(planned).encode())
    entry.enter(store, planned, RUN)
    home.mkdir()
    (home / "scratch").write_text("no folder")
    argv = [sys.executable, "-m", "runner.supervise", RUN, "--engine", "local", "--store", store.uri]
    done = subprocess.run(
        argv, env={**os.environ, "PUSHTRAIN_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == EngineError.exit_code, done.stderr
    run = runs.load(store, RUN)
    assert not run.state.ended
    assert f"{socket.gethostname()} cannot supervise a run: " in run.reason
    assert run.tip.endswith(f"pushtrain resume {RUN}")


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_a_host_that_fails_after_the_runs_end_says_nothing_in_it_and_gives_nothing_up(
    tmp_path: Path, engine: str
) -> None:
    home, store = tmp_path / "home", open_store(f"file://{tmp_path / 'store'}")
    ended = made.run(store, RUN, State.PREPARING, State.RUNNING, State.SUCCEEDED, made=made.plan())
    home.mkdir()
    (home / "scratch").write_text("no folder")
    argv = [sys.executable, "-m", "runner.supervise", RUN, "--engine", engine, "--store", store.uri]
    done = subprocess.run(
        argv, env={**os.environ, "PUSHTRAIN_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{RUN} has ended, and this host did not clear up: " in done.stderr
    assert runs.load(store, RUN) == ended


def test_a_run_whose_leavings_could_not_be_removed_is_not_being_cleared_any_more(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    with pytest.raises(OSError, match="full"), runs.clearing(store, RUN):
        raise OSError("full")
    assert not runs.is_being_cleared(store, RUN)
