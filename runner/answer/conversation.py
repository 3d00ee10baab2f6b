"""A comment -> every command in it done, and one answer in the thread where there is something to say."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner import runs
from runner.answer import accept as acceptance
from runner.answer import faults, wish
from runner.answer.beat import beating
from runner.answer.lease import Lease
from runner.answer.outcome import Outcome
from runner.errors import (
    GitHubDown,
    GitHubError,
    NotFound,
    PushtrainError,
    Refused,
    SpecError,
    UsageError,
)
from runner.github import thread
from runner.report import thread as words
from runner.trigger import comment as comments

if TYPE_CHECKING:
    from runner.answer.accept import Accepted
    from runner.answer.desk import Desk
    from runner.spec import Spec
    from runner.store import Store
    from runner.trigger.event import Comment

logger = logging.getLogger(__name__)


# What the workflow for comments passes over: an answer may name a command, and with a person's token be a person's.
ANSWER = "<!-- pushtrain:/answer -->"

# For so long nobody else obeys a command of one who is silent.
TURN_S = 60.0
TURN_POLL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What came of one command: a run, an answer in Markdown, or both; `code` and `note` are of one that failed.

    `unsaid` is the key by which the answer is kept until it is said, empty where it need not be.
    """

    accepted: Accepted | None = None
    answer: str = ""
    code: int = 0
    note: str = ""
    unsaid: str = ""


def answer(desk: Desk, comment: Comment) -> Outcome:
    """Do what a comment says. Safe to repeat: what it started is followed, what it said is not said again.

    Raises GitHubError where nothing can be known of the pull request or the person, and in an outage where who asks
    does so again.
    """
    if comment.pull is None:
        return Outcome(notes=("a comment on an issue starts nothing; write it on a pull request",))
    if comment.by_bot:
        return Outcome(notes=("a comment of a bot starts nothing",))
    base = desk.default_branch
    try:
        trusted = wish.trusted_spec(desk, base)
    except SpecError as error:
        return _broken(desk, comment, base, error)
    if trusted is None:
        return Outcome(notes=(f"there is no {desk.options.train_file} on {base}: nothing says who may",))
    word = trusted.on.comment.command if trusted.on.comment else "/train"
    found = comments.commands(comment.body, word=word)
    if not found:
        return Outcome(notes=("there is no command in the comment",))
    _react(desk, comment, "eyes")
    try:
        wish.check_person(desk, comment.by, trusted)
    except Refused as error:
        return _spoken(desk, comment, [_failed(found[0], error)])
    return _spoken(desk, comment, [_do(desk, comment, *each, trusted=trusted) for each in _numbered(found)])


def _broken(desk: Desk, comment: Comment, base: str, error: SpecError) -> Outcome:
    """The train.yml that says who may cannot be read: whoever wrote a command is told so, whoever they are."""
    found = comments.commands(comment.body)
    if not found:
        return Outcome(notes=(f"{desk.options.train_file} of {base} cannot be read: {error}",))
    _react(desk, comment, "eyes")
    message = f"{desk.options.train_file} of {base} has faults, so nothing says who may:\n{error}"
    return _spoken(desk, comment, [_failed(found[0], Refused(message, tip="pushtrain check"), code=65)])


def _numbered(found: tuple[comments.Command, ...]) -> list[tuple[comments.Command, int]]:
    """Each command with how many came before it that mean the same."""
    seen: Counter[comments.Command] = Counter()
    numbered = []
    for command in found:
        meant = replace(command, line="")
        numbered.append((command, seen[meant]))
        seen[meant] += 1
    return numbered


def _spoken(desk: Desk, comment: Comment, done: list[_Done]) -> Outcome:
    """Answer in the thread. Whatever GitHub says to that, the runs that were started are followed."""
    answers = [each.answer for each in done if each.answer]
    unsaid = [each.unsaid for each in done if each.answer and each.unsaid]
    code = max((each.code for each in done), default=0)
    accepted = tuple(each.accepted for each in done if each.accepted is not None)
    if answers:
        _say_once(desk, comment, words.joined(answers, to=comment.by), unsaid=unsaid)
    if code or not accepted:  # Runs react when they end.
        _react(desk, comment, "confused" if code else "rocket")
    return Outcome(accepted=accepted, notes=tuple(each.note for each in done if each.note), failed=code)


def _do(desk: Desk, comment: Comment, command: comments.Command, number: int, *, trusted: Spec) -> _Done:
    """One command. What goes wrong with it is told in the thread, and harms none of the others."""
    try:
        if isinstance(command, comments.Cancel | comments.Promote):
            return _once(desk, comment, command, number, trusted=trusted)
        return _obey(desk, comment, command, number, trusted=trusted)
    except GitHubDown as error:
        if desk.comes_again:
            raise
        return _failed(command, error)
    except PushtrainError as error:
        return _failed(command, error)


def _failed(command: comments.Command, error: PushtrainError, *, code: int | None = None) -> _Done:
    say = words.refused if isinstance(error, Refused) else words.mistake
    note = f"`{command.line.strip().replace('`', ' ')}`: {error}"
    return _Done(answer=say(command.line, str(error), error.tip), code=code or error.exit_code, note=note)


def _once(desk: Desk, comment: Comment, command: comments.Command, number: int, *, trusted: Spec) -> _Done:
    """What must not happen again when the comment is edited: by then other runs go on, and others were promoted.

    Of several who answer the comment one does it. One that died at it is followed by the next, who does it again, and
    what came of it is kept until it is said.
    """
    store = desk.shop.store
    key = _key(desk, comment, repr((replace(command, line=""), number)))
    if _is_there(store, f"{key}-done"):  # Older versions marked it so.
        return _Done()
    turn = Lease(store, f"{key}-turn", by=_answerer(desk), lasts_s=TURN_S)
    while (standing := turn.take()) == "theirs":
        time.sleep(TURN_POLL_S)
    if standing == "done":
        return _Done(answer=_unsaid(store, key), unsaid=key)
    try:
        with beating(turn.take, every_s=TURN_S / 4):
            done = _obey(desk, comment, command, number, trusted=trusted)
    except PushtrainError:
        turn.give_back()
        raise
    store.write(f"{key}-unsaid", done.answer.encode())
    turn.finish()
    return replace(done, unsaid=key)


def _unsaid(store: Store, key: str) -> str:
    try:
        return store.read(f"{key}-unsaid").decode()
    except NotFound:
        return ""


def _answerer(desk: Desk) -> str:
    """Who answers a comment: the same for a job that is run again, and for a watcher that takes over from another."""
    return _digest(repr((desk.job.id, desk.options.train_file, desk.options.params)))


def _obey(desk: Desk, comment: Comment, command: comments.Command, number: int, *, trusted: Spec) -> _Done:
    assert comment.pull is not None
    match command:
        case comments.Help():
            return _Done(answer=words.help_text(trusted))
        case comments.Mistake():
            raise UsageError(command.message, tip=command.tip)
        case comments.Train():
            return _train(desk, comment, command, number, trusted=trusted)
        case comments.Cancel():
            return _cancel(desk, comment)
        case comments.Status():
            return _Done(
                answer=words.status(acceptance.of_pull(desk.shop.store, desk.name, comment.pull), desk.place)
            )
        case comments.Promote():
            from runner.answer import registry

            promotion = registry.promote(desk, command, by=comment.by)
            return _Done(answer=words.promoted(promotion, desk.place))
    raise AssertionError(command)


def _train(desk: Desk, comment: Comment, train: comments.Train, number: int, *, trusted: Spec) -> _Done:
    key = wish.key_of_comment(desk, comment, train, number=number)
    known = acceptance.known(desk, key)
    if known is not None:  # The head may have moved since, and the pull request be closed.
        return _Done(accepted=known)
    wanted = wish.of_comment(desk, comment, train, trusted=trusted, key=key)
    try:
        return _Done(accepted=acceptance.accept(desk, wanted))
    except SpecError as error:  # Its faults are the commit's, all others are those of the comment.
        faults.tell(desk, str(wanted.asked.commit), error, name=trusted.name)
        raise


def _cancel(desk: Desk, comment: Comment) -> _Done:
    assert comment.pull is not None
    store = desk.shop.store
    going = [each for each in acceptance.of_pull(store, desk.name, comment.pull) if not each.state.ended]
    for run in going:
        runs.request_cancel(store, run.id, how="stop", why=f"cancelled by {comment.by} on the pull request")
    return _Done(answer=words.cancelled(going, desk.place))


def _say_once(desk: Desk, comment: Comment, answers: str, *, unsaid: Sequence[str]) -> None:
    """Post the answer, unless an earlier attempt of this job, or of the comment as it was, said just this."""
    assert comment.pull is not None
    store, pull, digest = desk.shop.store, comment.pull, _digest(answers)
    of_older_versions = _key(desk, comment, f"{ANSWER}\n{answers}")
    turn = Lease(store, f"{_key(desk, comment, answers)}-answer", by=_answerer(desk), lasts_s=TURN_S)
    if _is_there(store, of_older_versions) or (standing := turn.take()) == "theirs":
        return
    marker = f"<!-- {comment.id}-{digest} -->"

    def write() -> None:  # One who died at it may have written it.
        if not turn.inherited or thread.find(desk.quick, pull, marker) is None:
            thread.write(desk.quick, pull, f"{ANSWER}{marker}\n{answers}")

    try:
        if standing == "ours":
            desk.features.use("comments", write)
    except GitHubError as error:
        turn.failed()
        if desk.comes_again and error.retryable:
            raise
        logger.warning("the answer in the thread is not written: %s", error)
        return
    turn.finish()
    for each in unsaid:
        store.delete(f"{each}-unsaid")


def _key(desk: Desk, comment: Comment, text: str) -> str:
    """Where it is kept what was done or said for a comment. `text` is what the command means, or the answer."""
    return f"github/{desk.name}/said/{comment.id}-{_digest(text)}"


def _is_there(store: Store, key: str) -> bool:
    try:
        store.read(key)
    except NotFound:
        return False
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _react(desk: Desk, comment: Comment, reaction: thread.Reaction) -> None:
    try:
        desk.features.use("reactions", lambda: thread.react(desk.quick, comment.id, reaction))
    except GitHubError as error:
        logger.warning("the comment has no reaction: %s", error)
