"""What sbatch is told of a run, and when a job that Slurm puts back again and again is given up: no cluster."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from runner.engines.slurm import limit_s
from runner.engines.tending import in_vain
from runner.homes import home
from runner.place import Gang
from runner.runs import Attempt
from runner.slurm import submission
from runner.slurm.queue import Job, read_ended_on
from runner.slurm.submission import Wish
from runner.store import open_store
from tests.flow import made

RUN = "20260101-000000-aaaa"


def wish(*after: str) -> Wish:
    return Wish(
        run_id=RUN,
        comment="pushtrain digits acme/digits",
        gang=Gang(nodes=2, gpus_per_node=4),
        gres_type=None,
        features=(),
        priority=50,
        limit_s=None,
        after=after,
    )


def test_two_jobs_of_one_run_are_never_there_at_once() -> None:
    assert "--dependency=singleton" in submission.options(wish(), names=())
    assert "--dependency=singleton,afterany:7,afterany:9" in submission.options(wish("7", "9"), names=())


def test_variables_are_named_and_their_values_are_nowhere() -> None:
    told = submission.options(wish(), names={"API_TOKEN": "tok-5f2a9c71", "PUSHTRAIN_STORE": "s3://runs"})
    assert "--export=API_TOKEN,PUSHTRAIN_STORE" in told
    assert not [word for word in told if "tok-" in word or "s3:" in word]
    assert "--export=NIL" in submission.options(wish(), names=())


def on_host(*program: str, home: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = ["sh", "-c", submission.on_host(), "on-host", sys.executable, home, "/nowhere", *program]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environ)


def test_a_host_without_an_agent_keeps_things_where_its_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = ("-c", "import os; print(os.environ['PUSHTRAIN_HOME'])")
    found = on_host(*program, home="", environ={"HOME": str(tmp_path)})
    assert found.stdout.strip() == str(tmp_path / ".local/share/pushtrain")
    for told in (
        {"HOME": str(tmp_path)},
        {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")},
        {},
    ):
        for name in ("PUSHTRAIN_HOME", "XDG_DATA_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        assert on_host(*program, home="", environ=told).stdout.strip() == str(home()), "as `pushtrain` has it"
    assert on_host(*program, home="/srv/runs", environ={}).stdout.strip() == "/srv/runs"
    own = pwd.getpwuid(os.getuid()).pw_dir
    assert on_host(*program, home="", environ={}).stdout.strip() == f"{own}/.local/share/pushtrain"


def test_a_supervisors_log_is_its_owners_alone_and_what_it_starts_has_none(tmp_path: Path) -> None:
    program = ("-c", "import os, sys; print('said', sorted(os.environ)); sys.exit('why')")
    told = on_host(*program, home=str(tmp_path), environ={"PUSHTRAIN_LOG_OF": RUN})
    assert (told.returncode, told.stdout, told.stderr) == (1, "", "")
    log = tmp_path / "scratch" / RUN / "supervisor.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "said" in log.read_text()
    assert "why" in log.read_text()
    assert "LOG_OF" not in log.read_text()


def test_a_supervisor_without_room_for_a_log_starts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("no folder")
    told = on_host("-c", "print('said')", home=str(tmp_path), environ={"PUSHTRAIN_LOG_OF": RUN})
    assert (told.returncode, told.stdout) == (0, "said\n")


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        ("", None),
        ("timeout: {run: 2h}\n", 7200.0),
        ("timeout: {run: 2h}\nretry: {max: 2}\n", 3 * 7200.0),
        (
            "timeout: {run: 2h}\nretry: {max: 2}\npolicy: {max_gpu_hours: 5}\nresources: {gpu: 1}\n",
            5 * 3600.0,
        ),
    ],
)
def test_a_job_lasts_for_all_attempts_of_which_each_has_its_time(told: str, limit: float | None) -> None:
    assert limit_s(made.plan(made.PLAIN + told)) == limit


@pytest.mark.parametrize(("restarts", "attempts", "times"), [(30, 30, 0), (30, 2, 28), (0, 3, -3)])
def test_starts_of_a_job_after_which_the_run_trained_were_not_in_vain(
    tmp_path: Path, restarts: int, attempts: int, times: int
) -> None:
    """A run of low priority is preempted day and night, and trains all the same."""
    run = made.run(open_store(str(tmp_path)), RUN)
    trained = tuple(Attempt(number=number + 1, started_at_s=0.0) for number in range(attempts))
    assert in_vain(replace(run, attempts=trained), restarts) == times


def job(restarts: int) -> Job:
    return Job(
        id="7",
        name=RUN,
        state="PENDING",
        reason="Priority",
        priority=1,
        partition="p50",
        user="root",
        nodes=2,
        hosts="",
        gpus_per_node=4,
        submitted_at_s=0.0,
        starts_at_s=None,
        restarts=restarts,
        comment="pushtrain digits",
        features="",
    )


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("h1              16896           \n", ("h1", 66)),
        ("h1              0               \nh2              16896\n", ("h1", 0)),  # The last job comes first.
        ("h1              9               \n", ("h1", -9)),
        ("", None),
        ("n/a             \n", None),
        ("h1              4294967294      \n", None),
        ("h1              127             \n", None),
        # Since Slurm 23.02, commit 93928b0743 of SchedMD/slurm.
        ("h1              66:0            \n", ("h1", 66)),
        ("h1              0:0             \nh2              66:0\n", ("h1", 0)),
        ("h1              0:9             \n", ("h1", -9)),
    ],
)
def test_where_and_how_a_batch_script_ended(printed: str, found: tuple[str, int] | None) -> None:
    assert read_ended_on(printed) == found
