"""elastic.yml -> the hosts that may be started, and by whom; or every fault of the file at once."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from runner import document as documents
from runner.document import Document
from runner.errors import SpecError
from runner.quantities import MalformedError, duration, shown, size
from runner.spec import faults
from runner.spec.fields import Line, Listed, matching
from runner.spec.section import Section

MOST_OF_A_KIND = 500
LEAST_MEMORY_BYTES = 512 * 2**20
TIP = "pushtrain agent start --head --elastic FILE; docs/operations.md has an example"

_KIND = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")

KindName = Annotated[str, matching(_KIND, "small letters, digits and -, such as a100")]
Label = Annotated[str, matching(_LABEL, "letters, digits, . _ and -")]
Seconds = Annotated[float, BeforeValidator(duration)]
Bytes = Annotated[int, BeforeValidator(size)]
Lines = Annotated[tuple[Line, ...], Listed]


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise MalformedError("is an empty list", expected="at least one")
    return values


def _memory(size_bytes: int) -> int:
    if size_bytes < LEAST_MEMORY_BYTES:
        raise MalformedError(
            f"{shown(size_bytes)} bytes are too few for a host",
            expected="at least 512MiB, with its unit, such as 64GiB",
        )
    return size_bytes


def _token(text: str) -> str:
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket:
        raise MalformedError(f"{shown(text)} cannot be used", expected="s3://BUCKET/PREFIX")
    if not _BUCKET.fullmatch(bucket):
        raise MalformedError(
            f"{shown(bucket)} is no name of a bucket", expected="3 to 63 small letters, digits, . and -"
        )
    if not _PREFIX.fullmatch(prefix):
        raise MalformedError(f"{shown(prefix)} cannot be used", expected="letters, digits, . _ - and /")
    return text


Memory = Annotated[Bytes, AfterValidator(_memory)]
Some = Annotated[tuple[Line, ...], Listed, AfterValidator(_some)]


class Kind(Section):
    """Hosts that are alike, as Slurm queues for them before they exist: KIND-1 to KIND-max_hosts."""

    cpus: int = Field(ge=1, le=4096)
    memory: Memory
    gpu: Line | None = None
    gpus: int = Field(0, ge=0, le=64)
    labels: Mapping[Label, Label] = {}
    min_hosts: int = Field(0, ge=0)
    max_hosts: int = Field(ge=1, le=MOST_OF_A_KIND)
    types: Lines = ()


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
    token: Annotated[str, AfterValidator(_token)]
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


def load(path: Path, *, here: bool = False) -> Elastic:
    """The settings in a file. Raises SpecError with all its faults, each with its line.

    With `here` the programs that it names have to be on this machine.
    """
    try:
        document = documents.read(path)
    except SpecError as error:
        raise SpecError(error.faults, tip=TIP) from error
    return _validate(document, here=here)


def parse(text: str, *, path: str = "elastic.yml") -> Elastic:
    """The settings in `text`; `path` is only named. Raises SpecError."""
    return _validate(documents.parse(text, path=path), here=False)


def _validate(document: Document, *, here: bool) -> Elastic:
    if document.data is None:
        raise SpecError((document.fault("", "is empty", expected="a mapping with 'hosts:'"),), tip=TIP)
    found = [*document.faults]
    settings = None
    try:
        settings = Elastic.model_validate(document.data)
    except ValidationError as error:
        found += faults.translate(error, document, Elastic)
    # Not the model's: it would look at how things fit together only once each is well by itself.
    data = _mapping(document.data)
    told = (*_across(data), *(_programs(data) if here else ()))
    known = {fault.key for fault in found}
    found += (
        document.fault(key, problem, expected=wanted) for key, problem, wanted in told if key not in known
    )
    if found or settings is None:
        found.sort(key=lambda fault: (fault.line, fault.column))
        raise SpecError(tuple(found), tip=TIP)
    return settings


_Told = tuple[str, str, str]


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _across(data: Mapping[str, object]) -> Iterator[_Told]:
    """What does not fit together, of a file that may have other faults: key, problem, what was expected."""
    if data.get("hosts") == {}:
        yield "hosts", "is empty", "at least one kind of host"
    providers = [name for name in ("ec2", "command") if data.get(name) is not None]
    if not providers:
        yield "", "no provider", "either ec2: or command:"
    elif len(providers) > 1:
        yield "command", "more than one provider", "either ec2: or command:"
    for name, value in _mapping(data.get("hosts")).items():
        kind = _mapping(value)
        for key, problem, wanted in _across_kind(kind):
            yield f"hosts.{name}.{key}", problem, wanted
        if kind and "ec2" in providers and not kind.get("types"):
            yield f"hosts.{name}.types", "is missing", "machine types, such as [p4d.24xlarge]"


def _across_kind(kind: Mapping[str, object]) -> Iterator[_Told]:
    least, most = kind.get("min_hosts"), kind.get("max_hosts")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield "min_hosts", f"{least} is more than max_hosts", f"at most {most}"
    if kind.get("gpus") and kind.get("gpu") is None:
        yield "gpu", "is missing", "the model as nvidia-smi -L names it"
    if kind.get("gpu") is not None and not kind.get("gpus"):
        yield "gpus", "is missing", "how many GPUs such a host has"


def _programs(data: Mapping[str, object]) -> Iterator[_Told]:
    """Commands whose program is not on this machine."""
    commands = _mapping(data.get("command"))
    for name in ("start", "stop", "list"):
        text, key = commands.get(name), f"command.{name}"
        if not isinstance(text, str) or not text.strip():
            continue
        try:
            program = shlex.split(text)[0]
        except (ValueError, IndexError):
            yield key, f"{shown(text)} cannot be used", "a program and its arguments, each quote closed"
            continue
        if "/" in program and not program.startswith("/"):
            yield key, f"{program} is none from the folder where it runs", "a path that begins with /"
        elif shutil.which(program) is None:
            problem = "cannot be executed" if Path(program).exists() else "is not on this machine"
            yield key, f"{program} {problem}", "a program of the head's, such as /opt/machines"
