"""train.yml -> Spec, or every fault of the file at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from runner import document as documents
from runner import placeholders
from runner.document import Document
from runner.errors import Fault, SpecError
from runner.spec import faults, rules
from runner.spec.fields import Identifier, Name, RelativePath, Text
from runner.spec.inputs import Input
from runner.spec.section import Section
from runner.spec.sections import (
    Concurrency,
    DatasetSpec,
    Distribution,
    Env,
    EnvironmentSpec,
    FailIf,
    JaxDistribution,
    Metrics,
    MpiDistribution,
    Nodes,
    Outputs,
    Policy,
    Release,
    ReleaseResources,
    Resources,
    Retry,
    Secrets,
    SingleDistribution,
    TensorflowDistribution,
    Timeouts,
    TorchDistribution,
    Triggers,
    When,
)

__all__ = [
    "Concurrency",
    "DatasetSpec",
    "Distribution",
    "EnvironmentSpec",
    "FailIf",
    "Input",
    "JaxDistribution",
    "Metrics",
    "MpiDistribution",
    "Nodes",
    "Outputs",
    "Policy",
    "Release",
    "ReleaseResources",
    "Resources",
    "Retry",
    "SingleDistribution",
    "Spec",
    "TensorflowDistribution",
    "Timeouts",
    "TorchDistribution",
    "Triggers",
    "When",
    "load",
    "parse",
]

# Sections in which every key has a default, so that the file may leave them out.
_SECTIONS = (
    "on",
    "inputs",
    "datasets",
    "environment",
    "resources",
    "distribution",
    "env",
    "outputs",
    "metrics",
    "retry",
    "timeout",
    "policy",
)


class Spec(Section):
    """All of a train.yml, checked; what the file leaves out has its default."""

    name: Name = Field(description="What is trained.", examples=["tf-mnist"])
    on: Triggers = Field(default_factory=Triggers, description="What starts a run, besides `pushtrain run`.")
    inputs: Mapping[Identifier, Input] = Field({}, description="Parameters, as ${{ inputs.NAME }} in `run`.")
    datasets: Mapping[Identifier, DatasetSpec] = Field({}, description="Data, as ${{ datasets.NAME }}.")
    source: RelativePath = Field(".", description="The folder of the repository to train from.")
    environment: EnvironmentSpec = Field(
        default_factory=EnvironmentSpec, description="What is installed for it."
    )
    entrypoint: RelativePath | None = Field(
        None, description="A script; inputs become --name value.", examples=["train.py"]
    )
    run: Text | None = Field(
        None,
        description="Or a shell command line; placeholders in it are quoted for you.",
        examples=["python train.py --lr ${{ inputs.lr }}"],
    )
    resources: Resources = Field(default_factory=Resources, description="What each node needs.")
    distribution: Distribution = Field(
        default_factory=SingleDistribution, description="How the ranks find each other."
    )
    env: Env = Field({}, description="Environment variables of the training; values are text.")
    secrets: Secrets = Field((), description="Secrets that the training gets as environment variables.")
    outputs: Outputs = Field(default_factory=Outputs, description="The folders that are kept.")
    metrics: Metrics = Field(default_factory=Metrics, description="The metric that the run is judged by.")
    retry: Retry = Field(default_factory=Retry, description="When a failed run is started again.")
    timeout: Timeouts = Field(default_factory=Timeouts, description="Time limits.")
    policy: Policy = Field(default_factory=Policy, description="What a run may take from others.")
    concurrency: Concurrency | None = Field(None, description="Runs that must not run at once.")
    release: Release | None = Field(None, description="The model that a good run registers.")

    _document: Document | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        """Leaves out `x-…`, the place for anchors, reads `distribution: mpi` and an empty section."""
        if not isinstance(data, dict):
            return data
        kept: dict[str, Any] = {key: value for key, value in data.items() if not key.startswith("x-")}
        if isinstance(kept.get("distribution"), str):
            kept["distribution"] = {"type": kept["distribution"]}
        for name in _SECTIONS:
            kept[name] = {} if kept.get(name) is None else kept[name]
        if isinstance(kept["distribution"], dict):  # pydantic has no default for what tells members apart
            kept["distribution"] = {"type": "none", **kept["distribution"]}
        return kept

    def __eq__(self, other: object) -> bool:
        # Two files that say the same are equal, wherever their lines are.
        return isinstance(other, Spec) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # mappings cannot be hashed

    def position(self, key: str) -> tuple[int, int]:
        """Line and column in train.yml of a dotted key such as `environment.pip.2`, or of the nearest above.

        (1, 1) for a spec that was not read from a file.
        """
        return self._document.position(key) if self._document else (1, 1)

    @property
    def processes_per_node(self) -> int:
        """Ranks on each node: what distribution says, else one for each GPU, else one.

        The tasks of a TensorFlow cluster are dealt out evenly; of a range of nodes the larger number counts.
        """
        if isinstance(self.distribution, TensorflowDistribution):
            return len(self.distribution.tasks) // self.resources.nodes.max
        gpus = self.resources.gpu.count if self.resources.gpu else 1
        return getattr(self.distribution, "processes_per_node", 1) or gpus


def load(path: Path) -> Spec:
    """The spec in a file. Raises SpecError with all faults of the file."""
    return _validate(documents.read(path))


def parse(text: str, *, path: str = "train.yml") -> Spec:
    """The spec in `text`; `path` is only named in faults. Raises SpecError with all faults."""
    return _validate(documents.parse(text, path=path))


def _validate(document: Document) -> Spec:
    if document.data is None:
        raise SpecError((document.fault("", "is empty", expected="a mapping that starts with 'name:'"),))
    found = [*document.faults]
    spec = None
    try:
        spec = Spec.model_validate(document.data)
    except ValidationError as error:
        found += faults.translate(error, document, Spec)
    found += [*rules.check(document), *placeholders.check(document)]
    if spec is None or found:
        raise SpecError(_sorted(found, document), tip="pushtrain check")
    spec._document = document
    return spec


def _sorted(found: list[Fault], document: Document) -> tuple[Fault, ...]:
    """In the order of the lines, each once; what follows from a fault of the YAML itself is left out."""
    unread = {(fault.line, fault.column) for fault in document.faults}
    kept = [fault for fault in found if fault in document.faults or (fault.line, fault.column) not in unread]
    return tuple(sorted(dict.fromkeys(kept), key=lambda fault: (fault.line, fault.column, fault.key)))
