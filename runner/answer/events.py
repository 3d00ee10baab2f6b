"""An event -> what is done about it: runs accepted, or a sentence that says why none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import pipeline, runs
from runner.answer import accept as acceptance
from runner.answer import conversation, faults, wish
from runner.answer.outcome import Outcome
from runner.answer.wish import Wish
from runner.errors import GitHubError, PlanError, PushtrainError, Refused
from runner.trigger import Button, Comment, Dispatch, Event, Push, Schedule

if TYPE_CHECKING:
    from runner.answer.desk import Desk


FORM = "pushtrain init --github brings the workflow's form in step"


def answer(desk: Desk, event: Event | None) -> Outcome:
    """Do what the event asks for. Safe to repeat, as a job that is run again does.

    Raises PushtrainError for what cannot be done; on the commit itself it is told as a failed check.
    """
    match event:
        case None:
            return Outcome(notes=("this event starts nothing",))
        case Comment():
            return conversation.answer(desk, event)
        case Button():
            return _press(desk, event)
        case Push() | Dispatch() | Schedule():
            return _train(desk, event)


def _train(desk: Desk, event: Push | Dispatch | Schedule) -> Outcome:
    wanted: Wish | str | None = None
    try:
        wanted = _wished(desk, event)
        return _accepted(desk, wanted)
    except GitHubError:
        raise
    except PushtrainError as error:
        name = wanted.trusted.name if isinstance(wanted, Wish) else desk.options.train_file
        faults.tell(desk, event.commit, error, name=name)
        if isinstance(error, PlanError) and isinstance(event, Dispatch):
            raise PlanError(str(error), tip=f"{error.tip}; after a change of train.yml: {FORM}") from error
        raise


def _wished(desk: Desk, event: Push | Dispatch | Schedule) -> Wish | str:
    match event:
        case Push():
            return wish.of_push(desk, event)
        case Dispatch():
            return wish.of_dispatch(desk, event)
        case Schedule():
            return wish.of_schedule(desk, event)


def _accepted(desk: Desk, wanted: Wish | str) -> Outcome:
    if isinstance(wanted, str):
        return Outcome(notes=(f"nothing is trained: {wanted}",))
    return Outcome(accepted=(acceptance.accept(desk, wanted),))


def _press(desk: Desk, button: Button) -> Outcome:
    """Cancel the run of a check, or train it again. Raises Refused, RunNotFound."""
    run = runs.load(desk.shop.store, button.run_id)
    plan = pipeline.plan_of(desk.shop.store, run.id)
    if plan.asked.repository != desk.name:
        raise Refused(f"{run.id} is no run of this repository")
    if plan.asked.train_file != desk.options.train_file:
        return Outcome(notes=(f"{run.id} is of {plan.asked.train_file}, which has a workflow of its own",))
    base = desk.default_branch
    trusted = wish.trusted_spec(desk, base)
    if trusted is None:
        raise Refused(f"there is no {desk.options.train_file} on {base}: nothing says who may")
    wish.check_person(desk, button.by, trusted)
    if button.action == "rerun":
        return _accepted(desk, wish.again(desk, plan.asked, plan.inputs, by=button.by))
    if run.state.ended:
        return Outcome(notes=(f"{run.id} {run.state} already",))
    runs.request_cancel(desk.shop.store, run.id, how="stop", why=f"cancelled by {button.by} on its check")
    return Outcome(notes=(f"{run.id} is being cancelled",))
