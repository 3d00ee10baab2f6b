"""elastic.yml -> the hosts that may be started, and by whom; or every fault of the file at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from runner import document as documents
from runner.document import Document
from runner.errors import SpecError
from runner.quantities import MalformedError, duration, size
from runner.spec import faults
from runner.spec.fields import Line, Listed, matching
from runner.spec.section import Section

MOST_OF_A_KIND = 500

_KIND = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_BUCKET = r"s3://[a-z0-9][a-z0-9.-]+(?:/[A-Za-z0-9._/-]*)?"

KindName = Annotated[str, matching(_KIND, "small letters, digits and -, such as a100")]
Label = Annotated[str, matching(_LABEL, "letters, digits, . _ and -")]
Seconds = Annotated[float, BeforeValidator(duration)]
Bytes = Annotated[int, BeforeValidator(size)]
Lines = Annotated[tuple[Line, ...], Listed]


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise MalformedError("is an empty list", expected="at least one")
    return values


Some = Annotated[tuple[Line, ...], Listed, AfterValidator(_some)]


class Kind(Section):
    """Hosts that are alike, as Slurm queues for them before they exist: KIND-1 to KIND-max_hosts."""

    cpus: int = Field(ge=1, le=4096)
    memory: Bytes
    gpu: Line | None = None
    gpus: int = Field(0, ge=0, le=64)
    labels: Mapping[Label, Label] = {}
    min_hosts: int = Field(0, ge=0)
    max_hosts: int = Field(ge=1, le=MOST_OF_A_KIND)
    types: Lines = ()

    @model_validator(mode="after")
    def _consistent(self) -> Kind:
        if self.min_hosts > self.max_hosts:
            raise MalformedError(
                f"{self.min_hosts} is more than max_hosts",
                expected=f"at most {self.max_hosts}",
                at="min_hosts",
            )
        if self.gpus and self.gpu is None:
            raise MalformedError("is missing", expected="the model as nvidia-smi -L names it", at="gpu")
        if self.gpu is not None and not self.gpus:
            raise MalformedError("is missing", expected="how many GPUs such a host has", at="gpus")
        return self


class Command(Section):
    """Machines by three commands of one's own; see runner.providers.command for what they are told."""

    start: Line
    stop: Line
    list: Line
    timeout: Seconds = 300.0


class Ec2(Section):
    """Machines of Amazon EC2. The token goes by `token`, a folder in S3, as a URL that is good until `start_within`."""

    region: Line
    image: Line
    subnets: Some
    security_groups: Some
    token: Annotated[str, matching(_BUCKET, "s3://BUCKET/PREFIX")]
    profile: Line | None = None
    key: Line | None = None
    spot: bool = False
    disk: Bytes = 200 * 2**30
    root_device: Line = "/dev/xvda"
    endpoint: Line | None = None


class Elastic(Section):
    """How a fleet grows and shrinks; what the file leaves out has its default. Durations are seconds."""

    hosts: Mapping[KindName, Kind]
    idle: Seconds = 600.0
    start_within: Seconds = 900.0
    stop_within: Seconds = 120.0
    alone: Seconds = 900.0
    attempts: int = Field(5, ge=1, le=100)
    again_after: Seconds = 60.0
    command: Command | None = None
    ec2: Ec2 | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Elastic:
        if not self.hosts:
            raise MalformedError("is empty", expected="at least one kind of host", at="hosts")
        if (self.command is None) == (self.ec2 is None):
            raise MalformedError(
                f"{'no' if self.ec2 is None else 'more than one'} provider",
                expected="either ec2: or command:",
            )
        for name, kind in self.hosts.items():
            if self.ec2 is not None and not kind.types:
                raise MalformedError(
                    "is missing", expected="machine types, such as [p4d.24xlarge]", at=f"hosts.{name}.types"
                )
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All hosts that there may be."""
        return tuple(name for kind in self.hosts for name in self.names_of(kind))

    def names_of(self, kind: str) -> tuple[str, ...]:
        """Those of a kind, in their order."""
        return tuple(f"{kind}-{number}" for number in range(1, self.hosts[kind].max_hosts + 1))

    def kind_of(self, name: str) -> Kind | None:
        """The kind of a host by its name; None for one that is none of these."""
        kind, _, number = name.rpartition("-")
        found = self.hosts.get(kind)
        known = number.isascii() and number.isdecimal() and not number.startswith("0")
        return found if found is not None and known and int(number) <= found.max_hosts else None


def load(path: Path) -> Elastic:
    """The settings in a file. Raises SpecError with all its faults, each with its line."""
    return _validate(documents.read(path))


def parse(text: str, *, path: str = "elastic.yml") -> Elastic:
    """The settings in `text`; `path` is only named. Raises SpecError."""
    return _validate(documents.parse(text, path=path))


def _validate(document: Document) -> Elastic:
    tip = "pushtrain agent start --head --elastic FILE; docs/operations.md has an example"
    if document.data is None:
        raise SpecError((document.fault("", "is empty", expected="a mapping with 'hosts:'"),), tip=tip)
    found = [*document.faults]
    try:
        settings = Elastic.model_validate(document.data)
    except ValidationError as error:
        found += faults.translate(error, document, Elastic)
    if found:
        found.sort(key=lambda fault: (fault.line, fault.column))
        raise SpecError(tuple(found), tip=tip)
    return settings
