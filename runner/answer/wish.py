"""An event -> the runs that it asks for, each with its commit pinned and its asker known."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import checkout, spec
from runner.errors import PlanError, Refused
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

    `trusted` is the base branch's train.yml, `comment` the comment to react to, `line` its words.
    """

    key: str
    asked: Asked
    overrides: tuple[str, ...]
    engine: str | None
    fresh: bool
    trusted: Spec
    comment: int | None = None
    line: str = ""


def trusted_spec(desk: Desk, ref: str) -> Spec | None:
    """The train.yml of the base branch; None where it has none. Raises SpecError."""
    path = desk.options.train_file
    found = contents.text(desk.repository, path, ref=ref)
    return None if found is None else spec.parse(found, path=path)


def of_push(desk: Desk, push: Push) -> Wish | str:
    """The run that a push starts, or why it starts none."""
    base = contents.default_branch(desk.repository)
    trusted = trusted_spec(desk, push.commit if push.branch == base and not push.deleted else base)
    if trusted is None:
        return _no_train_yml(desk, base)

    def changed() -> tuple[str, ...] | None:
        before = push.before or pulls.head_of(desk.repository, base)
        return checkout.changed(desk.remote, before, push.commit, home=desk.shop.home) if before else None

    if why := decision.push_is_passed_over(push, trusted.on, changed=changed):
        return why
    pull = next(iter(pulls.pulls_of(desk.repository, push.commit)), None) if push.branch != base else None
    asked = _asked(desk, "push", by=push.by, commit=push.commit, branch=push.branch, base=base)
    return _wish(desk, desk.job.id, _with(asked, tag=push.tag, pull=pull), trusted=trusted)


def of_schedule(desk: Desk, schedule: Schedule) -> Wish | str:
    """The run that the clock starts, or why it starts none."""
    base = contents.default_branch(desk.repository)
    trusted = trusted_spec(desk, base)
    if trusted is None:
        return _no_train_yml(desk, base)
    if why := decision.schedule_is_passed_over(schedule, trusted.on):
        return why
    asked = _asked(desk, "schedule", by="", commit=schedule.commit, branch=schedule.branch, base=base)
    return _wish(desk, desk.job.id, asked, trusted=trusted)


def of_dispatch(desk: Desk, dispatch: Dispatch) -> Wish | str:
    """The run that the button starts, or why it starts none. Raises PlanError for inputs that do not fit."""
    base = contents.default_branch(desk.repository)
    trusted = trusted_spec(desk, base)
    if trusted is None:
        return _no_train_yml(desk, base)
    if not trusted.on.dispatch:
        return "`on:` of the base branch's train.yml has dispatch: false"
    asked = _asked(
        desk, "dispatch", by=dispatch.by, commit=dispatch.commit, branch=dispatch.branch, base=base
    )
    given = _dispatched(dispatch.inputs, trusted)
    return _wish(
        desk,
        desk.job.id,
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
    """An empty field of the form is one that was not filled in, unless the input is text without a default."""
    from runner.answer.desk import read_params

    own = {name: text for name, text in inputs.items() if name in trusted.inputs}
    ours = {name: text for name, text in inputs.items() if name in RESERVED and name not in own}
    unknown = sorted(inputs.keys() - own.keys() - ours.keys())
    if unknown:
        raise PlanError(
            f"the workflow has inputs that train.yml has not: {', '.join(unknown)}",
            tip="pushtrain init --github, which brings the workflow's inputs in step with train.yml",
        )
    lines = tuple(f"{name}={text}" for name, text in sorted(own.items()) if text)
    return _Given(
        overrides=merged(read_params(ours.get("params", "")), lines),
        engine=ours.get("engine") or None,
        fresh=ours.get("fresh", "") == "true",
    )


def of_comment(desk: Desk, comment: Comment, train: Train, *, trusted: Spec, number: int) -> Wish:
    """The run that a `/train` starts; `number` equal ones come before it in the comment. Raises Refused."""
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
    said = repr((train.sha, train.overrides, train.engine, train.fresh, number))
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return _wish(
        desk,
        f"comment-{comment.id}-{digest}",
        _with(asked, pull=pull.number, fork=pull.fork),
        trusted=trusted,
        overrides=train.overrides,
        engine=train.engine,
        fresh=train.fresh,
        comment=comment.id,
        line=train.line,
    )


def again(desk: Desk, old: Asked, inputs: Mapping[str, object], *, by: str) -> Wish | str:
    """The run that the button "re-run" of a check starts: what the old one was, asked anew."""
    from runner.quantities import format_value

    base = old.base or contents.default_branch(desk.repository)
    trusted = trusted_spec(desk, base)
    if trusted is None:
        return _no_train_yml(desk, base)
    lines = tuple(f"{name}={format_value(value)}" for name, value in inputs.items())  # type: ignore[arg-type]  # inputs of a plan
    return _wish(
        desk, desk.job.id, _with(old, trigger="button", by=by), trusted=trusted, overrides=lines, fresh=True
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
    line: str = "",
) -> Wish:
    options = desk.options
    # A matrix runs one step with several train files or parameters.
    form = hashlib.sha256("\n".join((options.train_file, *options.params)).encode()).hexdigest()[:16]
    return Wish(
        key=f"{key}-{form}",
        asked=asked,
        overrides=merged(options.params, overrides),
        engine=engine,
        fresh=fresh or options.fresh,
        trusted=trusted,
        comment=comment,
        line=line,
    )


def _asked(desk: Desk, trigger: str, *, by: str, commit: str, branch: str | None, base: str) -> Asked:
    return Asked(
        trigger=trigger,
        commit=commit,
        branch=branch,
        dirty=False,
        by=by,
        repository=desk.name,
        base=base,
    )


def _with(asked: Asked, **changes: object) -> Asked:
    from dataclasses import replace

    return replace(asked, **changes)  # type: ignore[arg-type]  # its own fields


def _no_train_yml(desk: Desk, base: str) -> str:
    return f"there is no {desk.options.train_file} on {base}, so nothing says who may start what"


__all__ = ["Wish", "again", "check_person", "of_comment", "of_dispatch", "of_push", "of_schedule"]
