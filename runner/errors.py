"""Every way in which a stage fails: its exit code, whether trying again may help, and what to type next.

    PushtrainError                70
    ├── UsageError                64   the command line
    ├── SpecError                 65   train.yml: every fault of the file at once
    ├── SourceError               66   the git repository, the source archive
    ├── PlanError                 67   parameters, placeholders, what this version or engine cannot do
    ├── EnvironmentFailed         68   packages, image builds, registries
    ├── DatasetError              69   data that is missing, or not what was pinned
    ├── NoCapacity                71   more GPUs, hosts or memory than there are
    ├── EngineError               72   Docker or another engine does not answer
    │   ├── HostLost                   a host of the run is gone
    │   ├── DockerAway                 the Docker of a host does not answer
    │   └── Displaced             75   its hosts were taken away; the run is in the queue again
    ├── RunNotFound               73   no such run, or not in a state for this
    ├── StoreError                74   the store: disk, S3
    │   ├── NotFound                   no such key or blob
    │   ├── Conflict                   somebody else was first
    │   ├── TooMuch                    more files or bytes than are kept
    │   └── Corrupt                    a digest does not match
    ├── ModelError                76   the model registry, the release
    ├── Refused                   77   who asked may not, or not in this way
    ├── GitHubError               79   GitHub does not answer, or says no
    │   ├── GitHubDown                 an outage, a rate limit, a cut line: later it may work
    │   ├── GitHubDenied               the token is refused, or lacks a permission
    │   └── GitHubAbsent               it has no such thing
    └── TrainingFailed             -   the training's own exit code is passed on
        ├── TimedOut              75   queue, run or silence
        └── Cancelled            130

Exit codes are those of BSD's sysexits.h where one fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class PushtrainError(Exception):
    """A failure with a sentence for the user and the next command to type.

    `str(error)` says what happened; `tip` says what to change or type next (empty where the message says all).
    """

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, tip: str = "") -> None:
        super().__init__(message)
        self.tip = tip


class UsageError(PushtrainError):
    """The command line asks for something that does not exist."""

    exit_code = 64


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of a file: where it is (line and column from 1, dotted key path), what is wrong, what was expected."""

    path: str
    line: int
    column: int
    key: str
    message: str
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.path}:{self.line}:{self.column}: "
        text += f"{self.key}: {self.message}" if self.key else self.message
        if self.expected:
            text += f"; expected {self.expected}"
        if self.suggestion:
            text += f" (did you mean {self.suggestion}?)"
        return text


class SpecError(PushtrainError):
    """A train.yml that cannot be used; carries every fault of the file, in the order of its lines."""

    exit_code = 65

    def __init__(self, faults: tuple[Fault, ...], *, tip: str = "") -> None:
        super().__init__("\n".join(str(fault) for fault in faults), tip=tip)
        self.faults = faults


class SourceError(PushtrainError):
    """The git repository or the source archive cannot be read."""

    exit_code = 66


class PlanError(PushtrainError):
    """What was asked for cannot be planned: a parameter, a placeholder, or an engine that lacks the feature."""

    exit_code = 67


class EnvironmentFailed(PushtrainError):
    """The environment could not be made."""

    exit_code = 68


class DatasetError(PushtrainError):
    """A data set is missing, unreachable or not what was pinned."""

    exit_code = 69


class NoCapacity(PushtrainError):
    """The gang can never fit on the hosts there are."""

    exit_code = 71


class EngineError(PushtrainError):
    """An engine (Docker, a host) does not answer or refused."""

    exit_code = 72
    retryable = True


class HostLost(EngineError):
    """A host of the run is gone, or its process there."""


class DockerAway(EngineError):
    """The Docker of this host, or of one of a run, does not answer: on a fleet another host may do instead."""


class Displaced(EngineError):
    """The run's hosts were taken away: it waits in the queue again and goes on from there.

    `remark` is what whoever asked for the run should know of that for good, empty for nothing.
    """

    exit_code = 75

    def __init__(self, message: str, *, tip: str = "", remark: str = "") -> None:
        super().__init__(message, tip=tip)
        self.remark = remark


class RunNotFound(PushtrainError):
    """No run of that name, or it is not in a state that allows this."""

    exit_code = 73


class StoreError(PushtrainError):
    """The store could not be read or written."""

    exit_code = 74
    retryable = True


class NotFound(StoreError):
    """No such key or blob."""

    retryable = False


class Conflict(StoreError):
    """A conditional write lost: the key exists already, or changed since it was read."""

    retryable = False


class TooMuch(StoreError):
    """More than is kept: trying again would find the same."""

    retryable = False


class Corrupt(StoreError):
    """What was read does not have the digest it should have."""

    retryable = False


class ModelError(PushtrainError):
    """The model registry refused, or the release cannot be made."""

    exit_code = 76


class Refused(PushtrainError):
    """Somebody asked for what they may not, or in a way that is not safe; the tip is the line to type instead."""

    exit_code = 77


class GitHubError(PushtrainError):
    """GitHub does not answer, or says no."""

    exit_code = 79


class GitHubDown(GitHubError):
    """An outage, a rate limit or a cut line, after all retries: later it may work."""

    retryable = True


class GitHubDenied(GitHubError):
    """The token is not (or no longer) accepted, or lacks `permission` (such as `checks: write`; empty if unknown)."""

    def __init__(self, message: str, *, tip: str = "", permission: str = "") -> None:
        super().__init__(message, tip=tip)
        self.permission = permission


class GitHubAbsent(GitHubError):
    """There is no such thing, or the token may not see it."""


class TrainingFailed(PushtrainError):
    """The training ended with a failure of its own; its exit code is passed on."""

    def __init__(self, message: str, *, code: int, tip: str = "") -> None:
        super().__init__(message, tip=tip)
        self.code = code


class TimedOut(TrainingFailed):
    """A time limit of train.yml was reached."""

    def __init__(self, message: str, *, tip: str = "") -> None:
        super().__init__(message, code=75, tip=tip)


class Cancelled(TrainingFailed):
    """Somebody cancelled the run; its outputs so far are kept."""

    def __init__(self, message: str, *, tip: str = "") -> None:
        super().__init__(message, code=130, tip=tip)
