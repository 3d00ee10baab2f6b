"""Spec + Trigger + commit -> Plan: everything decided, nothing touched; equal inputs give equal bytes and one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from runner import decoding, placeholders, remarks
from runner.datasets import Dataset
from runner.environment import Recipe
from runner.errors import Corrupt, PlanError
from runner.parameters import parameters
from runner.place import Gang

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.repository import Source
    from runner.spec import Spec

Value = str | int | float | bool
DEFAULT_SHM_BYTES = 1 << 30
# Engines with many hosts and a queue of their own: they know labels and priorities.
FLEETS = ("slurm",)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits in seconds, None where there is none; `grace_s` is what ranks get between SIGTERM and SIGKILL.
    `run_s` is for each attempt, `budget_s` for all together. GPUs less busy than `min_gpu_util`, a share of 1, for
    `idle_after_s` stop the run."""

    queue_s: float | None
    run_s: float | None
    silence_s: float | None
    grace_s: float
    min_gpu_util: float | None = None
    idle_after_s: float = 900.0
    budget_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """How the primary metric is judged; `operator` and `offset` say when the run fails."""

    primary: str | None
    goal: Literal["maximize", "minimize"]
    operator: str | None
    relative: bool
    offset: float


@dataclass(frozen=True, kw_only=True)
class Folders:
    """What is kept of the working folder, and where checkpoints lie. `per_rank`: outputs of every rank are kept."""

    outputs: str
    logs: str
    checkpoints: str | None
    per_rank: bool = False


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How the ranks find each other. `tasks` names the task of each rank of TensorFlow: `chief 0`, `worker 1`, `ps 0`.

    An `elastic` gang goes on with fewer nodes, as few as `min_nodes`. `timeline` has Horovod write one. `divergence` is
    what happens when the ranks' weights differ.
    """

    type: str = "none"
    tasks: tuple[str, ...] = ()
    min_nodes: int = 1
    elastic: bool = False
    timeline: bool = False
    divergence: Literal["fail", "warn", "ignore"] = "ignore"


@dataclass(frozen=True, kw_only=True)
class ArtifactLimits:
    """How much of the outputs becomes an artifact of the workflow's job."""

    size_bytes: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often a failed gang is started again, after which exit codes and which losses (`node-lost`)."""

    max: int
    exit_codes: tuple[int, ...]
    on: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedRelease:
    """The model version that a successful run registers; `after` is the latest that is published elsewhere."""

    model: str
    path: str
    framework: str
    framework_version: str | None
    bump: Literal["major", "minor", "patch"]
    cpu: float | None
    memory_bytes: int | None
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who asked for what, on which commit. `trigger` is `local`, `push`, `comment`, `dispatch`, `schedule` or `button`.

    `by` is a login on GitHub, `repository` OWNER/NAME there, `pull` the number of a pull request, `base` the branch
    whose runs are compared with, `train_file` the path in the repository. The branch of a fork is `OWNER:BRANCH`, so
    that it is never taken for one of ours.
    """

    trigger: str
    commit: str | None
    branch: str | None
    dirty: bool
    tag: str | None = None
    by: str = ""
    repository: str | None = None
    pull: int | None = None
    base: str | None = None
    fork: bool = False
    train_file: str = "train.yml"

    @property
    def ref(self) -> str:
        """The branch or the tag, empty where there is neither."""
        return self.branch or self.tag or ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before it happens. After this nothing is decided any more.

    `hash` covers what the result depends on (source tree, command, inputs, environment, data, gang, metrics and
    release), not who asked, on which engine's machine, or for how long it may run. An `isolated` run is a fork's: it
    shares nothing with others. Runs of one `group` go one after the other; `supersede` cancels the older ones.
    `priority` is 0 to 100; where the engine has a queue, higher goes first.
    """

    name: str
    asked: Asked
    tree: str
    inputs: Mapping[str, Value]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[str, ...]
    engine: str
    environment: Recipe
    gang: Gang
    distribution: Distribution
    shm_bytes: int
    datasets: tuple[Dataset, ...]
    folders: Folders
    gate: Gate
    limits: Limits
    retries: Retries
    release: PlannedRelease | None
    reuse: bool
    notes: tuple[str, ...]
    isolated: bool = False
    group: str | None = None
    supersede: bool = False
    priority: int = 50
    artifacts: ArtifactLimits = ArtifactLimits(size_bytes=100 << 20, count=200)
    hash: str = ""


_NOT_HASHED = (
    "asked",
    "engine",
    "limits",
    "retries",
    "reuse",
    "notes",
    "hash",
    "secrets",
    "group",
    "supersede",
    "priority",
    "artifacts",
)


def decide(
    spec: Spec,
    source: Source,
    *,
    overrides: Sequence[str],
    engine: str,
    recipe: Recipe,
    datasets: tuple[Dataset, ...],
    asked: Asked | None = None,
) -> Plan:
    """The plan. Pure. `asked` None is a run by hand. Raises PlanError for what cannot be done as asked."""
    values = parameters(spec, overrides)
    asked = asked or by_hand(source)
    _check_labels(spec, engine)
    release, notes = _release(spec, asked.branch)
    plan = Plan(
        name=spec.name,
        asked=asked,
        tree=source.tree,
        inputs=dict(sorted(values.items())),
        argv=_command(spec, values),
        env=dict(sorted(spec.env.items())),
        secrets=spec.secrets,
        engine=engine,
        environment=recipe,
        gang=_gang(spec),
        distribution=_distribution(spec),
        shm_bytes=spec.resources.shm_bytes or DEFAULT_SHM_BYTES,
        datasets=datasets,
        folders=Folders(
            outputs=spec.outputs.path,
            logs=spec.outputs.logs,
            checkpoints=spec.outputs.checkpoints,
            per_rank=spec.outputs.per_rank,
        ),
        gate=_gate(spec),
        limits=Limits(
            queue_s=spec.timeout.queue_s,
            run_s=min(filter(None, (spec.timeout.run_s, _budget_s(spec))), default=None),
            silence_s=spec.timeout.silence_s,
            grace_s=spec.timeout.grace_s,
            min_gpu_util=None if spec.policy.min_gpu_util is None else spec.policy.min_gpu_util / 100,
            idle_after_s=spec.policy.idle_after_s,
            budget_s=_budget_s(spec),
        ),
        retries=Retries(max=spec.retry.max, exit_codes=spec.retry.exit_codes, on=spec.retry.on),
        release=release,
        reuse=spec.policy.reuse,
        notes=(*notes, *_remarks(spec, asked, engine)),
        artifacts=ArtifactLimits(size_bytes=spec.outputs.artifact_bytes, count=spec.outputs.artifact_count),
        isolated=asked.fork,
        group=_group(spec, source, asked, overrides=overrides),
        supersede=spec.concurrency is not None and spec.concurrency.cancel_in_progress,
        priority=spec.policy.priority,
    )
    return replace(plan, hash=_hash(plan))


def by_hand(source: Source) -> Asked:
    """Nobody but the person at the terminal."""
    return Asked(trigger="local", commit=source.commit, branch=source.branch, dirty=source.dirty)


def known_text(
    spec: Spec, source: Source, *, overrides: Sequence[str], asked: Asked | None = None
) -> Callable[[str], str]:
    """A function that fills in what is known at plan time: inputs, ref, branch and commit. Raises as `parameters`."""
    values = parameters(spec, overrides)
    asked = asked or by_hand(source)
    facts = {"ref": asked.ref, "branch": asked.branch or "", "commit": asked.commit or ""}

    def filled(template: str) -> str:
        parts = placeholders.bind(placeholders.parse(template), values)
        return placeholders.resolve(parts, lambda reference: facts[str(reference)])

    return filled


def _command(spec: Spec, values: Mapping[str, Value]) -> tuple[str, ...]:
    if spec.run is not None:
        return ("/bin/sh", "-c", placeholders.shell(spec.run, values))
    assert spec.entrypoint is not None
    program = ("/bin/sh",) if spec.entrypoint.endswith(".sh") else ("python",)
    return (*program, spec.entrypoint, *placeholders.arguments(values))


def _gang(spec: Spec) -> Gang:
    resources = spec.resources
    gpu = resources.gpu
    return Gang(
        nodes=resources.nodes.max,
        min_nodes=resources.nodes.min if _is_elastic(spec) else None,
        processes_per_node=spec.processes_per_node,
        gpus_per_node=gpu.count if gpu is not None else 0,
        gpu_model=gpu.model if gpu is not None else None,
        cpus=resources.cpu,
        memory_bytes=resources.memory_bytes,
        labels=tuple(sorted(resources.labels.items())),
    )


def _distribution(spec: Spec) -> Distribution:
    nodes, kind = spec.resources.nodes, spec.distribution
    return Distribution(
        type=kind.type,
        tasks=getattr(kind, "tasks", ()),
        min_nodes=nodes.min,
        elastic=_is_elastic(spec),
        timeline=getattr(kind, "timeline", False),
        divergence=getattr(kind, "divergence", "ignore"),
    )


def _is_elastic(spec: Spec) -> bool:
    """Whether the gang may start, or go on, with fewer nodes: torchrun alone can."""
    nodes = spec.resources.nodes
    return spec.distribution.type == "torch" and nodes.min < nodes.max


def _check_labels(spec: Spec, engine: str) -> None:
    if spec.resources.labels and engine not in FLEETS:
        named = ", ".join(f"{name}: {value}" for name, value in sorted(spec.resources.labels.items()))
        raise PlanError(
            f"resources.labels ({named}) choose among the hosts of a fleet, and the engine {engine} has one host, "
            "which carries none",
            tip="--engine slurm, or take labels out to run on this machine",
        )


def _remarks(spec: Spec, asked: Asked, engine: str) -> tuple[str, ...]:
    fleet = engine in FLEETS
    return (*remarks.unused(spec, by_hand=asked.trigger == "local", fleet=fleet), *remarks.exposed(spec))


def _gate(spec: Spec) -> Gate:
    fail_if = spec.metrics.fail_if
    return Gate(
        primary=spec.metrics.primary,
        goal=spec.metrics.goal,
        operator=fail_if.operator if fail_if is not None else None,
        relative=fail_if.relative if fail_if is not None else False,
        offset=fail_if.offset if fail_if is not None else 0.0,
    )


def _budget_s(spec: Spec) -> float | None:
    """For how long all attempts together may have the GPUs of the whole gang, by `policy.max_gpu_hours`."""
    gang, hours = _gang(spec), spec.policy.max_gpu_hours
    gpus = gang.nodes * gang.gpus_per_node
    return hours * 3600 / gpus if hours is not None and gpus else None


def _release(spec: Spec, branch: str | None) -> tuple[PlannedRelease | None, tuple[str, ...]]:
    release = spec.release
    if release is None:
        return None, ()
    wanted = release.when.branch
    if wanted is not None and wanted != branch:
        return None, (
            f"no release: train.yml releases from branch {wanted}, this is {branch or 'no branch'}",
        )
    planned = PlannedRelease(
        model=release.model,
        path=release.path,
        framework=release.framework,
        framework_version=release.framework_version,
        bump=release.bump,
        cpu=release.resources.cpu,
        memory_bytes=release.resources.memory_bytes,
    )
    return planned, ()


def _group(spec: Spec, source: Source, asked: Asked, *, overrides: Sequence[str]) -> str | None:
    """The group that the run belongs to: a run by hand belongs to none."""
    if spec.concurrency is None or asked.trigger == "local":
        return None
    filled = known_text(spec, source, overrides=overrides, asked=asked)(spec.concurrency.group)
    return f"{asked.repository or ''}: {spec.name}: {filled}"


def to_json(plan: Plan) -> str:
    """The plan as JSON: sorted keys, byte-equal for equal plans."""
    return json.dumps(asdict(plan), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def from_json(text: str | bytes) -> Plan:
    """The reverse of `to_json`. Raises Corrupt for what is no plan."""
    import msgspec

    try:
        return decoding.from_json(text, Plan)
    except msgspec.DecodeError as error:
        raise Corrupt(f"a plan cannot be read: {error}") from error


def _hash(plan: Plan) -> str:
    decided = {name: value for name, value in asdict(plan).items() if name not in _NOT_HASHED}
    # Labels choose where it is trained, not what.
    decided["gang"] = {name: value for name, value in decided["gang"].items() if name != "labels"}
    # Equal data is equal wherever it lies, and an environment is what its key says.
    decided["datasets"] = [(d.name, d.digest) for d in plan.datasets]
    decided["environment"] = plan.environment.key
    if plan.release is not None:
        decided["release"] = {k: v for k, v in asdict(plan.release).items() if k != "after"}
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()
