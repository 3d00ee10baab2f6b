"""A run that ended -> its model published, its last word on GitHub, the job's summary, artifact and outputs."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.answer import artifacts
from runner.answer.desk import metrics_json
from runner.errors import GitHubError, ModelError, StoreError
from runner.github.thread import Reaction
from runner.report import job as job_text
from runner.runs import State

if TYPE_CHECKING:
    from runner.answer.attend import Attendance
    from runner.answer.desk import Desk
    from runner.report.facts import RunFacts
    from runner.runs import Run

logger = logging.getLogger(__name__)

REACTIONS: Mapping[State, Reaction] = {
    State.SUCCEEDED: "rocket",
    State.FAILED: "confused",
    State.CANCELLED: "confused",
}
LAST_WORD_TIMES = 2
# For so long after its end a run waits for somebody who may make releases. Without an end it would be tried by every
# job, and a right that is given late would publish all there ever was.
DENIED_S = 14 * 86400.0


@dataclass(frozen=True, kw_only=True)
class Closed:
    """How one run ended, with what was reported of it."""

    facts: RunFacts
    report: str
    artifacts: Path


def close(desk: Desk, attendance: Attendance) -> Closed:
    """Say the last word, and lay out what the job shows. Safe to repeat; what fails on GitHub stays due.

    A run that could not be followed to its end is reported as far as it came.
    """
    ended = attendance.run is not None and attendance.run.state.ended
    notes = last_word(attendance) if ended else ()
    if attendance.voice.missed:
        notes = (*notes, "GitHub has not all of this yet: the next job says the rest")
    facts = attendance.facts(notes=notes)
    report = job_text.summary(facts)
    folder = desk.results / facts.run.id
    try:
        artifacts.put(desk.shop.store, facts.files, folder, facts.plan.artifacts, report=report)
    except (StoreError, OSError) as error:
        logger.warning("the job's artifact is not whole: %s", error)
    return Closed(facts=facts, report=report, artifacts=folder)


def last_word(attendance: Attendance) -> tuple[str, ...]:
    """Publish the model, then close check, comment and reaction. Safe to repeat; what fails stays in the outbox, and
    what is denied does for two weeks.

    Returns what is to be said of the publication. Does nothing where somebody else on this machine speaks of the run.
    """
    voice = attendance.voice
    if not voice.speaks():
        return ()
    pending, notes = _publish(attendance)
    assert attendance.run is not None
    for _ in range(LAST_WORD_TIMES):
        voice.forget_misses()
        attendance.tell(notes=notes)
        voice.react(REACTIONS[attendance.run.state])
        if not voice.missed:
            break
    if not pending and not voice.missed and not voice.left_open:
        voice.close()
    return notes


def _publish(attendance: Attendance) -> tuple[bool, tuple[str, ...]]:
    """Put the model into a release. Returns whether that is to be tried again later, and what is to be said of it."""
    run, desk = attendance.run, attendance.desk
    assert run is not None
    if run.state is not State.SUCCEEDED or run.release is None or attendance.voice.release_url:
        return False, ()
    from runner.answer import registry  # What publishes takes its time to load.

    try:
        with attendance.voice.staying():  # A large model is sent for longer than a turn lasts.
            job_url = attendance.voice.said.job_url
            url = desk.features.use(
                "releases", lambda: registry.publish(desk, run, attendance.plan, job_url=job_url)
            )
    except (GitHubError, StoreError) as error:
        logger.warning("%s is not published yet: %s", run.release, error)
        return True, (
            f"{run.release} is in the store and not on GitHub yet: the next job tries again ({error})",
        )
    except ModelError as error:
        logger.warning("%s is not published: %s", run.release, error)
        return False, (f"{run.release} is in the store and not on GitHub: {error}",)
    if url is None:
        return _denied(run)
    attendance.voice.published(url)
    attendance.look()
    return False, ()


def _denied(run: Run) -> tuple[bool, tuple[str, ...]]:
    """The same for a release that the token may not make. Which permission it lacks is among the notes on the desk."""
    there = f"{run.release} is in the store and not on GitHub"
    if time.time() - run.stages[-1].started_at_s < DENIED_S:
        return True, (f"{there}: whoever may make releases publishes it",)
    since = f"nobody who may make releases did in {DENIED_S / 86400:g} days"
    return False, (f"{there}: {since}; once the token may, ask for the same run again",)


def outputs(closed: Sequence[Closed]) -> dict[str, str]:
    """The outputs of the action: those of its last run."""
    if not closed:
        return {}
    last = closed[-1]
    run = last.facts.run
    return {
        "run-id": run.id,
        "state": str(run.state),
        "metrics": metrics_json({name: series.last for name, series in last.facts.series.items()}),
        "model": run.release or "",
        "report": str(last.artifacts / "report.md"),
        "artifacts": str(last.artifacts),
    }


def write_outputs(environ: Mapping[str, str], values: Mapping[str, str]) -> None:
    """Append to GITHUB_OUTPUT; a value cannot end its own block, since nobody can guess the word that does."""
    path = environ.get("GITHUB_OUTPUT")
    if not path:
        return
    with Path(path).open("a", encoding="utf-8") as file:
        for name, value in values.items():
            word = f"end-{secrets.token_hex(16)}"
            file.write(f"{name}<<{word}\n{value}\n{word}\n")


def write_summary(environ: Mapping[str, str], texts: Sequence[str]) -> None:
    """Append to the summary of the step."""
    path = environ.get("GITHUB_STEP_SUMMARY")
    if path and texts:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("\n\n".join(texts) + "\n")
