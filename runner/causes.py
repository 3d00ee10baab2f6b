"""Why an attempt failed: the last lines of the rank that failed first -> a sentence, and what to type next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.errors import Cancelled, EngineError, TimedOut, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.runs import Attempt

# The first pattern that matches one of the last lines, read from the end.
_KNOWN = (
    (re.compile(r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY"), "the GPU's memory is full"),
    (re.compile(r"MemoryError|Cannot allocate memory|std::bad_alloc"), "out of memory"),
    (re.compile(r"No space left on device"), "the disk is full"),
    (re.compile(r"Address already in use"), "a port is in use"),
    (re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'"), "the package {} is missing"),
    (re.compile(r"(?:python\d?: )?can't open file '([^']+)'"), "there is no file {} in the source"),
    (
        re.compile(r"exec (\S+) failed: No such file or directory"),
        "there is no program {} in the environment",
    ),
    (
        re.compile(r"^(?:\S+: (?:line )?\d+|\S*sh): (\S+): (?:command )?not found$"),
        "there is no program {} in the environment",
    ),
    (re.compile(r"FileNotFoundError: .*No such file or directory: '([^']+)'"), "there is no file {}"),
    (re.compile(r"PermissionError: .*: '([^']+)'"), "it may not open {}"),
    (re.compile(r"NCCL.*(?:timeout|timed out)", re.IGNORECASE), "the ranks lost each other (NCCL time-out)"),
    (re.compile(r"^(\w+(?:\.\w+)*(?:Error|Exception)(?:: .+)?)$"), "{}"),
)


def guess(last_lines: Sequence[str]) -> str:
    """The likely cause, empty where the lines tell none."""
    for line in reversed(last_lines):
        for pattern, sentence in _KNOWN:
            if match := pattern.search(line):
                return sentence.format(*match.groups())
    return ""


def check(attempt: Attempt) -> None:
    """Raise what the end of this attempt means: Cancelled, TimedOut or TrainingFailed; nothing where it succeeded."""
    match attempt.outcome:
        case "succeeded":
            return
        case "cancelled":
            raise Cancelled(f"{attempt.cause or 'cancelled'}; outputs so far are kept")
        case "timeout":
            raise TimedOut(
                attempt.cause, tip="raise the limit below `timeout:` of train.yml, or set `retry:`"
            )
        case "lost":
            raise TrainingFailed(attempt.cause, code=EngineError.exit_code, tip="pushtrain run --fresh")
    end = f"was ended by {attempt.signal}" if attempt.signal else f"ended with exit code {attempt.exit_code}"
    message = f"rank {attempt.failed_rank} {end}" + (f": {attempt.cause}" if attempt.cause else "")
    raise TrainingFailed(message, code=attempt.exit_code or 1, tip=_tip(attempt.cause))


def _tip(cause: str) -> str:
    if cause.startswith("the package"):
        return "add it to `environment.pip` of train.yml, or to its requirements file"
    if "memory" in cause:
        return "a smaller batch, or more in `resources.memory` of train.yml"
    return ""
