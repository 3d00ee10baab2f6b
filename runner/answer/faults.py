"""A wish that cannot be planned -> a check that failed, with every fault of train.yml on its line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.errors import SpecError
from runner.github import check as checks
from runner.report import escape

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.errors import PushtrainError


def tell(desk: Desk, commit: str, error: PushtrainError) -> None:
    """Create the check. Raises GitHubError where GitHub does not take it."""
    now_s = time.time()
    annotations = annotations_of(error)
    lines = [escape.inline(line) for line in str(error).splitlines()]
    tip = f"\n\n**Next:** {escape.code(error.tip)}" if error.tip else ""
    many = f"{len(annotations)} faults" if len(annotations) > 1 else "it cannot be planned"
    wanted = checks.Check(
        name=f"pushtrain / {desk.options.train_file}",
        commit=commit,
        external_id="",
        details_url=desk.place.job_url,
        status="completed",
        conclusion="failure",
        started_at_s=now_s,
        completed_at_s=now_s,
        title=f"{desk.options.train_file}: {many}" if annotations else f"Not started: {many}",
        summary="\n".join(f"- {line}" for line in lines) + tip,
        text="",
        annotations=annotations,
    )
    desk.features.use("checks", lambda: checks.create(desk.repository, wanted))


def annotations_of(error: PushtrainError) -> tuple[checks.Annotation, ...]:
    """The faults of a train.yml as annotations on its lines; none for any other error."""
    if not isinstance(error, SpecError):
        return ()
    return tuple(
        checks.Annotation(
            path=fault.path,
            line=fault.line,
            column=fault.column,
            level="failure",
            title=fault.key or "train.yml",
            message=_message(fault.message, fault.expected, fault.suggestion),
        )
        for fault in error.faults
    )


def _message(message: str, expected: str, suggestion: str) -> str:
    text = message
    if expected:
        text += f"; expected {expected}"
    if suggestion:
        text += f" (did you mean {suggestion}?)"
    return text
