"""`pushtrain github [event | send | watch]`: what a job of GitHub Actions runs, and what is left to say."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from runner.commands.shop import console, follow_every_s, workshop

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from runner.answer.accept import Accepted
    from runner.answer.attend import Attendance
    from runner.answer.desk import Desk, Options
    from runner.answer.finish import Closed
    from runner.answer.outcome import Outcome

logger = logging.getLogger(__name__)


def listing(asked: argparse.Namespace) -> int:
    """Print the runs of which something is left to say on GitHub."""
    from runner.answer import said

    store = workshop(asked).store
    repositories = [
        f"{owner}/{name}" for owner in store.children("github") for name in store.children(f"github/{owner}")
    ]
    found = [(each, said.load(store, each, key)) for each in repositories for key in said.due(store, each)]
    for repository, known in found:
        if known is not None:
            print(f"{known.run_id}  {repository}  {known.commit[:10]}")
    if not found:
        print("nothing is left to say on GitHub")
    return 0


def event(asked: argparse.Namespace) -> int:
    """Answer the event of this job, follow what it started, and return the training's exit code."""
    from runner.answer import faults, finish
    from runner.errors import PushtrainError

    undumpable()
    logging.getLogger("runner").setLevel(logging.INFO)
    stop, failure = _Stop(), None
    with _quiet_commands():
        try:
            code = _answer(asked, stop)
        except PushtrainError as error:
            code, failure = error.exit_code, error
            print(f"error: {error}" + (f"\n  tip: {error.tip}" if error.tip else ""), file=sys.stderr)
    if failure is not None:
        _annotate(str(failure) + (f"\n{failure.tip}" if failure.tip else ""))
        finish.write_summary(os.environ, [f"### Pushtrain could not do it\n\n{faults.described(failure)}"])
    return code


def _answer(asked: argparse.Namespace, stop: _Stop) -> int:
    from runner import trigger
    from runner.answer import events, outbox

    happened = trigger.read(os.environ)
    desk = _desk(asked)
    outbox.send(desk)
    if wanted := os.environ.get("PUSHTRAIN_INPUT_PROMOTE"):
        return _promote(desk, wanted, os.environ.get("PUSHTRAIN_INPUT_STAGE", ""))
    outcome = events.answer(desk, happened)
    for note in outcome.notes:
        print(note)
    if desk.options.detach:
        return _detach(desk, outcome)
    return _attend(desk, outcome, stop)


def _annotate(text: str) -> None:
    """An annotation of the job; nothing in the text can end it.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for sign, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
            text = text.replace(sign, code)
        print(f"::error title=Pushtrain::{text}", flush=True)


def send(asked: argparse.Namespace) -> int:
    """Say what could not be said to GitHub before."""
    from runner.answer import outbox

    desk = _desk(asked)
    left = outbox.send(desk)
    for run_id in left:
        print(f"{run_id}: still something to say")
    return 79 if left else 0


def _attend(desk: Desk, outcome: Outcome, stop: _Stop) -> int:
    from runner.answer import attend, finish
    from runner.report import escape

    if stop.how and not outcome.accepted:
        return 130
    attendances = [_attendance(desk, each) for each in outcome.accepted]
    attend.attend(attendances, stopped=lambda: stop.how)
    closed = [finish.close(desk, each) for each in attendances if each.run is not None]
    finish.write_outputs(os.environ, finish.outputs(closed))
    notes = [escape.inline(note) for note in outcome.notes]
    finish.write_summary(os.environ, [*(each.report for each in closed), *notes])
    return max([outcome.failed, *map(_code, closed), *(72 for e in attendances if not _ended(e))], default=0)


def _ended(attendance: Attendance) -> bool:
    return attendance.run is not None and attendance.run.state.ended


def _code(closed: Closed) -> int:
    run = closed.facts.run
    print(f"{run.id} {run.state}" + (f": {run.reason}" if run.reason else ""))
    if run.tip:
        print(f"  tip: {run.tip}")
    return run.exit_code or 0


def _attendance(desk: Desk, accepted: Accepted) -> Attendance:
    from runner import pipeline
    from runner.answer.attend import Attendance
    from runner.errors import RunNotFound
    from runner.report.live import Screen

    shop, run_id = accepted.shop, accepted.said.run_id
    plan = pipeline.plan_of(shop.store, run_id)
    screen = Screen(console(), primary=plan.gate.primary)
    print(f"run {run_id}" + (", which was there already" if accepted.found else ""))
    every_s = follow_every_s(shop.store_uri)
    attendance = Attendance(desk, shop, accepted.said, every_s=every_s, show=screen.take)
    if accepted.found:
        with suppress(RunNotFound):  # What ended long ago is not told line by line.
            attendance.look()
    return attendance


def watch(asked: argparse.Namespace) -> int:
    """Keep GitHub up to date on the runs that no job follows, until they ended; then say what else is due."""
    from runner.answer import outbox

    undumpable()
    desk = _desk(asked)
    outbox.watch(desk)
    return 79 if outbox.send(desk) else 0


def _promote(desk: Desk, wanted: str, stage: str) -> int:
    """The button of the workflow promote.yml: whoever may press it may write to the repository."""
    from runner.answer import registry
    from runner.errors import UsageError
    from runner.trigger.comment import Promote, commands

    line = f"/promote {wanted} {stage}"
    found = commands(line)
    if len(found) != 1 or not isinstance(found[0], Promote):
        raise UsageError(
            f"{wanted!r} {stage!r}: expected NAME@VERSION and a stage", tip="digits@1.2.0 production"
        )
    promotion = registry.promote(desk, found[0], by=os.environ.get("GITHUB_ACTOR", ""))
    print(f"{promotion.tag}: {promotion.name}@{promotion.version} is {promotion.stage}")
    return 0


def _detach(desk: Desk, outcome: Outcome) -> int:
    """Leave the runs to themselves: a watcher says the rest if the token outlives the job, else the next job."""
    from runner.answer import finish, outbox
    from runner.report import escape

    for each in outcome.accepted:
        run_id = each.said.run_id
        print(f"run {run_id}: follow it with: pushtrain logs -f {run_id}")
        outbox.announce(desk, each)
    if outcome.accepted:
        last = outcome.accepted[-1].said.run_id
        finish.write_outputs(os.environ, {"run-id": last, "state": "queued"})
        if desk.token_lasts:
            outbox.leave_watcher(desk)
        else:
            print(
                "the job's token ends with the job: what the run comes to is said by the next job, or by"
                " pushtrain github send; the token of a GitHub App says it at once"
            )
    finish.write_summary(os.environ, [escape.inline(note) for note in outcome.notes])
    return outcome.failed


class _Stop:
    """GitHub ends a job by SIGINT, by SIGTERM 7.5 s later, and kills it 2.5 s after that: all one wish."""

    def __init__(self) -> None:
        self.how: str | None = None
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._heard)

    def _heard(self, *_: object) -> None:
        if self.how is None:
            print("\nthe job is cancelled: the run gets its grace, and its outputs are kept", file=sys.stderr)
        self.how = "stop"


@contextmanager
def _quiet_commands() -> Iterator[None]:
    """What the training prints is no command to GitHub's runner: `::error::`, `::set-output::` and the like.

    https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#stopping-and-starting-workflow-commands
    """
    word = secrets.token_hex(16)
    active = os.environ.get("GITHUB_ACTIONS") == "true"
    if active:
        print(f"::stop-commands::{word}", flush=True)
    try:
        yield
    finally:
        if active:
            sys.stdout.flush()
            print(f"\n::{word}::", flush=True)


def undumpable() -> None:
    """Keep other processes of this user, such as a training, from reading our memory and environment (tokens)."""
    import ctypes

    pr_set_dumpable = 4  # prctl(2)
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_dumpable, 0, 0, 0, 0)


def _desk(asked: argparse.Namespace) -> Desk:
    from runner.answer import desk as desks
    from runner.errors import UsageError
    from runner.github import client, contents
    from runner.github.features import Features

    environ = os.environ
    shop = workshop(asked)
    here = desks.place(environ)
    try:
        shop.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{shop.home} cannot be made: {error.strerror}", tip="home: FOLDER, or PUSHTRAIN_HOME"
        ) from error
    auth = client.auth_from(environ)
    api_url = environ.get("GITHUB_API_URL", "https://api.github.com")
    cache = shop.home / "cache" / "github"
    repository = client.connect(api_url=api_url, repository=here.repository, auth=auth, cache=cache)
    return desks.Desk(
        shop=shop,
        repository=repository,
        quick=repository.impatient(),
        features=Features(),
        place=here,
        remote=desks.remote(environ, token=repository.token()),
        job=desks.job(environ),
        options=options(asked),
        results=desks.results(environ, home=shop.home),
        default_branch=desks.default_branch(environ) or contents.default_branch(repository),
        # The token of a job begins so, and ends with the job; one of an App as well, but we renew it.
        token_lasts=isinstance(auth, client.App) or not auth.value.startswith("ghs_"),
        buttons=isinstance(auth, client.App),
    )


def options(asked: argparse.Namespace) -> Options:
    """The inputs of the action, from the command line and the environment. Raises UsageError."""
    from runner.answer.desk import Options, read_params
    from runner.errors import UsageError

    environ = os.environ
    train_file = asked.file or environ.get("PUSHTRAIN_INPUT_TRAIN_FILE") or "train.yml"
    if train_file.startswith("/") or ".." in train_file.split("/"):
        raise UsageError(
            f"train-file: {train_file!r} is no path in the repository", tip="train-file: train.yml"
        )
    return Options(
        train_file=train_file,
        params=read_params(environ.get("PUSHTRAIN_INPUT_PARAMS", "")),
        fresh=_yes("fresh"),
        detach=_yes("detach"),
    )


def _yes(name: str) -> bool:
    from runner.errors import UsageError

    given = os.environ.get(f"PUSHTRAIN_INPUT_{name.upper()}", "")
    if given not in ("", "true", "false"):
        raise UsageError(f"{name}: {given!r} is neither true nor false", tip=f"{name}: true")
    return given == "true"
