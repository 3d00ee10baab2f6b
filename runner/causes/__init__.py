"""Why an attempt failed: the last lines of the rank that failed first -> a sentence, and what to type next."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from runner.causes.known import CONSEQUENCES, FURTHER, KERNEL, ORIGINS, OUTSIDE, SIGNALS
from runner.errors import Cancelled, EngineError, TimedOut, TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.causes.known import Known
    from runner.runs import Attempt

__all__ = ["KERNEL", "OUTSIDE", "check", "exceptions", "explain", "guess", "is_consequence", "spoken", "tip"]

# torchrun's ranks and mpirun with --tag-output say who speaks.
_SPEAKER = re.compile(r"^\[(?:rank\d+|\d+,\d+)\](?:<std(?:out|err)>)?:\s?")
_EXCEPTION = re.compile(r"^(\w+(?:\.\w+)*(?:Error|Exception|Interrupt|Exit)(?:: .+)?)$")
LINES, CHARACTERS = 60, 2000
"""Of what a rank said last, so many lines count, and of each so many characters: no line makes a pattern slow."""
_SAME_CHAIN = ("During handling of the above exception", "The above exception was the direct cause")


def guess(last_lines: Sequence[str]) -> str:
    """The likely cause, empty where the lines tell none. A reason of its own goes before what others caused."""
    lines = spoken(last_lines)[::-1]
    own = (_sentence(ORIGINS, line) or _other_exception(line) for line in lines)
    others = (_sentence(CONSEQUENCES, line) for line in lines)
    return next(filter(None, own), "") or next(filter(None, others), "")


def explain(last_lines: Sequence[str], *, signal: str = "", known: str = "") -> str:
    """The likely cause of one rank's end: what its host knows, else what its lines tell, else what its signal means.

    `signal` is the signal's name. A process that was killed had no time to say why, so its lines tell nothing then.
    """
    told = "" if signal == "SIGKILL" else guess(last_lines)
    return known or told or SIGNALS.get(signal, "")


def is_consequence(last_lines: Sequence[str]) -> bool:
    """Whether the lines tell of another's failure alone.

    Of exceptions that follow from each other the first counts: an error of one's own stays one, whatever breaks after.
    """
    lines = spoken(last_lines)
    if any(_sentence(ORIGINS, line) for line in lines) or any(map(_other_exception, exceptions(lines))):
        return False
    return any(_sentence(CONSEQUENCES, line) for line in lines)


def exceptions(last_lines: Iterable[str]) -> Iterator[str]:
    """The exceptions that the lines end tracebacks with; of those that follow from each other the first only."""
    chained = False
    for text in spoken(last_lines):
        if text.startswith(_SAME_CHAIN):
            chained = True
        elif _EXCEPTION.match(text):
            if not chained:
                yield text
            chained = False


def spoken(last_lines: Iterable[str]) -> list[str]:
    """The text that patterns are applied to: the last lines, each cut, without the mark of who speaks."""
    return [_SPEAKER.sub("", line[:CHARACTERS]) for line in deque(last_lines, LINES)]


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
    message = (
        ": ".join(filter(None, (_end(attempt), attempt.cause)))
        or f"it ended with exit code {attempt.exit_code}"
    )
    raise TrainingFailed(message, code=attempt.exit_code or 1, tip=tip(attempt.cause))


def tip(cause: str) -> str:
    """What to change in train.yml or to type where this is the cause; empty where nobody knows."""
    cause = cause[:CHARACTERS]
    for text, further in FURTHER:
        if cause.startswith(text):
            return further
    for known in (*ORIGINS, *CONSEQUENCES):
        if known.tip and known.matches(cause):
            return known.tip
    return ""


def _end(attempt: Attempt) -> str:
    """Who ended how: `rank 3 (node 1, worker 1) ended with exit code 7`; empty where no process did."""
    how = f"was ended by {attempt.signal}" if attempt.signal else f"ended with exit code {attempt.exit_code}"
    where = "" if attempt.failed_node is None else f"node {attempt.failed_node}"
    if attempt.failed_rank is None and not attempt.failed_task:
        return ""
    if attempt.failed_rank is None:
        place = f" on {where}" if where else ""
        return f"{attempt.failed_task}{place} {how} before the ranks"
    places = ", ".join(filter(None, (where, attempt.failed_task)))
    return f"rank {attempt.failed_rank}" + (f" ({places})" if places else "") + f" {how}"


def _sentence(table: Sequence[Known], line: str) -> str:
    for known in table:
        if match := known.pattern.search(line):
            return known.sentence.format(*match.groups(default=""))
    return ""


def _other_exception(line: str) -> str:
    """The exception that this line ends a traceback with, unless it tells of another's failure."""
    match = _EXCEPTION.match(line)
    return "" if match is None or _sentence(CONSEQUENCES, line) else match.group(1)
