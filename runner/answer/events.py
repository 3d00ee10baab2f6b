"""An event -> what is done about it: runs accepted, or a sentence that says why none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import pipeline, runs
from runner.answer import accept as acceptance
from runner.answer import conversation, faults, wish
from runner.answer.outcome import Outcome
from runner.errors import GitHubError, PushtrainError, Refused
from runner.trigger import Button, Comment, Dispatch, Event, Push, Schedule

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.answer.wish import Wish


def answer(desk: Desk, event: Event | None) -> Outcome:
    """Do what the event asks for. Safe to repeat, as a job that is run again does.

    Raises PushtrainError for what cannot be done; on the commit itself it is told as a failed check.
    """
    match event:
        case None:
            return Outcome(notes=("this event starts nothing",))
        case Comment():
            return conversation.answer(desk, event)
        case Button(action="cancel"):
            return _cancel(desk, event)
        case Button():
            return _again(desk, event)
        case Push() | Dispatch() | Schedule():
            return _train(desk, event)


def _train(desk: Desk, event: Push | Dispatch | Schedule) -> Outcome:
    try:
        match event:
            case Push():
                wanted = wish.of_push(desk, event)
            case Dispatch():
                wanted = wish.of_dispatch(desk, event)
            case Schedule():
                wanted = wish.of_schedule(desk, event)
        return _accepted(desk, wanted)
    except GitHubError:
        raise
    except PushtrainError as error:
        faults.tell(desk, event.commit, error)
        raise


def _accepted(desk: Desk, wanted: Wish | str) -> Outcome:
    if isinstance(wanted, str):
        return Outcome(notes=(f"nothing is trained: {wanted}",))
    return Outcome(accepted=(acceptance.accept(desk, wanted),))


def _cancel(desk: Desk, button: Button) -> Outcome:
    run = runs.load(desk.shop.store, button.run_id)
    _check_person(desk, button)
    if run.state.ended:
        return Outcome(notes=(f"{run.id} {run.state} already",))
    runs.request_cancel(desk.shop.store, run.id, how="stop", why=f"cancelled by {button.by} on its check")
    return Outcome(notes=(f"{run.id} is being cancelled",))


def _again(desk: Desk, button: Button) -> Outcome:
    _check_person(desk, button)
    old = pipeline.plan_of(desk.shop.store, button.run_id)
    return _accepted(desk, wish.again(desk, old.asked, old.inputs, by=button.by))


def _check_person(desk: Desk, button: Button) -> None:
    plan = pipeline.plan_of(desk.shop.store, button.run_id)
    if plan.asked.repository != desk.name:
        raise Refused(f"{button.run_id} is no run of this repository")
    trusted = wish.trusted_spec(desk, plan.asked.base or "HEAD")
    if trusted is None:
        raise Refused(f"there is no {desk.options.train_file} on the base branch: nothing says who may")
    wish.check_person(desk, button.by, trusted)
