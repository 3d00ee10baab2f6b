"""What each host is told: its processes, what they are told, and secrets in one place only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from runner import jobs
from runner.errors import PlanError
from runner.host.job import Job, rank_environment
from runner.place import Reservation, Slot
from runner.plan import Plan
from tests.flow import made

RUN = "20260101-000000-aaaa"
TEXT = made.TRAIN + (
    "resources: {nodes: 2, cpu: 2, memory: 1GiB, shm: 2GiB}\n"
    "secrets: [TOKEN]\n"
    "env: {DATA: '${{ datasets.mnist }}/x', KEY: 'k-${{ secrets.TOKEN }}',"
    " RUN: '${{ run.id }}', LR: '${{ inputs.lr }}'}\n"
)
SECRETS = {"TOKEN": "s3cr3t"}


def told(
    plan: Plan, *, image: str | None = None, attempt: int = 1, secrets: Mapping[str, str] = SECRETS
) -> dict[int, Job]:
    slots = tuple(
        Slot(node_rank=n, host="host", address="127.0.0.1", gpus=(f"GPU-{n}",))
        for n in range(plan.gang.nodes)
    )
    here = jobs.addressed(plan, Reservation(slots=slots), containers=image is not None)
    return jobs.jobs(
        plan,
        here,
        processes=jobs.processes(plan, here),
        run_id=RUN,
        attempt=attempt,
        resume=attempt > 1,
        store="/store",
        home=Path("/home"),
        venv=None if image else "/venv",
        image=image,
        secrets=secrets,
    )


def environ(job: Job) -> dict[str, str]:
    """Of the job's first rank, where the working folder is /work."""
    return rank_environment(job, job.processes[0], work=Path("/work"), datasets={"mnist": "/datasets/mnist"})


@pytest.fixture
def plan() -> Plan:
    return made.plan(TEXT, datasets=(made.DATA,))


def test_every_node_has_its_own_processes_logs_scratch_and_mirror(plan: Plan) -> None:
    first, second = told(plan).values()
    assert [p.rank for p in first.processes] == [0]
    assert [p.rank for p in second.processes] == [1]
    assert second.log_keys == {"1": f"runs/{RUN}/logs/attempt-1/rank-1.log"}
    assert (first.scratch, second.scratch) == (f"/home/scratch/{RUN}/node-0", f"/home/scratch/{RUN}/node-1")
    assert second.live_prefix == f"runs/{RUN}/live/node-1/"
    assert (first.gpus, second.gpus) == (("GPU-0",), ("GPU-1",))
    assert first.hostnames == second.hostnames == ("node-0", "node-1")


def test_metrics_are_read_on_the_first_node_alone(plan: Plan) -> None:
    first, second = told(plan).values()
    assert (first.metrics_key, second.metrics_key) == (f"runs/{RUN}/metrics.jsonl", None)


def test_a_job_means_the_same_at_the_other_end_of_the_pipe(plan: Plan) -> None:
    for job in told(plan, image="pushtrain/env:1").values():
        arrived = Job.from_json(json.loads(json.dumps(job.to_json())))
        assert (arrived.processes, arrived.datasets, arrived.limits) == (
            job.processes,
            job.datasets,
            job.limits,
        )
        assert environ(arrived) == environ(job)
        assert json.dumps(arrived.to_json()) == json.dumps(job.to_json())


def test_env_is_taken_apart_and_put_together_where_the_values_are_known(plan: Plan) -> None:
    job = told(plan)[0]
    assert job.env["DATA"] == (("variable", "PUSHTRAIN_DATASET_MNIST"), ("text", "/x"))
    assert job.env["KEY"] == (("text", "k-"), ("variable", "TOKEN"))
    assert job.env["LR"] == (("text", "0.1"),)
    told_it = environ(job)
    assert told_it["DATA"] == "/datasets/mnist/x"
    assert told_it["KEY"] == "k-s3cr3t"
    assert told_it["RUN"] == RUN


def test_a_secret_stands_nowhere_but_in_secrets(plan: Plan) -> None:
    for job in told(plan).values():
        plain = replace(job, secrets={})
        assert "s3cr3t" not in json.dumps(plain.to_json())
        assert "s3cr3t" not in repr(job)
        assert job.secrets == SECRETS


def test_ranks_know_where_they_are(plan: Plan) -> None:
    job = told(plan, attempt=2)[1]
    told_of_the_run = {
        "PUSHTRAIN_RUN_ID": RUN,
        "PUSHTRAIN_ATTEMPT": "2",
        "PUSHTRAIN_BRANCH": "main",
        "PUSHTRAIN_COMMIT": "c" * 40,
        "PUSHTRAIN_RANK": "1",
        "PUSHTRAIN_WORLD_SIZE": "2",
        "PUSHTRAIN_NODE_RANK": "1",
        "PUSHTRAIN_NODES": "2",
        "PUSHTRAIN_OUTPUTS": "/work/outputs",
        "PUSHTRAIN_LOGS": "/work/logs",
        "TOKEN": "s3cr3t",
        "PYTHONUNBUFFERED": "1",
    }
    assert told_of_the_run.items() <= environ(job).items()


def test_env_of_the_file_has_the_last_word() -> None:
    job = told(made.plan(made.PLAIN + "env: {PYTHONUNBUFFERED: '0'}\n"), secrets={})[0]
    assert environ(job)["PYTHONUNBUFFERED"] == "0"


def test_a_checkpoint_is_named_only_where_there_is_one(tmp_path: Path) -> None:
    plan = made.plan(made.PLAIN + "outputs: {checkpoints: outputs/checkpoints}\n")
    job = replace(told(plan, attempt=2)[0], scratch=str(tmp_path))
    assert "PUSHTRAIN_RESUME_FROM" not in environ(job)
    checkpoint = job.work / "outputs" / "checkpoints" / "step-10"
    checkpoint.mkdir(parents=True)
    assert "PUSHTRAIN_RESUME_FROM" not in environ(job)
    (checkpoint / "weights").touch()
    assert environ(job)["PUSHTRAIN_RESUME_FROM"] == "/work/outputs/checkpoints"
    assert "PUSHTRAIN_RESUME_FROM" not in environ(replace(job, resume=False))


def test_a_network_is_made_for_several_nodes_in_containers_only(plan: Plan) -> None:
    one = made.plan()
    assert {job.network for job in told(plan).values()} == {None}
    assert {job.network for job in told(plan, image="i").values()} == {f"pushtrain-{RUN}"}
    assert told(one, image="i", secrets={})[0].network is None


def test_containers_get_the_limits_of_the_file(plan: Plan) -> None:
    limits = told(plan)[0].limits
    assert (limits.cpus, limits.memory_bytes, limits.shm_bytes) == (2.0, 1 << 30, 2 << 30)


# Secrets of this process


def test_secrets_come_from_the_environment_of_who_starts_the_run(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "x")
    assert jobs.secrets_of(plan) == {"TOKEN": "x"}


def test_every_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PlanError, match="TOKEN, KEY") as caught:
        jobs.secrets_of(made.plan(made.PLAIN + "secrets: [TOKEN, KEY]\n"))
    assert caught.value.tip.startswith("export TOKEN=")
