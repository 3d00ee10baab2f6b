"""What an answer comes to: the runs it follows, and what the job says and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.answer.accept import Accepted


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`notes` are sentences for the job's log and summary; `failed` is the exit code of what could not be done."""

    accepted: tuple[Accepted, ...] = ()
    notes: tuple[str, ...] = ()
    failed: int = 0
