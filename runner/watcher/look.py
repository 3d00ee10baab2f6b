"""One look at a repository -> what is new there, done once by one of all watchers: runs started, commands obeyed."""

from __future__ import annotations

import hashlib
import logging
import re
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from runner.answer import events, said
from runner.answer.beat import beating
from runner.answer.desk import Job
from runner.answer.lease import Lease
from runner.errors import EngineError, GitHubAbsent, GitHubDenied, StoreError
from runner.github import changes
from runner.trigger import Comment, Push
from runner.watcher import seen as memory
from runner.watcher.guard import guarded
from runner.watcher.seen import Seen, Settled

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.errors import PushtrainError
    from runner.github.changes import Ref, Written
    from runner.trigger import Event

logger = logging.getLogger(__name__)

LEASE_S = 60.0
TRIES = 6
LONGEST_PAUSE_S = 600.0
# Reports and answers of ours; the workflow for comments passes them over as well.
_OURS = "<!-- pushtrain:"
# https://github.com/iterative/gto
_MODELS = re.compile(r"refs/tags/[^/@#]+(?:@v?\d+\.\d+\.\d+|#[^#]+(?:#\d+)?)")


@dataclass(kw_only=True)
class Look:
    """One repository through the eyes of one watcher, `by` name.

    `desk` is asked anew for each event: tokens end, and a default branch may change. `stopped` ends a look between
    two events.
    """

    desk: Callable[[], Desk]
    by: str
    every_s: float
    lease_s: float = LEASE_S
    stopped: Callable[[], bool] = lambda: False
    now_s: Callable[[], float] = time.time
    _later: dict[str, float] = field(default_factory=dict)

    def begin(self, desk: Desk, *, since_s: float | None) -> None:
        """Take what is there now as seen, or (`since_s`) what was there then, unless somebody began before."""
        store, key = desk.shop.store, _key(desk)
        if memory.load(store, key) is not None:
            return
        now = changes.refs(desk.repository)
        if since_s is None:
            since_s = self.now_s() - memory.OVERLAP_S
            refs = {ref.name: ref.sha for ref in now}
            there = [_settled(each) for each in changes.comments(desk.repository, since_s=since_s)]
        else:
            refs, there = changes.heads_at(desk.repository, now, at_s=since_s), []
        first = Seen(refs=refs, since_s=since_s, comments={})
        memory.begin(store, key, memory.settled_comments(first, there, pending_at_s=since_s))
        logger.info("%s: watching from now on; %d branches and tags are there", desk.name, len(refs))

    def forget(self, desk: Desk) -> None:
        """Let `begin` be the first look again."""
        memory.forget(desk.shop.store, _key(desk))

    def look(self) -> bool:
        """Do what is new; returns whether nothing is left to be done. Safe to repeat, and beside other watchers.

        Raises GitHubError where GitHub does not say what is new, and StoreError.
        """
        desk = self.desk()
        seen = memory.load(desk.shop.store, _key(desk))
        if seen is None:
            self.begin(desk, since_s=None)
            return True
        return all([self._refs(desk, seen), self._comments(desk, seen)])

    def _refs(self, desk: Desk, seen: Seen) -> bool:
        now = {ref.name: ref for ref in changes.refs(desk.repository)}
        store, key = desk.shop.store, _key(desk)
        for name in seen.refs.keys() - now.keys():
            logger.info("%s: %s is gone", desk.name, name)
            memory.change(store, key, lambda found, name=name: memory.settled_ref(found, name, None))  # type: ignore[misc]
        whole = True
        for name, ref in now.items():
            before = seen.refs.get(name)
            if before == ref.sha:
                continue
            if self.stopped():
                return False
            event = f"ref-{_digest(name)}-{ref.sha}"
            if self._once(desk, event, lambda desk, ref=ref, before=before: _push(desk, ref, before)):  # type: ignore[misc]
                memory.change(store, key, lambda found, ref=ref: memory.settled_ref(found, ref.name, ref.sha))  # type: ignore[misc]
            else:
                whole = False
        return whole

    def _comments(self, desk: Desk, seen: Seen) -> bool:
        settled: list[Settled] = []
        pending: list[float] = []

        def keep() -> None:
            at_s = min(pending, default=None)
            memory.change(
                desk.shop.store,
                _key(desk),
                lambda then: memory.settled_comments(then, settled, pending_at_s=at_s),
            )

        for comment in changes.comments(desk.repository, since_s=seen.since_s):
            found = _settled(comment)
            if memory.knows(seen, found.id, found.digest):
                continue
            if self.stopped():
                pending.append(comment.updated_at_s)
                break
            if _is_chatter(comment) or self._once(
                desk,
                f"comment-{found.id}-{found.digest}",
                lambda desk, comment=comment: _comment(desk, comment),  # type: ignore[misc]
            ):
                settled.append(found)
            else:
                pending.append(comment.updated_at_s)
            if not _is_chatter(comment):
                keep()
        if settled:
            keep()
        return not pending

    def _once(self, desk: Desk, event: str, read: Callable[[Desk], Event | None]) -> bool:
        """Do what an event asks for, unless another watcher does or did; returns whether that is done."""
        if self.now_s() < self._later.get(event, 0.0):
            return False
        key = f"github/{desk.name}/watch/{_form(desk)}/claims/{event}"
        claim = Lease(desk.shop.store, key, by=self.by, lasts_s=self.lease_s, now_s=self.now_s)
        standing = claim.take()
        if standing != "ours":
            return standing == "done"
        with beating(claim.take, every_s=self.lease_s / 4):
            error = guarded(lambda: _do(replace(self.desk(), job=Job(id=event, attempt=1, url="")), read))
        if error is not None and self._again(event, error, tries=claim.failed()):
            return False
        self._later.pop(event, None)
        claim.finish()
        return True

    def _again(self, event: str, error: PushtrainError, *, tries: int) -> bool:
        """Whether it is tried again, after a pause: an outage is waited for, however long; other faults are not."""
        told = f"{error}{f' ({error.tip})' if error.tip else ''}"
        outage = isinstance(error, GitHubDenied) or (error.retryable and not isinstance(error, _OURS_TO_MEND))
        if not outage and not (error.retryable and tries < TRIES):
            logger.error("%s: %s", event, told)
            return False
        pause_s = min(self.every_s * 2 ** min(tries - 1, 10), LONGEST_PAUSE_S)
        logger.warning("%s: %s; trying again in %.0f s", event, told, pause_s)
        self._later[event] = self.now_s() + pause_s
        return True


_OURS_TO_MEND = (EngineError, StoreError)


def _do(desk: Desk, read: Callable[[Desk], Event | None]) -> None:
    event = read(desk)
    if event is None:
        return
    outcome = events.answer(desk, event)
    for note in outcome.notes:
        logger.info("%s: %s", desk.name, note)
    for accepted in outcome.accepted:
        logger.info("%s: run %s", desk.name, accepted.said.run_id)
        if not accepted.found:  # What a job of Actions started is that job's to tell of.
            said.keep(desk.shop.store, msgspec.structs.replace(accepted.said, detached=True))


def _push(desk: Desk, ref: Ref, before: str | None) -> Event | None:
    """The push that moved a ref to where it is; None for the tags by which models have versions and stages.

    Those are made by what is trained: it would train again, and again.
    """
    repository, branch = desk.repository, changes.branch_of(ref.name)
    if _MODELS.fullmatch(ref.name):
        return None
    commit = changes.commit_of(repository, ref)
    return Push(
        by=changes.pusher_of(repository, branch, commit) if branch is not None else "",
        commit=commit,
        before=before,
        branch=branch,
        tag=changes.tag_of(ref.name),
        message=changes.message_of(repository, commit),
        deleted=False,
    )


def _comment(desk: Desk, comment: Written) -> Event | None:
    """The comment, unless it was edited by somebody else than its author: it is then the word of neither."""
    try:
        edit = changes.last_edit(desk.repository, comment)
    except GitHubAbsent:
        logger.info("%s is gone, and starts nothing", comment.url)
        return None
    if edit is not None and edit.by != comment.by:
        logger.info("%s was edited by somebody else than its author, and starts nothing", comment.url)
        return None
    return Comment(
        by=comment.by,
        by_bot=comment.by_bot,
        id=comment.id,
        body=comment.body,
        pull=comment.pull,
        at_s=comment.created_at_s if edit is None else edit.at_s,
        edited=edit is not None,
        url=comment.url,
    )


def _is_chatter(comment: Written) -> bool:
    """Whether it starts nothing for sure, so that nobody needs to have a turn at it."""
    if comment.by_bot or not comment.by or comment.pull is None or comment.body.startswith(_OURS):
        return True
    return "/" not in unicodedata.normalize("NFKC", comment.body)


def _settled(comment: Written) -> Settled:
    digest = _digest(f"{comment.updated_at_s:.0f} {comment.body}")
    return Settled(id=comment.id, digest=digest, at_s=comment.updated_at_s)


def _key(desk: Desk) -> str:
    return f"github/{desk.name}/watch/{_form(desk)}/seen.json"


def _form(desk: Desk) -> str:
    """Watchers of several train files of one repository know nothing of each other."""
    return _digest("\n".join((desk.options.train_file, *desk.options.params)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
