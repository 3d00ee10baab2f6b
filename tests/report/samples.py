"""Facts of runs as they are before, during and after a training, for the texts of GitHub."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runner.manifest import FileEntry
from runner.metrics import Series
from runner.place import Gang
from runner.plan import Asked, Distribution, Plan
from runner.report.facts import Base, Place, RunFacts
from runner.runs import Attempt, Run, Stage, State
from tests.flow import made

START_S = 1_767_225_600.0
ID, BASE_ID, EARLIER_ID = "20260101-000000-aaaa00", "20251231-090000-bbbb00", "20251231-200000-cccc00"
COMMIT, BASE_COMMIT = "a1b2c3d4e5" * 4, "0f9e8d7c6b" * 4
PLACE = Place(
    server_url="https://github.com",
    repository="acme/vision",
    job_url="https://github.com/acme/vision/actions/runs/7/job/9",
)
TRAIN = """\
name: digits
run: python train.py --lr ${{ inputs.lr }} --optimizer ${{ inputs.optimizer }} --epochs ${{ inputs.epochs }}
inputs:
  lr: {type: number, default: 0.1, min: 0, max: 1, description: "learning rate"}
  optimizer: {options: [adam, sgd], default: adam}
  epochs: {type: integer, default: 40}
resources: {gpu: "H100:4"}
metrics: {primary: accuracy, goal: maximize, fail_if: "< base - 0.01"}
"""
PASSED = "accuracy is 0.9725: passed, fails if < 0.9581, base is 0.9681"
MISSED = "accuracy is 0.9312 (best 0.9418 at step 900): failed, fails if < 0.9581, base is 0.9681"
LINES = (
    *(f"step {step}: loss {2 / (step + 1):.4f}" for step in range(1, 38)),
    "Traceback (most recent call last):",
    '  File "train.py", line 41, in <module>',
    "    loss.backward()",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
)
_SECONDS = {
    State.QUEUED: 0.2,
    State.PREPARING: 14.3,
    State.WAITING: 65.0,
    State.RUNNING: 724.0,
    State.COLLECTING: 3.1,
    State.PUBLISHING: 0.4,
}


def curve(name: str, *, reaches: float, points: int = 40, stride: int = 25, dips: float = 0.01) -> Series:
    """A curve that rises to `reaches`, with a ripple."""
    steps = tuple(stride * each for each in range(1, points + 1))
    values = [
        round(reaches * (1 - math.exp(-each / 7)) + dips * math.sin(each * 2.1), 5)
        for each in range(1, points)
    ]
    return Series(name=name, steps=steps, values=(*values, reaches))


def falling(name: str, *, reaches: float, points: int = 40, stride: int = 25) -> Series:
    steps = tuple(stride * each for each in range(1, points + 1))
    values = [round(reaches + 2 * math.exp(-each / 6), 5) for each in range(1, points)]
    return Series(name=name, steps=steps, values=(*values, reaches))


def measured(accuracy: float, loss: float, *, points: int = 40) -> Mapping[str, Series]:
    found = (
        falling("train/loss", reaches=loss, points=points),
        curve("accuracy", reaches=accuracy, points=points),
        curve("f1", reaches=round(accuracy - 0.004, 4), points=points),
    )
    return {each.name: each for each in found}


def plan(**asked: object) -> Plan:
    known: dict[str, object] = {
        "trigger": "comment",
        "commit": COMMIT,
        "branch": "warm-up",
        "dirty": False,
        "by": "octo-cat",
        "repository": "acme/vision",
        "pull": 12,
        "base": "main",
    }
    decided = made.plan(TRAIN, overrides=["lr=0.05"], engine="docker", datasets=(made.DATA,))
    gang = Gang(nodes=1, gpus_per_node=4, gpu_model="H100", processes_per_node=4)
    return replace(decided, gang=gang, asked=Asked(**{**known, **asked}), hash="f" * 64)  # type: ignore[arg-type]  # of those above


def stages(*states: State) -> tuple[Stage, ...]:
    at_s, found = START_S, []
    for state in states:
        last = state is states[-1]
        end_s = at_s + _SECONDS.get(state, 0.0)
        ended_at_s = (at_s if state.ended else None) if last else end_s
        found.append(Stage(state=state, started_at_s=at_s, ended_at_s=ended_at_s))
        at_s = end_s
    return tuple(found)


TRAINED = (
    State.QUEUED,
    State.PREPARING,
    State.WAITING,
    State.RUNNING,
    State.COLLECTING,
    State.PUBLISHING,
)


def run(*states: State, **fields: object) -> Run:
    known: dict[str, object] = {
        "id": ID,
        "name": "digits",
        "engine": "docker",
        "plan_hash": "f" * 64,
        "state": states[-1],
        "created_at_s": START_S,
        "branch": "warm-up",
        "commit": COMMIT,
        "inputs": {"epochs": 40, "lr": 0.05, "optimizer": "adam"},
        "world_size": 4,
        "stages": stages(*states),
        "environment": "image digits-env:4f1c",
        "environment_digest": "sha256:" + "e" * 64,
    }
    return Run(**{**known, **fields})  # type: ignore[arg-type]  # of those above


BASE_RUN = run(
    *TRAINED,
    State.SUCCEEDED,
    id=BASE_ID,
    branch="main",
    commit=BASE_COMMIT,
    inputs={"epochs": 40, "lr": 0.1, "optimizer": "adam"},
    metric=("accuracy", 0.9681),
)
BASE = Base(run=BASE_RUN, series=measured(0.9681, 0.1412))
EARLIER = run(
    State.QUEUED,
    State.PREPARING,
    State.RUNNING,
    State.FAILED,
    id=EARLIER_ID,
    commit="7777777" + "0" * 33,
    inputs={"epochs": 40, "lr": 0.5, "optimizer": "sgd"},
    reason="rank 0 ended with exit code 1",
    metric=None,
)
FILES = (
    FileEntry(path="outputs/model/config.json", size_bytes=512, digest="sha256:" + "1" * 64),
    FileEntry(path="outputs/model/weights.safetensors", size_bytes=98_304_000, digest="sha256:" + "2" * 64),
    FileEntry(path="logs/events.out.tfevents", size_bytes=20_480, digest="sha256:" + "3" * 64),
)


def facts(
    of: Run, *, series: Mapping[str, Series] | None = None, base: Base | None = BASE, **fields: object
) -> RunFacts:
    known: dict[str, object] = {
        "run": of,
        "plan": plan(),
        "series": {} if series is None else series,
        "base": base,
        "files": FILES if of.state.ended and of.attempts else (),
        "sealed": of.state.ended,
        "last_lines": (),
        "store": "s3://acme-training/runs",
        "place": PLACE,
        "release_url": None,
        "notes": (),
        "now_s": START_S + 800,
        "earlier": (EARLIER,),
    }
    return RunFacts(**{**known, **fields})  # type: ignore[arg-type]  # of those above


def attempt(outcome: str, **fields: object) -> Attempt:
    known: dict[str, object] = {"number": 1, "started_at_s": START_S + 80, "ended_at_s": START_S + 804}
    return Attempt(**{**known, "outcome": outcome, **fields})  # type: ignore[arg-type]  # of those above


def waiting() -> RunFacts:
    reason = f"waits for 4 GPUs, behind {EARLIER_ID}"
    return facts(run(State.QUEUED, State.PREPARING, State.WAITING, reason=reason), earlier=())


def running() -> RunFacts:
    at = run(State.QUEUED, State.PREPARING, State.WAITING, State.RUNNING, attempts=(attempt(""),))
    return facts(at, series=measured(0.9312, 0.4031, points=22), earlier=())


def succeeded(*, base: Base | None = BASE, earlier: Sequence[Run] = (EARLIER,)) -> RunFacts:
    ended = run(
        *TRAINED,
        State.SUCCEEDED,
        attempts=(attempt("succeeded", exit_code=0),),
        metric=("accuracy", 0.9725),
        verdict=PASSED if base else "accuracy is 0.9725: passed, since there is no base to hold it to",
        release="digits@1.3.0",
        exit_code=0,
    )
    url = "https://github.com/acme/vision/releases/tag/digits@v1.3.0"
    return facts(ended, series=measured(0.9725, 0.1198), base=base, earlier=earlier, release_url=url)


def gate_failed() -> RunFacts:
    ended = run(
        *TRAINED,
        State.FAILED,
        attempts=(attempt("succeeded", exit_code=0),),
        metric=("accuracy", 0.9312),
        verdict=MISSED,
        reason=MISSED,
        tip=f"pushtrain show {ID}",
        exit_code=1,
    )
    return facts(ended, series=measured(0.9312, 0.2407), last_lines=LINES)


def failed() -> RunFacts:
    cause = "the GPU's memory is full"
    ended = run(
        *TRAINED[:5],
        State.FAILED,
        attempts=(attempt("failed", exit_code=1, failed_rank=2, cause=cause, last_lines=LINES[-12:]),),
        reason=f"rank 2 ended with exit code 1: {cause}",
        tip="a smaller batch, or more in `resources.memory` of train.yml",
        exit_code=1,
    )
    return facts(ended, series=measured(0.61, 1.2, points=6), last_lines=LINES[-30:])


def build_failed() -> RunFacts:
    ended = run(
        State.QUEUED,
        State.PREPARING,
        State.FAILED,
        reason="environment.pip: no version of scikit-lern\nBecause scikit-lern was not found …\nno solution",
        tip="pushtrain check",
        exit_code=68,
    )
    lines = ("Resolving dependencies", "No solution found", "because scikit-lern was not found")
    return facts(ended, last_lines=lines, earlier=())


def cancelled() -> RunFacts:
    ended = run(
        *TRAINED[:5],
        State.CANCELLED,
        attempts=(attempt("cancelled", exit_code=130),),
        reason="cancelled by octo-cat on the pull request; outputs so far are kept",
        exit_code=130,
    )
    return facts(ended, series=measured(0.9312, 0.4031, points=22), last_lines=LINES[-3:])


def timed_out() -> RunFacts:
    cause = "timeout.run: it ran for more than 720 s"
    ended = run(
        *TRAINED[:5],
        State.FAILED,
        attempts=(attempt("timeout", exit_code=75, cause=cause),),
        reason=cause,
        tip="raise the limit below `timeout:` of train.yml, or set `retry:`",
        exit_code=75,
    )
    return facts(ended, series=measured(0.9312, 0.4031, points=22), last_lines=LINES[:5])


def gang_failed() -> RunFacts:
    """Two attempts of four ranks on two nodes: one lost its node, the other failed on a rank of the second."""
    cause = "the weights file is not there"
    ended = run(
        *TRAINED[:5],
        State.FAILED,
        attempts=(
            attempt("lost", cause="the host process of node 1 died", steps_lost=25, world_size=4),
            attempt(
                "failed",
                number=2,
                exit_code=7,
                failed_rank=3,
                failed_node=1,
                cause=cause,
                world_size=4,
                last_lines=LINES[-4:-1],
            ),
        ),
        reason=f"rank 3 (node 1) ended with exit code 7: {cause}",
        warnings=("ranks 0 and 2 wrote outputs/model.bin: the file is that of whoever wrote last",),
        exit_code=7,
    )
    gang = Gang(nodes=2, processes_per_node=2)
    planned = replace(plan(), gang=gang, distribution=Distribution(type="mpi"))
    return facts(ended, plan=planned, series=measured(0.61, 1.2, points=6), last_lines=LINES[-4:-1])


def elastic() -> RunFacts:
    """A gang of torch that went on with one node less."""
    at = run(
        State.QUEUED,
        State.PREPARING,
        State.RUNNING,
        attempts=(attempt("", world_size=3),),
        world_size=4,
        warnings=("node 3 was lost; its ranks are missing from then on",),
    )
    gang = Gang(nodes=4, min_nodes=2)
    distribution = Distribution(type="torch", min_nodes=2, elastic=True)
    planned = replace(plan(), gang=gang, distribution=distribution)
    return facts(at, plan=planned, series=measured(0.9312, 0.4031, points=22), earlier=())


FORK = "a fork's run: no secrets, no network while it trains, no release, no share in caches"


def of_fork() -> RunFacts:
    of = succeeded()
    branch = "somebody:patch-1"
    return replace(
        of,
        run=run(
            *TRAINED,
            State.SUCCEEDED,
            branch=branch,
            attempts=of.run.attempts,
            metric=of.run.metric,
            verdict=PASSED,
            exit_code=0,
        ),
        plan=replace(plan(branch=branch, fork=True), notes=(FORK,)),
        release_url=None,
        earlier=(),
    )


SAMPLES = {
    "waiting": waiting,
    "running": running,
    "succeeded": succeeded,
    "succeeded-no-base": lambda: succeeded(base=None, earlier=()),
    "gate-failed": gate_failed,
    "failed": failed,
    "build-failed": build_failed,
    "cancelled": cancelled,
    "timed-out": timed_out,
    "fork": of_fork,
    "gang-failed": gang_failed,
    "elastic": elastic,
}
