"""The last lines of a failed rank -> a likely cause, and what its end means for the run."""

from __future__ import annotations

import pytest

from runner import causes
from runner.errors import Cancelled, TimedOut, TrainingFailed
from runner.runs import Attempt


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
            "the GPU's memory is full",
        ),
        ("CUDA_ERROR_OUT_OF_MEMORY: out of memory", "the GPU's memory is full"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out of memory"),
        ("MemoryError", "out of memory"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("OSError: [Errno 98] Address already in use", "a port is in use"),
        ("ModuleNotFoundError: No module named 'sklearn.svm'", "the package sklearn.svm is missing"),
        (
            "python: can't open file '/work/trian.py': [Errno 2] No such file or directory",
            "there is no file /work/trian.py in the source",
        ),
        ("sh: 1: horovodrun: not found", "there is no program horovodrun in the environment"),
        ("bash: line 1: nvcc: command not found", "there is no program nvcc in the environment"),
        ("/bin/sh: 3: python: not found", "there is no program python in the environment"),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: 'data/x.csv'",
            "there is no file data/x.csv",
        ),
        ("PermissionError: [Errno 13] Permission denied: '/data'", "it may not open /data"),
        ("NCCL WARN Call timed out after 1800 s", "the ranks lost each other (NCCL time-out)"),
        ("ValueError: shapes (3,) and {4,} differ", "ValueError: shapes (3,) and {4,} differ"),
        ("my.package.TrainingError", "my.package.TrainingError"),
        ("epoch 3 of 10, loss 0.1", ""),
        ("ValueError: model: not found", "ValueError: model: not found"),
        ("checkpoint.pt: not found, starting anew", ""),
    ],
)
def test_a_line_tells_its_cause(line: str, cause: str) -> None:
    assert causes.guess(["Traceback (most recent call last):", line]) == cause


def test_the_latest_line_that_tells_a_cause_counts() -> None:
    assert causes.guess(["MemoryError", "KeyError: 'x'", "bye"]) == "KeyError: 'x'"


def test_no_lines_tell_no_cause() -> None:
    assert causes.guess([]) == ""


def attempt(outcome: str, *, exit_code: int | None = None, signal: str = "", cause: str = "") -> Attempt:
    return Attempt(
        number=1,
        started_at_s=0.0,
        outcome=outcome,
        exit_code=exit_code,
        signal=signal,
        failed_rank=3,
        cause=cause,
    )


def test_an_attempt_that_succeeded_raises_nothing() -> None:
    causes.check(attempt("succeeded"))


def test_a_failed_rank_passes_its_exit_code_on() -> None:
    with pytest.raises(TrainingFailed) as caught:
        causes.check(attempt("failed", exit_code=7, cause="out of memory"))
    assert (caught.value.code, str(caught.value)) == (7, "rank 3 ended with exit code 7: out of memory")
    assert "resources.memory" in caught.value.tip


def test_a_rank_that_was_killed_is_told_with_the_signal() -> None:
    with pytest.raises(TrainingFailed, match=r"^rank 3 was ended by SIGKILL$") as caught:
        causes.check(attempt("failed", exit_code=137, signal="SIGKILL"))
    assert caught.value.code == 137


def test_a_missing_package_has_a_tip_where_to_add_it() -> None:
    with pytest.raises(TrainingFailed) as caught:
        causes.check(attempt("failed", exit_code=1, cause="the package pandas is missing"))
    assert "environment.pip" in caught.value.tip


def test_who_cancelled_an_attempt_and_why_is_told() -> None:
    with pytest.raises(Cancelled) as caught:
        causes.check(attempt("cancelled", cause="cancelled by ann on the pull request"))
    assert str(caught.value) == "cancelled by ann on the pull request; outputs so far are kept"


def test_cancelled_is_130_timed_out_is_75_and_a_lost_host_is_72() -> None:
    with pytest.raises(Cancelled) as cancelled:
        causes.check(attempt("cancelled"))
    with pytest.raises(TimedOut, match="too long") as timed_out:
        causes.check(attempt("timeout", cause="too long"))
    with pytest.raises(TrainingFailed, match="host died") as lost:
        causes.check(attempt("lost", cause="host died"))
    assert (cancelled.value.code, timed_out.value.code, lost.value.code) == (130, 75, 72)
