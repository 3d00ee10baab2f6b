"""A wish that cannot be planned -> a check that failed, with every fault of train.yml on its line."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from runner.errors import GitHubError, SpecError
from runner.github import check as checks
from runner.report import escape, thread

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.errors import PushtrainError

logger = logging.getLogger(__name__)


def tell(desk: Desk, commit: str, error: PushtrainError, *, name: str) -> None:
    """Create the check, named as those of the training's runs: the next one on this commit takes its place.

    Where GitHub does not take it, the job's own log has to do. Raises GitHubError in an outage where who asks does so
    again.
    """
    now_s = time.time()
    annotations = annotations_of(error)
    first = escape.line(str(error).partition("\n")[0])[:120]
    wanted = checks.Check(
        name=f"pushtrain / {name}",
        commit=commit,
        external_id="",
        details_url=desk.place.job_url,
        status="completed",
        conclusion="failure",
        started_at_s=now_s,
        completed_at_s=now_s,
        title=f"{desk.options.train_file}: {len(annotations)} faults"
        if len(annotations) > 1
        else f"Not started: {first}",
        summary=described(error),
        text="",
        annotations=annotations,
    )
    try:
        desk.features.use("checks", lambda: checks.create(desk.quick, wanted))
    except GitHubError as refusal:
        if desk.comes_again and refusal.retryable:
            raise
        logger.warning("the commit has no check that says so: %s", refusal)


def described(error: PushtrainError) -> str:
    """What is wrong, and what to type next, as Markdown."""
    return thread.listed(str(error)) + (f"\n\n**Next:** {escape.inline(error.tip)}" if error.tip else "")


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
