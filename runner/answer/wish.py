"""An event -> the runs that it asks for, each with its commit pinned and its asker known."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import checkout, spec
from runner.errors import Refused, UsageError
from runner.github import contents, people, pulls
from runner.plan import Asked
from runner.trigger import decision

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.spec import Spec
    from runner.trigger.comment import Train
    from runner.trigger.event import Comment, Dispatch, Push, Schedule

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A run that somebody asks for. `key` is the same when the same thing is asked again (a job run once more).

    `trusted` is the base branch's train.yml, `comment` the comment to react to.
    """

    key: str
    asked: Asked
    overrides: tuple[str, ...]
    engine: str | None
    fresh: bool
    trusted: Spec
    comment: int | None = None


def trusted_spec(desk: Desk, ref: str) -> Spec | None:
    """The train.yml that says who may; None where there is none. Raises SpecError.

    `ref` is the default branch: whoever opens a pull request chooses its base, the author of a fork too, so that a
    base that says something else would be a way round what the team decided.
    """
    path = desk.options.train_file
    found = contents.text(desk.repository, path, ref=ref)
    return None if found is None else spec.parse(found, path=path)


def of_push(desk: Desk, push: Push) -> Wish | str:
    """The run that a push starts, or why it starts none."""
    base = desk.default_branch
    trusted = (
        _pushed_spec(desk, push) if push.branch == base and not push.deleted else trusted_spec(desk, base)
    )
    if trusted is None:
        if push.branch == base:
            raise _not_there(desk, base)
        return _no_train_yml(desk, base)

    def changed() -> tuple[str, ...] | None:
        before = push.before or pulls.head_of(desk.repository, base)
        return checkout.changed(desk.remote, before, push.commit, home=desk.shop.home) if before else None

    if why := decision.push_is_passed_over(push, trusted.on, changed=changed):
        return why
    pull = next(iter(pulls.pulls_of(desk.repository, push.commit)), None) if push.branch != base else None
    asked = _asked(desk, "push", by=push.by, commit=push.commit, branch=push.branch, base=base)
    return _wish(desk, _form(desk, desk.job.id), _with(asked, tag=push.tag, pull=pull), trusted=trusted)


def _pushed_spec(desk: Desk, push: Push) -> Spec | None:
    """The train.yml of a push to the default branch, from the commit itself: it has to be fetched anyway."""
    path = desk.options.train_file
    found = checkout.text(desk.remote, push.commit, path, home=desk.shop.home)
    return None if found is None else spec.parse(found, path=path)


def of_schedule(desk: Desk, schedule: Schedule) -> Wish | str:
    """The run that the clock starts, or why it starts none."""
    base = desk.default_branch
    trusted = trusted_spec(desk, base)
    if trusted is None:
        raise _not_there(desk, base)
    if why := decision.schedule_is_passed_over(schedule, trusted.on):
        return why
    asked = _asked(desk, "schedule", by="", commit=schedule.commit, branch=schedule.branch, base=base)
    return _wish(desk, _form(desk, desk.job.id), asked, trusted=trusted)


def of_dispatch(desk: Desk, dispatch: Dispatch) -> Wish | str:
    """The run that the button starts, or why it starts none. Raises PlanError for inputs that do not fit."""
    base = desk.default_branch
    trusted = trusted_spec(desk, base)
    if trusted is None:
        raise _not_there(desk, base)
    if not trusted.on.dispatch:
        return "`on:` of the base branch's train.yml has dispatch: false"
    asked = _asked(
        desk, "dispatch", by=dispatch.by, commit=dispatch.commit, branch=dispatch.branch, base=base
    )
    given = _dispatched(dispatch.inputs, trusted)
    return _wish(
        desk,
        _form(desk, desk.job.id),
        _with(asked, tag=dispatch.tag),
        trusted=trusted,
        overrides=given.overrides,
        engine=given.engine,
        fresh=given.fresh,
    )


@dataclass(frozen=True, kw_only=True)
class _Given:
    overrides: tuple[str, ...]
    engine: str | None
    fresh: bool


RESERVED = ("params", "engine", "fresh")
"""Inputs of a workflow_dispatch that are ours; an input of train.yml of the same name goes first."""


def _dispatched(inputs: Mapping[str, str], trusted: Spec) -> _Given:
    """What the form was filled in with. An empty field is one that was left alone."""
    from runner.answer.desk import read_params

    ours = {name: inputs.get(name, "") for name in RESERVED if name not in trusted.inputs}
    own = {name: text for name, text in inputs.items() if name not in ours}
    return _Given(
        overrides=merged(
            read_params(ours.get("params", "")),
            tuple(f"{name}={text}" for name, text in sorted(own.items()) if text),
        ),
        engine=ours.get("engine") or None,
        fresh=ours.get("fresh") == "true",
    )


def key_of_comment(desk: Desk, comment: Comment, train: Train, *, number: int) -> str:
    """What a command in a comment is known by; `number` equal ones come before it."""
    said = repr((train.sha, train.overrides, train.engine, train.fresh, number))
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return _form(desk, f"comment-{comment.id}-{digest}")


def of_comment(desk: Desk, comment: Comment, train: Train, *, trusted: Spec, key: str) -> Wish:
    """The run that a `/train` starts, known by `key`. Raises Refused."""
    assert comment.pull is not None
    assert trusted.on.comment is not None
    pull = pulls.pull(desk.repository, comment.pull)
    if not pull.open:
        raise Refused("the pull request is closed", tip="reopen it, or: pushtrain run")
    commit = decision.pinned(
        train,
        head=pull.head,
        head_then=None if pull.fork else pulls.head_at(desk.repository, pull, at_s=comment.at_s),
        commits=lambda: pulls.commits(desk.repository, pull.number),
        fork=pull.fork,
        word=trusted.on.comment.command,
    )
    owner = (pull.head_repository or "unknown").partition("/")[0]
    branch = f"{owner}:{pull.head_branch}" if pull.fork else pull.head_branch
    asked = _asked(desk, "comment", by=comment.by, commit=commit, branch=branch, base=pull.base_branch)
    return _wish(
        desk,
        key,
        _with(asked, pull=pull.number, fork=pull.fork),
        trusted=trusted,
        overrides=train.overrides,
        engine=train.engine,
        fresh=train.fresh,
        comment=comment.id,
    )


def again(desk: Desk, old: Asked, inputs: Mapping[str, object], *, by: str) -> Wish | str:
    """The run that the button "re-run" of a check starts: what the old one was, asked anew."""
    from runner.quantities import format_value

    base = desk.default_branch
    trusted = trusted_spec(desk, base)
    if trusted is None:
        return _no_train_yml(desk, base)
    lines = tuple(f"{name}={format_value(value)}" for name, value in inputs.items())  # type: ignore[arg-type]  # inputs of a plan
    return _wish(
        desk,
        _form(desk, desk.job.id),
        _with(old, trigger="button", by=by),
        trusted=trusted,
        overrides=lines,
        fresh=True,
    )


def check_person(desk: Desk, login: str, trusted: Spec) -> None:
    """Ask GitHub for the person's role at this moment. Raises Refused."""
    if trusted.on.comment is None:
        decision.check_role(trusted.on, login=login, role="none")
    decision.check_role(trusted.on, login=login, role=people.role(desk.repository, login))


def merged(*layers: tuple[str, ...]) -> tuple[str, ...]:
    """Lines of name=value, where a later layer replaces a name of an earlier one."""
    kept: dict[str, list[str]] = {}
    for layer in layers:
        fresh: dict[str, list[str]] = {}
        for line in layer:
            fresh.setdefault(line.partition("=")[0], []).append(line)
        kept |= fresh
    return tuple(line for lines in kept.values() for line in lines)


def _wish(
    desk: Desk,
    key: str,
    asked: Asked,
    *,
    trusted: Spec,
    overrides: tuple[str, ...] = (),
    engine: str | None = None,
    fresh: bool = False,
    comment: int | None = None,
) -> Wish:
    options = desk.options
    return Wish(
        key=key,
        asked=asked,
        overrides=merged(options.params, overrides),
        engine=engine,
        fresh=fresh or options.fresh,
        trusted=trusted,
        comment=comment,
    )


def _form(desk: Desk, key: str) -> str:
    """A key for this form of the step: a matrix runs one with several train files or parameters."""
    form = "\n".join((desk.options.train_file, *desk.options.params))
    return f"{key}-{hashlib.sha256(form.encode()).hexdigest()[:16]}"


def _asked(desk: Desk, trigger: str, *, by: str, commit: str, branch: str | None, base: str) -> Asked:
    return Asked(
        trigger=trigger,
        commit=commit,
        branch=branch,
        dirty=False,
        by=by,
        repository=desk.name,
        base=base,
        train_file=desk.options.train_file,
    )


def _with(asked: Asked, **changes: object) -> Asked:
    from dataclasses import replace

    return replace(asked, **changes)  # type: ignore[arg-type]  # its own fields


def _not_there(desk: Desk, base: str) -> UsageError:
    return UsageError(
        _no_train_yml(desk, base), tip="train-file: PATH, or commit a train.yml: pushtrain init"
    )


def _no_train_yml(desk: Desk, base: str) -> str:
    return f"there is no {desk.options.train_file} on {base}, so nothing says who may start what"


__all__ = ["Wish", "again", "check_person", "of_comment", "of_dispatch", "of_push", "of_schedule"]
