"""A rank's processes -> where their threads are, by the real py-spy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.host import stacks

# A rank as the host starts it: a shell that leads a session, and a training that waits in a function with a name.
TRAINING = """
import subprocess, sys
def wait_for_the_other_ranks():
    print("ready", flush=True)
    sys.stdin.read()
wait_for_the_other_ranks()
"""


@pytest.fixture
def rank(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    argv = ["/bin/sh", "-c", f"{sys.executable} {script}; true"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
        child.communicate()


def test_the_function_that_a_rank_waits_in_is_named(rank: subprocess.Popen[str]) -> None:
    text = stacks.dump([rank.pid])
    assert "wait_for_the_other_ranks (train.py:5)" in text
    assert text.startswith(f"=== process {rank.pid}: /bin/sh -c ")


def test_the_family_of_a_rank_is_its_session_and_what_descends_from_it(rank: subprocess.Popen[str]) -> None:
    family = stacks.family([rank.pid])
    assert rank.pid in family
    assert len(family) == 2
    assert os.getpid() not in family


def test_a_process_that_left_the_session_is_found_by_its_parent() -> None:
    argv = ["/bin/sh", "-c", "setsid sh -c 'echo ready; read x; true'; true"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert len(stacks.family([child.pid])) == 2
        child.communicate("\n")


def test_a_rank_that_has_ended_says_so() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert stacks.dump([child.pid]) == "no process is left\n"


def test_a_dump_that_takes_too_long_is_given_up(
    rank: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    py_spy(tmp_path, "exec sleep 60", monkeypatch)
    assert "py-spy had no answer within 0.2 s" in stacks.dump([rank.pid], within_s=0.2)


def test_a_dump_that_is_not_permitted_says_what_to_change(
    rank: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    py_spy(
        tmp_path,
        "echo 'Permission Denied: Try running again with elevated permissions' >&2; exit 1",
        monkeypatch,
    )
    assert "sysctl kernel.yama.ptrace_scope=0" in stacks.dump([rank.pid])


def test_without_py_spy_the_text_says_so(
    rank: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    assert stacks.dump([rank.pid]) == "py-spy is not installed here: pip install py-spy\n"


def test_a_user_who_may_not_look_is_told_which_setting_forbids_it(rank: subprocess.Popen[str]) -> None:
    """The real refusal: another user's process."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody who may not look")
    code = (
        "import os, subprocess, sys; from runner.host import stacks; os.setgid(65534); os.setuid(65534);"
        f"print(stacks.dump([{rank.pid}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "not permitted to look into it (kernel.yama.ptrace_scope is " in done.stdout


def py_spy(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A py-spy on PATH that does this instead."""
    program = folder / "bin" / "py-spy"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
