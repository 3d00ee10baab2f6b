"""An event and the `on:` of the base branch -> why nothing is trained, or nothing in the way: pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runner.errors import Refused
from runner.trigger.comment import Train
from runner.trigger.event import Push, Schedule
from runner.trigger.globs import matches
from runner.trigger.roles import Role, allows

if TYPE_CHECKING:
    from runner.spec import Triggers
    from runner.spec.sections import Push as OnPush

SKIP = (
    "[skip train]",
    "[train skip]",
    "[skip ci]",
    "[ci skip]",
    "[no ci]",
    "[skip actions]",
    "[actions skip]",
)
SHORTEST_SHA = 7


def push_is_passed_over(
    push: Push, on: Triggers, *, changed: Callable[[], Sequence[str] | None]
) -> str | None:
    """Why a push trains nothing, None where it trains.

    `changed` gives the paths that differ from before the push, None where that cannot be told (then every path
    counts as changed); it is asked only if `on.push.paths` is set. As on GitHub, a tag is held against `tags` alone
    and `paths` is not asked for tags.
    """
    if push.deleted:
        return "a deleted branch or tag trains nothing"
    if on.push is None:
        return "`on:` of the base branch's train.yml has no push"
    if found := next((each for each in SKIP if each in push.message), None):
        return f"the commit's message has {found}"
    if push.tag is not None:
        return None if on.push.tags and matches(on.push.tags, push.tag) else f"on.push.tags: not {push.tag}"
    return _branch_is_passed_over(push.branch or "", on.push) or _paths_are_passed_over(
        on.push.paths, changed
    )


def _branch_is_passed_over(branch: str, wanted: OnPush) -> str | None:
    if wanted.tags and not wanted.branches:
        return "on.push has tags and no branches"
    if wanted.branches and not matches(wanted.branches, branch):
        return f"on.push.branches: not {branch}"
    return None


def _paths_are_passed_over(wanted: Sequence[str], changed: Callable[[], Sequence[str] | None]) -> str | None:
    paths = changed() if wanted else None
    if paths is None or any(matches(wanted, path) for path in paths):
        return None
    return (
        f"on.push.paths: none of the {len(paths)} changed files"
        if len(paths) > 1
        else "on.push.paths: not the changed file"
    )


def schedule_is_passed_over(schedule: Schedule, on: Triggers) -> str | None:
    """Why the clock trains nothing: the base branch's train.yml names its lines."""
    if schedule.cron in on.schedule:
        return None
    return f"on.schedule of the base branch's train.yml has no {schedule.cron!r}"


def check_role(on: Triggers, *, login: str, role: Role) -> None:
    """Raises Refused where a comment of this person may not start, cancel or promote."""
    if on.comment is None:
        raise Refused(
            "comments start nothing here: `on:` of the base branch's train.yml has no comment",
            tip="on: {comment: {roles: [write]}}",
        )
    if not allows(on.comment.roles, role):
        wanted = " or ".join(on.comment.roles)
        raise Refused(f"this needs the role {wanted} in this repository; {login} has {role}")


def pinned(
    wish: Train,
    *,
    head: str,
    head_then: str | None,
    commits: Callable[[], Sequence[str]],
    fork: bool,
    word: str,
) -> str:
    """The commit that a `/train` means: the head that its author saw, or the one that they name.

    `head_then` is the head at the moment of the comment, None where that cannot be told; `commits` are those of the
    pull request. A short id of a fork's commit is refused, since anyone can make another commit that begins so.
    Raises Refused with the line to type.
    """
    again = f"{word} {head}" + wish.line.strip().removeprefix(word)
    if wish.sha is None:
        if fork:
            raise Refused(
                "the pull request comes from a fork, so name the commit that you looked at", tip=again
            )
        if head_then != head:
            why = "cannot be told" if head_then is None else f"was {head_then[:10]}"
            raise Refused(
                f"the head of the branch is {head[:10]} now, and at the time of the comment it {why}: name the commit",
                tip=again,
            )
        return head
    sha = wish.sha.lower()
    found = [commit for commit in dict.fromkeys((head, *commits())) if commit.startswith(sha)]
    corrected = wish.line.strip().replace(wish.sha, found[0] if len(found) == 1 else head, 1)
    if fork and len(sha) < len(head):
        raise Refused("the commit of a fork has to be named in full", tip=corrected)
    if not found:
        raise Refused(f"{wish.sha} is no commit of this pull request; its head is {head[:10]}", tip=corrected)
    if len(found) > 1:
        raise Refused(f"{wish.sha} may be any of {len(found)} commits: write more of it", tip=corrected)
    return found[0]
