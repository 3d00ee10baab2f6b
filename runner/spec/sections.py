"""The sections of train.yml, each a frozen model with the words an editor shows for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from runner.quantities import MalformedError, format_value, shown
from runner.spec.fields import (
    AptPackage,
    Bytes,
    Command,
    CondaPackages,
    Digest,
    Globs,
    GpuField,
    Image,
    Labels,
    Limit,
    Line,
    Listed,
    Name,
    Percent,
    PipPackages,
    Positive,
    Python,
    RelativePath,
    Schedule,
    Seconds,
    Source,
    Text,
    Variable,
)
from runner.spec.section import Section

Role = Literal["read", "triage", "write", "maintain", "admin"]
RetryReason = Literal["node-lost", "preempted", "silence", "failure"]
ExitCode = Annotated[int, Field(ge=1, le=255)]
Count = Annotated[int, Field(ge=1, le=4096)]

_FAIL_IF = re.compile(
    r"(?P<operator><=|>=|<|>)\s*(?:(?P<base>base)(?:\s*(?P<sign>[+-])\s*(?P<offset>[0-9.]+(?:[eE][-+]?[0-9]+)?))?"
    r"|(?P<number>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?))"
)


class Push(Section):
    """A run for each push."""

    branches: Globs = Field(
        (),
        description="Branches, or patterns; all, where neither these nor tags are given.",
        examples=[["main"]],
    )
    tags: Globs = Field(
        (), description="Tags, or patterns; without them no tag starts a run.", examples=[["v*"]]
    )
    paths: Globs = Field(
        (), description="Only when a file that fits was changed; not asked of tags.", examples=[["src/**"]]
    )


class Comment(Section):
    """A run for a comment on a pull request."""

    command: Command = Field("/train", description="The first word of the comment.")
    roles: Annotated[tuple[Role, ...], Listed] = Field(
        ("write",), description="The least role on GitHub that may."
    )


class Triggers(Section):
    """What starts a run, besides `pushtrain run`."""

    push: Push | None = Field(None, description="A push to one of the branches.")
    comment: Comment | None = Field(None, description="A comment on a pull request, such as /train lr=0.1.")
    dispatch: bool = Field(True, description="A button or an API call.")
    schedule: Schedule = Field(
        (), description="The clock: five fields of cron for each time, in UTC.", examples=[["0 3 * * *"]]
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        """Reads `on: push`, `on: [push, comment]` and an empty `push:` as GitHub does."""
        names = [data] if isinstance(data, str) else data
        if isinstance(names, list):
            data = {name if isinstance(name, str) else shown(name): None for name in names}
        if not isinstance(data, dict):
            return data
        empty: dict[str, object] = {"push": {}, "comment": {}, "dispatch": True}
        return {name: empty.get(name) if value is None else value for name, value in data.items()}

    @model_serializer(mode="wrap")
    def _without_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Only what is set: `push: null` would be read as a push to any branch."""
        return {name: value for name, value in dump(self).items() if value is not None}


class DatasetSpec(Section):
    """Data that the training reads, found under `${{ datasets.NAME }}`."""

    source: Source = Field(description="s3://…, https://…, a path, or a registered NAME@v1.")
    mode: Literal["download", "mount"] = Field("download", description="Copied before the start, or mounted.")
    digest: Digest | None = Field(None, description="The run fails if the data is any other.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        return {"source": data} if isinstance(data, str) else data


class EnvironmentSpec(Section):
    """What is installed for the training; built once and kept."""

    base: Image | None = Field(None, description="The image to build on.", examples=["python:3.11-slim"])
    python: Python | None = Field(None, description="The version of Python.", examples=["3.11"])
    apt: Annotated[tuple[AptPackage, ...], Listed] = Field((), description="Debian packages.")
    pip: PipPackages | None = Field(None, description="A requirements file, or a list of packages.")
    conda: CondaPackages | None = Field(None, description="An environment file, or a list of packages.")
    dockerfile: RelativePath | None = Field(None, description="Your own Dockerfile instead.")
    image: Image | None = Field(None, description="A ready image, used as it is.")
    build_secrets: Annotated[tuple[Variable, ...], Listed] = Field(
        (), description="Environment variables that the build may read; never kept in the image."
    )
    legacy_keras: bool | None = Field(
        None,
        description="True: Keras 2 under a TensorFlow that has Keras 3. False: Keras 3 is meant, and several "
        "ranks are not refused for it.",
    )


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """How many nodes: from `min` to `max`, equal where the number is fixed."""

    min: int
    max: int

    def __str__(self) -> str:
        return str(self.min) if self.min == self.max else f"{self.min}..{self.max}"


def _nodes(value: object) -> Nodes:
    if isinstance(value, Nodes):
        return value
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"([0-9]{1,4})(?:\.\.([0-9]{1,4}))?", text, re.ASCII)
    nodes = Nodes(min=int(match[1]), max=int(match[2] or match[1])) if match else None
    if nodes is None or not 1 <= nodes.min <= nodes.max <= 4096:
        raise MalformedError(f"{shown(value)} is not a number of nodes", expected="2, or from 2..4 nodes")
    return nodes


NodesField = Annotated[
    Nodes,
    PlainValidator(_nodes),
    PlainSerializer(str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^[0-9]{1,4}(\.\.[0-9]{1,4})?$"},
            ],
            "examples": [2, "2..4"],
        }
    ),
]


class Resources(Section):
    """What each node of the run needs; all nodes are reserved at one moment."""

    nodes: NodesField = Field(Nodes(min=1, max=1), description="Nodes, or a range such as 2..4.")
    gpu: GpuField | None = Field(None, description="GPUs of each node.")
    cpu: Positive | None = Field(None, description="CPU cores of each node.", examples=[8, 0.5])
    memory_bytes: Bytes | None = Field(None, alias="memory", description="Memory of each node.")
    shm_bytes: Bytes | None = Field(None, alias="shm", description="Shared memory (/dev/shm) of each node.")
    labels: Labels = Field({}, description="Labels that the hosts must carry.")


Divergence = Literal["fail", "warn", "ignore"]


class SingleDistribution(Section):
    """The command once on each node, with nothing set up between them."""

    type: Literal["none"] = "none"
    processes_per_node: Count = Field(1, description="Processes on each node.")


class MpiDistribution(Section):
    """Ranks under mpirun, for Horovod and mpi4py."""

    type: Literal["mpi"]
    processes_per_node: Count | None = Field(None, description="Ranks on each node; one for each GPU.")
    timeline: bool = Field(False, description="Have Horovod write its timeline into logs.")
    divergence: Divergence = Field("fail", description="What follows when the ranks' weights differ.")


class TensorflowDistribution(Section):
    """`TF_CONFIG` for each task of a TensorFlow cluster."""

    type: Literal["tensorflow"]
    workers: Count = Field(1, description="Workers, without the chief.")
    parameter_servers: Annotated[int, Field(ge=0, le=4096)] = Field(0, description="Parameter servers.")
    chief: bool = Field(False, description="A chief besides the workers.")
    evaluator: bool = Field(False, description="An evaluator beside the cluster.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task of each rank, such as `worker 1`: the chief first, then workers, servers and the evaluator."""
        counts = {
            "chief": int(self.chief),
            "worker": self.workers,
            "ps": self.parameter_servers,
            "evaluator": int(self.evaluator),
        }
        return tuple(f"{kind} {index}" for kind, count in counts.items() for index in range(count))


class TorchDistribution(Section):
    """torchrun on each node; with a range of nodes the gang is elastic."""

    type: Literal["torch"]
    processes_per_node: Count | None = Field(None, description="Ranks on each node; one for each GPU.")
    divergence: Divergence = Field("warn", description="What follows when the ranks' weights differ.")


class JaxDistribution(Section):
    """`jax.distributed` set up for each process."""

    type: Literal["jax"]
    processes_per_node: Count = Field(1, description="Processes on each node.")


Distribution = Annotated[
    SingleDistribution | MpiDistribution | TensorflowDistribution | TorchDistribution | JaxDistribution,
    Field(discriminator="type"),
]


class Outputs(Section):
    """The folders that are kept while the training writes them."""

    path: RelativePath = Field("outputs", description="What the training leaves behind.")
    logs: RelativePath = Field("logs", description="TensorBoard event files and metrics.jsonl.")
    checkpoints: RelativePath | None = Field(None, description="Where a run that is resumed looks.")
    per_rank: bool = Field(
        False, description="Keep what every rank writes, not only rank 0, each in a folder."
    )
    artifact_bytes: Bytes = Field(
        100 << 20,
        alias="artifact-size",
        description="A workflow's artifact takes files up to so much in all.",
    )
    artifact_count: Annotated[int, Field(ge=0, le=10_000)] = Field(
        200, alias="artifact-count", description="And at most so many; the rest stays in the store."
    )


@dataclass(frozen=True, kw_only=True)
class FailIf:
    """The run fails if the metric is `operator` `offset`; if relative, the base branch's value is added."""

    operator: Literal["<", "<=", ">", ">="]
    relative: bool
    offset: float

    def __str__(self) -> str:
        if not self.relative:
            return f"{self.operator} {format_value(self.offset)}"
        if not self.offset:
            return f"{self.operator} base"
        return f"{self.operator} base {'-' if self.offset < 0 else '+'} {format_value(abs(self.offset))}"


def _fail_if(value: object) -> FailIf:
    if isinstance(value, FailIf):
        return value
    match = _FAIL_IF.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 60 else None
    number = (match["offset"] or match["number"] or "0") if match else ""
    if match is None or number.count(".") > 1 or number.strip("+-") == ".":
        raise MalformedError(
            f"{shown(value)} is not a condition", expected='"< 0.9", "< base" or "< base - 0.01"'
        )
    offset = float(number) * (-1 if match["sign"] == "-" else 1)
    operator: Any = match["operator"]
    return FailIf(operator=operator, relative=bool(match["base"]), offset=offset)


FailIfField = Annotated[
    FailIf,
    PlainValidator(_fail_if),
    PlainSerializer(str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*(<=|>=|<|>)\s*(base(\s*[+-]\s*[0-9.eE+-]+)?|[-+]?[0-9.eE+-]+)\s*$",
            "examples": ["< 0.9", "< base - 0.01"],
        }
    ),
]


class Metrics(Section):
    """The metric that the run is judged by."""

    primary: Line | None = Field(None, description="Its name.", examples=["accuracy"])
    goal: Literal["maximize", "minimize"] = Field("maximize", description="Which values are better.")
    fail_if: FailIfField | None = Field(None, description="When the run fails, even if it ended well.")


class Retry(Section):
    """When a run that failed is started again, from its last checkpoint."""

    max: Annotated[int, Field(ge=0, le=100)] = Field(0, description="How often at most.")
    on: Annotated[tuple[RetryReason, ...], Listed] = Field(
        ("node-lost", "preempted"), description="For which reasons."
    )
    exit_codes: Annotated[tuple[ExitCode, ...], Listed] = Field(
        (), description="And after which exit codes of the training."
    )


class Timeouts(Section):
    """Time limits; one that is left out is no limit."""

    queue_s: Limit | None = Field(None, alias="queue", description="Waiting for hosts.")
    run_s: Limit | None = Field(None, alias="run", description="The training.")
    silence_s: Limit | None = Field(None, alias="silence", description="Without a line of output.")
    grace_s: Seconds = Field(30.0, alias="grace", description="From being asked to stop until killed.")


class Policy(Section):
    """What a run may take from others."""

    priority: Annotated[int, Field(ge=0, le=100)] = Field(50, description="Higher goes first.")
    max_gpu_hours: Positive | None = Field(None, description="The run is stopped beyond it.")
    min_gpu_util: Percent | None = Field(None, description="GPUs less busy, in percent, stop the run.")
    idle_after_s: Limit = Field(900.0, alias="idle_after", description="For so long they may be.")
    reuse: bool = Field(True, description="Return the finished result of an equal run.")


class Concurrency(Section):
    """Runs of one group go one after the other."""

    group: Text = Field(description="The group's name.", examples=["${{ ref }}"])
    cancel_in_progress: bool = Field(
        False, alias="cancel-in-progress", description="A newer run cancels the older one."
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        return {"group": data} if isinstance(data, str) else data


class When(Section):
    """The condition for a release."""

    branch: Line | None = Field(None, description="Only runs on this branch.", examples=["main"])


class ReleaseResources(Section):
    """What serving the model needs."""

    cpu: Positive | None = Field(None, description="CPU cores.")
    memory_bytes: Bytes | None = Field(None, alias="memory", description="Memory.")


class Release(Section):
    """The version of a model that a good run leaves in the registry."""

    model: Name = Field(description="The model's name.", examples=["tf-dnn-mnist"])
    path: RelativePath = Field(description="The file or folder, inside outputs.", examples=["outputs/model"])
    framework: Line = Field(description="What the model was made with.", examples=["tensorflow", "sklearn"])
    framework_version: Line | None = Field(None, description="Its version; found where it is left out.")
    bump: Literal["major", "minor", "patch"] = Field("minor", description="Which part of the version grows.")
    when: When = Field(default_factory=When, description="The condition for a release.")
    resources: ReleaseResources = Field(
        default_factory=ReleaseResources, description="What serving the model needs."
    )


Env = Mapping[Variable, str]
Secrets = Annotated[tuple[Variable, ...], Listed]
