"""The last lines of a failed rank -> a likely cause, and what its end means for the run."""

from __future__ import annotations

from pathlib import Path

import msgspec
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


# The last 30 lines of programs that were made to fail (Open MPI 4.1.4, PyTorch 2.13, JAX 0.10, TensorFlow 2.15).
TEXTS = Path(__file__).parent / "texts"
REAL = {
    "gloo-timeout": ("the ranks lost each other (Gloo time-out)", "timeout.silence"),
    "jax-port": ("a port is in use", "ss -ltnp"),
    "libmpi-missing": ("Open MPI is missing in the environment", "openmpi-bin"),
    "mpi-segv": ("a segmentation fault", "PYTHONFAULTHANDLER"),
    "mpirun-agent-fails": ("mpirun could not start its daemons on the other nodes", "the same Open MPI"),
    "mpirun-agent-missing": ("mpirun cannot reach the other nodes: its agent is not there", "plm_rsh_agent"),
    "mpirun-interface": ("a network interface that was named is not there", "_if_include"),
    "mpirun-missing": ("Open MPI is missing in the environment", "openmpi-bin"),
    "mpirun-no-program": ("mpirun found no program nosuchprog on a node", "`run`"),
    "mpirun-root": ("mpirun refuses to run as root", "OMPI_ALLOW_RUN_AS_ROOT"),
    "mpirun-slots": ("mpirun was asked for more ranks than there are slots", "processes_per_node"),
    "open-files": ("too many open files", "ulimit -n"),
    "tf-port": ("a port is in use", "ss -ltnp"),
    "tf-server-port": ("a port is in use", "ss -ltnp"),
    "torch-first-rank": ("it could not reach the first rank", "ip -brief address"),
    "torch-meeting": ("not all ranks met in time: 1/2 came", "timeout.silence"),
    "torch-no-cuda": ("PyTorch was built without CUDA", "environment.pip"),
    "torch-no-nccl": ("PyTorch was built without CUDA", "environment.pip"),
    "torch-port": ("a port is in use", "ss -ltnp"),
    "torch-shm": ("the shared memory (/dev/shm) is full", "resources.shm"),
    "torchrun-port": ("a port is in use", "ss -ltnp"),
}


def test_every_real_text_has_its_cause() -> None:
    assert {path.stem for path in TEXTS.glob("*.txt")} == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_a_real_text_tells_its_cause_and_what_to_change(name: str) -> None:
    cause, change = REAL[name]
    assert causes.guess((TEXTS / f"{name}.txt").read_text().splitlines()) == cause
    assert change in causes.tip(cause)


# As the makers of these programs write them; nothing here has such a GPU.
@pytest.mark.parametrize(
    ("line", "cause", "change"),
    [
        (
            "RuntimeError: CUDA error: device-side assert triggered",
            "an assertion failed on the GPU",
            "LAUNCH_BLOCKING",
        ),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "a GPU is broken", "nvidia-smi"),
        ("RuntimeError: CUDA error: no CUDA-capable device is detected", "it sees no GPU", "resources.gpu"),
        ("RuntimeError: No CUDA GPUs are available", "it sees no GPU", "resources.gpu"),
        (
            "ncclInvalidUsage: Duplicate GPU detected : rank 1 and rank 0",
            "two ranks use one GPU",
            "LOCAL_RANK",
        ),
        (
            "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9, OpType=ALLREDUCE)",
            "the ranks lost each other (NCCL time-out)",
            "pushtrain logs",
        ),
        (
            "RuntimeError: DataLoader worker (pid 9) is killed by signal: Bus error. It is possible that ...",
            "a bus error: the shared memory (/dev/shm) may be full",
            "resources.shm",
        ),
        (
            "RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.",
            "out of memory: a process that loads data was killed",
            "resources.memory",
        ),
        (
            "horovod.common.exceptions.HorovodVersionMismatchError: Framework tensorflow installed with version 2.15",
            "Horovod was built for another version of its framework",
            "environment.pip",
        ),
        (
            "ImportError: libmpi.so.40: cannot open shared object file: No such file or directory",
            "Open MPI is missing in the environment",
            "openmpi-bin",
        ),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "the library libGL.so.1 is missing in the environment",
            "environment.apt",
        ),
        (
            "ImportError: cannot import name 'x' from 'y' (y.py)",
            "ImportError: cannot import name 'x' from 'y' (y.py)",
            "environment.pip",
        ),
        ("sh: 1: mpirun: not found", "Open MPI is missing in the environment", "openmpi-bin"),
        ("bash: line 1: mpirun: command not found", "Open MPI is missing in the environment", "openmpi-bin"),
        (
            "Illegal instruction (core dumped)",
            "an illegal instruction: it was built for another CPU",
            "lscpu",
        ),
        ("[rank3]: ValueError: y", "ValueError: y", ""),
    ],
)
def test_a_known_line_tells_its_cause_and_what_to_change(line: str, cause: str, change: str) -> None:
    guessed = causes.guess(["Traceback (most recent call last):", line])
    assert guessed.startswith(cause)
    assert change in causes.tip(guessed)


def test_a_reason_of_its_own_goes_before_what_others_caused() -> None:
    lines = ["ValueError: y", "ConnectionResetError: [Errno 104] Connection reset by peer"]
    assert causes.guess(lines) == "ValueError: y"
    assert causes.guess(lines[1:]) == "another rank was lost (its connection was closed)"


@pytest.mark.parametrize(
    ("signal", "cause", "change"),
    [
        ("SIGKILL", "killed from outside", "journalctl"),
        ("SIGTERM", "ended from outside", "journalctl"),
        ("SIGBUS", "a bus error: the shared memory (/dev/shm) may be full", "resources.shm"),
        ("SIGILL", "an illegal instruction: it was built for another CPU", "lscpu"),
        ("SIGSEGV", "a segmentation fault", "PYTHONFAULTHANDLER"),
    ],
)
def test_a_signal_that_came_without_a_word_tells_its_cause(signal: str, cause: str, change: str) -> None:
    assert causes.explain(["step 3"], signal=signal) == cause
    assert change in causes.tip(cause)


def test_what_the_host_knows_goes_before_what_a_rank_printed() -> None:
    assert causes.explain(["ValueError: y"], signal="SIGKILL", known=causes.KERNEL) == causes.KERNEL
    assert "resources.memory" in causes.tip(causes.KERNEL)


def test_what_a_killed_rank_printed_before_is_not_why_it_ended() -> None:
    assert causes.explain(["ValueError: skipped"], signal="SIGKILL") == "killed from outside"
    assert causes.explain(["ValueError: y"], signal="SIGABRT") == "ValueError: y"


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


def test_a_failed_rank_is_told_with_its_node_and_its_task() -> None:
    end = attempt("failed", exit_code=7, cause="ValueError: y")
    on_node = msgspec.structs.replace(end, failed_node=1)
    as_task = msgspec.structs.replace(on_node, failed_task="worker 1")
    with pytest.raises(TrainingFailed, match=r"^rank 3 \(node 1\) ended with exit code 7: ValueError: y$"):
        causes.check(on_node)
    with pytest.raises(
        TrainingFailed, match=r"^rank 3 \(node 1, worker 1\) ended with exit code 7: ValueError: y$"
    ):
        causes.check(as_task)


def test_a_launcher_that_failed_is_told_by_its_name() -> None:
    end = msgspec.structs.replace(
        attempt("failed", exit_code=1, cause="mpirun refuses to run as root"),
        failed_rank=None,
        failed_task="mpirun",
    )
    with pytest.raises(TrainingFailed) as caught:
        causes.check(end)
    assert (
        str(caught.value) == "mpirun ended with exit code 1 before the ranks: mpirun refuses to run as root"
    )
    assert "OMPI_ALLOW_RUN_AS_ROOT" in caught.value.tip


def test_ranks_that_differ_are_no_end_of_a_process() -> None:
    end = msgspec.structs.replace(
        attempt("failed", exit_code=1, cause="the weights differ"), failed_rank=None
    )
    with pytest.raises(TrainingFailed, match=r"^the weights differ$"):
        causes.check(end)


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


def test_only_the_last_lines_count_and_of_each_only_its_start() -> None:
    long = "NCCL " * (64 * 1024 // 5)
    assert (
        causes.spoken(["MemoryError"] + [long] * causes.LINES) == [long[: causes.CHARACTERS]] * causes.LINES
    )
    assert causes.guess([long + "timeout"]) == ""
    assert causes.guess(["MemoryError"] + [""] * causes.LINES) == ""
    assert not causes.is_consequence([long + "timeout"])
    assert list(causes.exceptions(["x" * causes.CHARACTERS + "Error"])) == []


def test_words_before_a_missing_word_are_read_once() -> None:
    assert causes.guess(["FATAL: this machine requires " + "a" * 1900]) == ""
