"""One repository of a watcher -> its desk, made anew as tokens are, and its turns: look, follow, wait."""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.answer import desk as desks
from runner.answer import said as memory
from runner.answer.desk import Desk, Job, Options
from runner.checkout import Remote
from runner.errors import GitHubDenied, GitHubDown
from runner.github import client, contents
from runner.github.features import Features
from runner.lock import held
from runner.report.facts import Place
from runner.watcher.follower import Follower
from runner.watcher.guard import guarded
from runner.watcher.look import LEASE_S, Look

if TYPE_CHECKING:
    from runner.github.client import Auth, Repository
    from runner.github.contents import About
    from runner.pipeline import Workshop

logger = logging.getLogger(__name__)

STEP_S = 1.0
LONGEST_OUTAGE_S = 60.0
LONGEST_PAUSE_S = 600.0
S3_STEP_S = 10.0
SHORT_S = 0.1
START_WITHIN_S = 30.0
# A change of the default branch is seen after so long; until then its old train.yml says who may.
DEFAULT_BRANCH_S = 60.0
CACHE_KEPT_S = 2 * 86400.0
TIDY_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a watcher is told: how often to look (`every_s`), and where it begins.

    `looks` is False where runs are only told of and published. `auth` says who we are; it is asked again every time
    GitHub refuses who we were.
    """

    shop: Workshop
    auth: Callable[[], Auth]
    environ: Mapping[str, str]
    options: Options
    every_s: float
    looks: bool
    since_s: float | None = None
    from_now: bool = False
    lease_s: float = LEASE_S


@dataclass(kw_only=True)
class Post:
    """One repository, watched. Of one thread, but for `stop` and `watches`.

    `name` is as somebody typed it until GitHub says how it is written: all that is kept goes by that. One that the
    store has (`kept`) stays as it is there.
    """

    orders: Orders
    name: str
    stop: threading.Event
    kept: bool = False
    _repository: Repository | None = None
    _about: About | None = None
    _asked_s: float = 0.0
    _begun: bool = False
    _faults: int = 0
    _tidied_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        orders = self.orders
        self.follower = Follower(desk=self.desk, every_s=step_s(orders.shop.store_uri))
        self._look = Look(
            desk=self.desk,
            by=watcher_name(orders.shop.home),
            every_s=orders.every_s,
            lease_s=orders.lease_s,
            stopped=self.stop.is_set,
        )

    def watches(self, name: str) -> bool:
        """Whether what the store has of `name` is told of here; in any case of its letters until GitHub said which."""
        return name == self.name if self._about is not None else name.lower() == self.name.lower()

    def begin(self) -> None:
        """Take what is there as seen, as ordered. Raises GitHubError, so that a wrong name or token is told at once."""
        desk = self.desk()
        if self.orders.looks and not self._begun:
            if self.orders.from_now:
                self._look.forget(desk)
            self._look.begin(desk, since_s=self.orders.since_s)
        self._begun = True

    def once(self) -> bool:
        """Look once, do what is new and say what is due; returns whether nothing is left. Runs go on by themselves."""
        whole = self._looked()
        deadline_s = time.monotonic() + START_WITHIN_S
        while True:
            self.follower.step()
            if self.follower.announced or time.monotonic() > deadline_s or self.stop.wait(SHORT_S):
                break
        said = self.follower.announced and not self.follower.missed
        self.follower.restart()
        return whole and said

    def _looked(self) -> bool:
        if self.kept and self.follower.idle and not memory.due(self.orders.shop.store, self.name):
            return True
        if not self._begun:
            self.begin()
        whole = self._look.look() if self.orders.looks else True
        self.follower.look()
        return whole

    def watch(self, *, until_idle: bool) -> None:
        """Look and follow until `stop`, or (`until_idle`) until nothing is left to say. Blocks."""
        due_s = 0.0
        with held(self._lock(), wait_s=0.0) as first:
            if not first:
                logger.info("%s: another watcher of this machine is at it; waiting for its end", self.name)
        while not self.stop.is_set():
            with held(self._lock(), wait_s=STEP_S) as ours:
                while ours and not self.stop.is_set():
                    if time.monotonic() >= due_s:
                        due_s = self._round()
                    self.follower.step()
                    # A new one would ask a repository that is gone again at once.
                    if until_idle and self.follower.idle and not self._faults:
                        return
                    self.stop.wait(STEP_S)
        self.follower.restart()

    def _round(self) -> float:
        """Look once; returns when the next look is due: later after each fault in a row."""
        error = guarded(self._looked)
        self._faults = 0 if error is None else self._faults + 1
        if error is not None:
            logger.warning("%s: %s%s", self.name, error, f" ({error.tip})" if error.tip else "")
        if isinstance(error, GitHubDenied):
            self._leave()
        self._tidy()
        longest_s = LONGEST_OUTAGE_S if isinstance(error, GitHubDown) else LONGEST_PAUSE_S
        pause_s = self.orders.every_s * 2.0 ** min(max(self._faults - 1, 0), 10)
        return time.monotonic() + max(self.orders.every_s, min(pause_s, longest_s))

    def desk(self) -> Desk:
        """All that is at hand, with a token that is good now. Raises GitHubError, or UsageError without one."""
        orders, default_branch = self.orders, self._learned().default_branch
        repository = self._connected().named(self.name)
        place = _place(orders.environ, self.name)
        return Desk(
            shop=orders.shop,
            repository=repository,
            quick=repository,
            features=Features(),
            place=place,
            remote=Remote(url=f"{place.url}.git", token=repository.token()),
            job=Job(id="watch", attempt=1, url=""),
            options=orders.options,
            results=desks.results({}, home=orders.shop.home),
            default_branch=default_branch,
            token_lasts=True,
            buttons=False,
            comes_again=True,
        )

    def _connected(self) -> Repository:
        if self._repository is None:
            orders = self.orders
            self._repository = client.connect(
                api_url=orders.environ.get("GITHUB_API_URL") or "https://api.github.com",
                repository=self.name,
                auth=orders.auth(),
                cache=orders.shop.home / "cache" / "github",
                patience_s=client.IMPATIENCE_S,
            )
        return self._repository

    def _leave(self) -> None:
        """Connect anew the next time: whoever renewed the token wrote it into its file."""
        if self._repository is not None:
            self._repository.close()
        self._repository = None
        self.follower.restart()

    def _learned(self) -> About:
        about = self._about
        if about is None or time.monotonic() - self._asked_s > DEFAULT_BRANCH_S:
            about = contents.about(self._connected())
            if not self.kept:
                self.name = about.full_name
            self._about, self._asked_s = about, time.monotonic()
        return about

    def _lock(self) -> Path:
        """One watcher of each kind is enough for a machine: a second one takes its place once it is gone."""
        kind = repr((self.name.lower(), self.orders.options, self.orders.looks))
        return self.orders.shop.home / "watch" / f"{hashlib.sha256(kind.encode()).hexdigest()[:16]}.lock"

    def _tidy(self) -> None:
        """Answers that were not asked for lately go: each comment makes an address of its own."""
        if time.monotonic() - self._tidied_s < TIDY_S:
            return
        self._tidied_s = time.monotonic()
        for path in (self.orders.shop.home / "cache" / "github").rglob("*"):
            with suppress(OSError):
                if path.is_file() and path.stat().st_mtime < time.time() - CACHE_KEPT_S:
                    path.unlink()


def watcher_name(home: Path) -> str:
    """What claims of this machine's watchers go by: one of them at a time, as its locks say, with this `home`."""
    path = home / "watch" / "name"
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_suffix(".lock"), wait_s=STEP_S):
        if not path.exists():
            path.write_text(secrets.token_hex(8))
        return f"{socket.gethostname()}:{path.read_text()}"


def step_s(store_uri: str) -> float:
    """How often the store may be asked: a folder answers at once, S3 costs requests for each run and rank."""
    return S3_STEP_S if store_uri.startswith("s3://") else STEP_S


def _place(environ: Mapping[str, str], name: str) -> Place:
    server = environ.get("GITHUB_SERVER_URL") or "https://github.com"
    return Place(server_url=server.rstrip("/"), repository=name, job_url="")
