"""Facts of a run -> its check, its comment and its reaction on GitHub, each said once; what fails stays due."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from runner import runs
from runner.answer import said as memory
from runner.answer.beat import beating
from runner.answer.lease import Lease
from runner.answer.said import Said
from runner.errors import GitHubAbsent, GitHubDenied, GitHubError
from runner.github import check as checks
from runner.github import thread
from runner.lock import held, is_held
from runner.report import check as check_text
from runner.report import comment as comment_text

if TYPE_CHECKING:
    from runner.answer.desk import Desk
    from runner.report.facts import RunFacts
    from runner.runs import Run
    from runner.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

# For so long nobody else speaks of the run of one who is silent.
SPEAKS_S = 120.0
# GitHub itself ends a check that nobody closed in so long, as stale.
# https://docs.github.com/en/rest/guides/using-the-rest-api-to-interact-with-checks
STALE_S = 14 * 86400.0

BUTTONS = (
    checks.Action(label="Cancel", description="Stop it; its outputs are kept", identifier="cancel"),
    checks.Action(label="Train again", description="The same once more, on purpose", identifier="rerun"),
)


class Voice:
    """Says one run to GitHub. What it said is in the run's folder, so that another process can go on."""

    def __init__(self, desk: Desk, said: Said, *, store: Store, name: str) -> None:
        self._desk, self._said, self._store, self._name = desk, said, store, name
        self._missed = False
        self._denied: set[int] = set()
        self._lock: contextlib.ExitStack | None = None
        self._turn = Lease(
            store, _key(said), by=_speaker(desk.shop.home), lasts_s=SPEAKS_S, is_gone=self._is_gone
        )
        self._speaks = False

    @property
    def said(self) -> Said:
        """What was asked for, and what was said of it so far."""
        return self._said

    @property
    def release_url(self) -> str | None:
        """Where the model was published."""
        return self._said.release_url

    def renew(self, desk: Desk) -> None:
        """Speak with another token from now on, which may be allowed to change what the one before was not."""
        self._desk = desk
        self._denied.clear()

    def published(self, url: str) -> None:
        """Remember where the model is."""
        self._keep(release_url=url)

    def detach(self) -> None:
        """Remember that no job follows the run: a watcher may."""
        self._keep(detached=True)

    def speaks(self) -> bool:
        """Whether it is ours to say: of several who follow one run one speaks, as long as it lives.

        On this machine that is known at once, from others by what they keep in the store.
        """
        if self._lock is None:
            lock = contextlib.ExitStack()
            if not lock.enter_context(held(self._lock_in(self._desk.shop.home))):
                lock.close()
                return False
            self._lock = lock
        spoke, self._speaks = self._speaks, self._turn.take() == "ours"
        if self._speaks and not spoke:
            self._said = memory.load(self._store, self._said.repository, self._said.key) or self._said
        return self._speaks

    def _is_gone(self, by: str) -> bool:
        """Whether who speaks by the turn was a process of this machine, with another home, that has ended."""
        machine, _, home = by.partition(":")
        if machine != socket.gethostname():
            return False
        lock = self._lock_in(Path(home))
        try:
            return lock.exists() and not is_held(lock)
        except OSError:  # It is another user's.
            return False

    def _lock_in(self, home: Path) -> Path:
        return home / "voices" / f"{self._said.key}.lock"

    def stay(self) -> None:
        """Go on as the one who speaks, also where there is nothing new to say for long. To be called often."""
        if self._speaks:
            self._turn.stay()

    def staying(self) -> contextlib.AbstractContextManager[None]:
        """The same while the block lasts."""
        return beating(self._turn.take, every_s=SPEAKS_S / 4)

    def leave(self) -> None:
        """Let others speak. Safe to repeat."""
        if self._lock is not None:
            self._turn.give_back()
            self._lock.close()
        self._lock, self._speaks = None, False

    def say_check(self, facts: RunFacts, *, lost: bool = False) -> None:
        """Create the check, or bring it up to date. Safe to repeat: what GitHub has is not sent again.

        A run that is `lost` has nobody who moves it on: its check is closed, until somebody takes the run up.
        """
        wanted = self._check(facts)
        digest = _digest(repr(wanted))
        if lost:
            # How long ago is no news: that it is lost, and why, is said once.
            digest = _digest(repr(("lost", facts.run.state, facts.run.attempt, facts.notes)))
            wanted = dataclasses.replace(
                wanted,
                status="completed",
                conclusion="failure",
                completed_at_s=time.time(),
                title="its supervisor is gone",
            )
        ends = facts.run.state.ended
        if digest != self._said.check_digest:
            self._put_check(wanted, digest, ends=ends)
        replaces = self._said.replaces
        if ends and replaces is not None and not self._said.replaced and self._update(replaces, wanted):
            self._keep(replaced=True)

    @property
    def left_open(self) -> bool:
        """Whether a check of the run goes on that our token may not close: a job whose token made it may."""
        said = self._said
        ours = said.check in self._denied and not said.ends
        theirs = said.replaces is not None and not said.replaced
        return (ours or theirs) and time.time() - runs.asked_at_s(said.run_id) < STALE_S

    def _put_check(self, wanted: checks.Check, digest: str, *, ends: bool) -> None:
        number, replaces = self._said.check or self._lost_check(wanted), self._said.replaces
        if number is not None:
            if told := self._update(number, self._in_place_of(replaces, wanted)):
                self._keep(check=number, check_digest=digest, ends=ends)
            if told is not False or replaces is not None or self._said.ends:
                return
            self._keep(check=number)
        noted = self._in_place_of(number, wanted)
        made = self._lost_check(wanted) if number is not None else None
        if made in (None, number):
            made = self._try("checks", lambda: checks.create(self._desk.quick, noted))
        elif not self._update(made, noted):  # We died as soon as it was made.
            return
        if made is not None:
            self._keep(check=made, check_digest=digest, ends=ends, replaces=number)

    def _update(self, number: int, wanted: checks.Check) -> bool | None:
        """Whether GitHub took it: False for a check that our token may not change, None where it took it for no other
        reason.

        GitHub lets a check be changed only by the App that made it, of which the one of all workflows is one.
        """
        if number in self._denied:
            return False

        def update() -> bool:
            try:
                checks.update(self._desk.quick, number, wanted)
            except GitHubDenied as error:
                if not error.permission:
                    raise
                logger.info("the check %d is not ours to change: %s", number, error)
                self._denied.add(number)
                return False
            return True

        return self._try("updates of checks", update)

    def _in_place_of(self, number: int | None, wanted: checks.Check) -> checks.Check:
        if number is None:
            return wanted
        there = f"[the check that the run had before]({self._desk.place.url}/runs/{number})"
        note = (
            f"In place of {there}, which only a job with the token that made it can close: the next one does."
        )
        return dataclasses.replace(wanted, summary=f"{note}\n\n{wanted.summary}")

    def _lost_check(self, wanted: checks.Check) -> int | None:
        """The check of one who spoke before us, and died before that was written down."""
        if not self._turn.inherited:
            return None
        return self._try("checks", lambda: checks.find(self._desk.quick, wanted))

    def say_comment(self, facts: RunFacts) -> None:
        """Write the comment of this pull request and model, or rewrite it. Safe to repeat."""
        pull = self._said.pull
        if pull is None:
            return
        body = comment_text.body(facts)
        digest = _digest(body)
        if digest == self._said.comment_digest:
            return
        number = self._try("comments", lambda: self._put_comment(pull, body))
        if number is not None:
            self._keep(comment=number, comment_digest=digest)

    def react(self, reaction: thread.Reaction) -> None:
        """Put `eyes`, `rocket` or `confused` on the comment that asked. Safe to repeat."""
        command = self._said.command
        if command is None or self._said.reaction == reaction:
            return

        def react() -> bool:
            thread.react(self._desk.quick, command, reaction)
            return True

        if self._try("reactions", react):
            self._keep(reaction=reaction)

    @property
    def missed(self) -> bool:
        """Whether something could not be said since `forget_misses`."""
        return self._missed

    def close(self) -> None:
        """The run ended and all of it was said: it leaves the outbox."""
        self._keep(closed=True)
        memory.close_outbox(self._store, self._said)
        self.leave()

    def forget_misses(self) -> None:
        """Before everything is tried once more."""
        self._missed = False

    def _put_comment(self, pull: int, body: str) -> int:
        name = self._name
        known = self._said.comment or memory.comment_of(self._store, self._desk.name, pull, name)
        if known is None:
            known = thread.find(self._desk.quick, pull, comment_text.marker(name))
        if known is not None:
            try:
                thread.rewrite(self._desk.quick, known, body)
                return known
            except GitHubAbsent:
                logger.info("the comment %d was deleted: a new one is written", known)
        number = thread.write(self._desk.quick, pull, body)
        memory.keep_comment(self._store, self._desk.name, pull, name, number)
        return number

    def _check(self, facts: RunFacts) -> checks.Check:
        run = facts.run
        status, conclusion = check_text.state(facts)
        text = check_text.output(facts)
        return checks.Check(
            name=f"pushtrain / {run.name}",
            commit=self._said.commit,
            external_id=run.id,
            details_url=facts.place.job_url,
            status=status,
            conclusion=conclusion,
            started_at_s=run.created_at_s,
            completed_at_s=_ended_at_s(run),
            title=text.title,
            summary=text.summary,
            text=text.text,
            actions=self._buttons(run),
        )

    def _buttons(self, run: Run) -> tuple[checks.Action, ...]:
        if not self._desk.buttons:
            return ()
        return BUTTONS[1:] if run.state.ended else BUTTONS[:1]

    def _try(self, feature: str, call: Callable[[], T]) -> T | None:
        """What GitHub answers; None where it does not, or where the token may not: then the run goes on without."""
        try:
            return self._desk.features.use(feature, call)
        except GitHubError as error:
            later = error.retryable or (isinstance(error, GitHubDenied) and not error.permission)
            if later:
                logger.warning("GitHub was not told of %s, it will be later: %s", self._said.run_id, error)
                self._missed = True
            else:  # It would be refused again and again.
                logger.warning("GitHub does not take what is to be said of %s: %s", self._said.run_id, error)
            return None

    def _keep(self, **changes: object) -> None:
        self._said = replace(self._said, **changes)
        memory.keep(self._store, self._said)


def spoke(store: Store, said: Said) -> bool:
    """Whether somebody began to speak of it."""
    return bool(list(store.keys(_key(said))))


def _key(said: Said) -> str:
    return f"github/{said.repository}/voices/{said.key}.json"


def _ended_at_s(run: Run) -> float | None:
    return run.stages[-1].started_at_s if run.state.ended else None


def _speaker(home: Path) -> str:
    """This machine's state folder, by one name: its locks say which process with that home speaks."""
    return f"{socket.gethostname()}:{home.resolve()}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:20]
