"""GPUs of a run that do nothing: named with their ranks, warned of once, or the end of the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner import causes, plan
from runner.errors import TrainingFailed
from runner.idle import Idle, Watch
from runner.launch import Process
from runner.plan import Limits
from runner.runs import Attempt
from tests.flow import made
from tests.flow.test_gang import FETCHED, NO_LIMITS, exited, stage, started

DONE = exited(0)
STRICT = replace(NO_LIMITS, min_gpu_util=0.2, idle_after_s=900.0)


def rank(number: int, *, node: int = 0, local: int = 0, gpus: str = "") -> Process:
    return Process(
        rank=number,
        local_rank=local,
        node_rank=node,
        argv=("true",),
        env={"CUDA_VISIBLE_DEVICES": gpus},
    )


def fed(watch: Watch, used: dict[str, float], *, seconds: int, node: int = 0, begin: int = 0) -> Idle | None:
    """What follows of telling the same every ten seconds."""
    found = None
    for second in range(begin, begin + seconds, 10):
        found = found or watch.add(node, used, now_s=float(second))
    return found


def watch(limits: Limits = STRICT, *processes: Process) -> Watch:
    return Watch(processes or (rank(0, gpus="GPU-a"), rank(1, local=1, gpus="GPU-b")), limits)


def test_a_gpu_that_does_too_little_for_long_enough_stops_the_run() -> None:
    seen = watch()
    assert fed(seen, {"GPU-a": 0.9, "GPU-b": 0.1}, seconds=900) is None
    found = seen.add(0, {"GPU-a": 0.9, "GPU-b": 0.1}, now_s=900.0)
    assert found == Idle(
        sentence="GPUs were idle: GPU-b (rank 1) 10% over the last 15m; policy.min_gpu_util asks for 20%",
        stops=True,
    )


def test_it_is_told_once() -> None:
    seen = watch()
    assert fed(seen, {"GPU-a": 0.0}, seconds=910) is not None
    assert fed(seen, {"GPU-a": 0.0}, seconds=3000, begin=910) is None


def test_a_gpu_that_works_now_and_then_is_judged_by_its_mean() -> None:
    seen = watch()
    for second in range(0, 4000, 10):
        assert seen.add(0, {"GPU-a": 1.0 if second % 40 == 0 else 0.0}, now_s=float(second)) is None


def test_what_was_long_ago_does_not_count() -> None:
    seen = watch()
    assert fed(seen, {"GPU-a": 1.0}, seconds=3600) is None
    assert fed(seen, {"GPU-a": 0.0}, seconds=700, begin=3600) is None
    assert fed(seen, {"GPU-a": 0.0}, seconds=200, begin=4300) is not None


def test_without_a_minimum_a_run_is_warned_after_half_an_hour_of_nothing() -> None:
    seen = watch(NO_LIMITS)
    assert fed(seen, {"GPU-a": 0.04}, seconds=1800) is None
    found = seen.add(0, {"GPU-a": 0.04}, now_s=1800.0)
    assert found == Idle(sentence="GPUs were idle: GPU-a (rank 0) 4% over the last 30m", stops=False)


def test_a_little_work_is_enough_where_there_is_no_minimum() -> None:
    assert fed(watch(NO_LIMITS), {"GPU-a": 0.06}, seconds=7200) is None


def test_gpus_of_several_nodes_are_named_with_their_nodes() -> None:
    both = "GPU-a,GPU-b"
    ranks = [
        rank(2 * node + local, node=node, local=local, gpus=both) for node in range(2) for local in range(2)
    ]
    seen = watch(STRICT, *ranks)
    for second in range(0, 900, 10):
        assert seen.add(0, {"GPU-a": 0.5, "GPU-b": 0.0}, now_s=float(second)) is None
        assert seen.add(1, {"GPU-a": 0.0, "GPU-b": 0.5}, now_s=float(second + 5)) is None
    found = seen.add(0, {"GPU-a": 0.5, "GPU-b": 0.0}, now_s=900.0)
    assert found is not None
    assert "GPU-b (node 0, rank 1) 0%, GPU-a (node 1, rank 2) 0% over" in found.sentence


def test_of_many_gpus_the_first_eight_are_named() -> None:
    gpus = [f"GPU-{number:02}" for number in range(12)]
    found = fed(watch(STRICT, rank(0, gpus=",".join(gpus))), dict.fromkeys(gpus, 0.0), seconds=910)
    assert found is not None
    assert found.sentence.count("GPU-") == 8
    assert " and 4 more over" in found.sentence


def test_a_gang_with_an_idle_gpu_is_stopped_for_it() -> None:
    beat = {"event": "beat", "silent_s": 0.0, "gpu_util": {"GPU-a": 0.0}}
    running = stage(
        {"fetch": (FETCHED,), "go": (started(), beat, beat), "stop": (exited(0, 143),)},
        limits=replace(STRICT, idle_after_s=1e-9),
    )
    outcome = running.run()
    assert (outcome.kind, outcome.code) == ("idle", 1)
    assert outcome.cause.startswith("GPUs were idle: GPU-a 0%")


def test_what_a_gpu_did_before_all_ranks_ran_does_not_count() -> None:
    beat = {"event": "beat", "silent_s": 0.0, "gpu_util": {"GPU-a": 0.0}}
    running = stage(
        {"fetch": (beat, beat, FETCHED), "go": (started(), DONE)}, limits=replace(STRICT, idle_after_s=1e-9)
    )
    assert running.run().kind == "succeeded"


def test_a_host_that_cannot_tell_of_its_gpus_is_named_once_where_they_count() -> None:
    why = "h1: The NVIDIA driver does not answer: Driver/library version mismatch"
    beat = {"event": "beat", "silent_s": 0.0, "gpu_unread": why}
    for limits, count in ((STRICT, 1), (NO_LIMITS, 0)):
        running = stage({"fetch": (FETCHED,), "go": (started(), beat, beat, DONE)}, limits=limits)
        assert running.run().kind == "succeeded"
        said = [each for each in running.gang.warnings if f"GPU use cannot be read on {why}" in each]
        assert len(said) == count
        assert all("policy.min_gpu_util has no effect" in each for each in said)


def test_the_run_tells_what_to_do() -> None:
    ended = Attempt(number=1, started_at_s=0.0, outcome="idle", exit_code=1, cause="GPUs were idle: GPU-a 0%")
    with pytest.raises(TrainingFailed, match="GPUs were idle: GPU-a 0%") as failed:
        causes.check(ended)
    assert "resources.gpu" in failed.value.tip


def test_the_minimum_of_train_yml_is_a_percentage() -> None:
    limits = made.plan(made.PLAIN + "policy: {min_gpu_util: 20, idle_after: 30m}\n").limits
    assert (limits.min_gpu_util, limits.idle_after_s) == (0.2, 1800.0)
    kept = plan.from_json(plan.to_json(made.plan(made.PLAIN)))
    assert (kept.limits.min_gpu_util, kept.limits.idle_after_s) == (None, 900.0)
