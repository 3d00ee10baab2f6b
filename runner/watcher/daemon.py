"""Repositories and orders -> threads that watch them until they are told to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner.answer import said as memory
from runner.errors import GitHubDown, PushtrainError
from runner.watcher.guard import guarded
from runner.watcher.post import Orders, Post, step_s

if TYPE_CHECKING:
    from runner.store import Store

logger = logging.getLogger(__name__)

OTHERS_EVERY_S = 30.0
# Less often than a run is looked at, since all repositories of the store are listed.
OTHERS_STEPS = 5


@dataclass(kw_only=True)
class Daemon:
    """A watcher of `names`, or of none; what is due of other repositories in the store it says too (`others`)."""

    orders: Orders
    names: tuple[str, ...]
    others: bool
    stop: threading.Event = field(default_factory=threading.Event)
    _own: list[tuple[Post, threading.Thread]] = field(default_factory=list)
    _others: dict[str, threading.Thread] = field(default_factory=dict)

    def run(self) -> None:
        """Watch until `stop` is set. Blocks; runs go on afterwards. Raises PushtrainError where it cannot begin."""
        for name in self.names:
            post = Post(orders=self.orders, name=name, stop=self.stop)
            try:
                post.begin()
            except GitHubDown as error:
                logger.warning("%s: %s; it will begin later", name, error)
            self._own.append((post, _start(post, until_idle=False)))
        while not self.stop.is_set():
            if self.others:
                fault = guarded(self._start_others)
                if fault is not None:
                    logger.error("%s", fault)
            self.stop.wait(min(OTHERS_EVERY_S, OTHERS_STEPS * step_s(self.orders.shop.store_uri)))
            self._check_threads()
        for thread in (*(thread for _, thread in self._own), *self._others.values()):
            thread.join()

    def _check_threads(self) -> None:
        """Raises PushtrainError where one died of a fault, which is logged: whoever started us starts us again."""
        dead = [post.name for post, thread in self._own if not thread.is_alive()]
        if dead and not self.stop.is_set():
            raise PushtrainError(
                f"nobody watches {', '.join(dead)} any more", tip="start pushtrain watch again"
            )

    def once(self) -> bool:
        """Look once at each; returns whether nothing is left to be done. Raises PushtrainError for a wrong name."""
        own = [Post(orders=self.orders, name=name, stop=self.stop) for name in self.names]
        looked = [_once(post) for post in own]
        looked += [_once(self._quiet(name)) for name in self._other_names(own)]
        for each in looked:
            if isinstance(each, PushtrainError):
                raise each
        return all(looked)

    def _start_others(self) -> None:
        for name in self._other_names([post for post, _ in self._own]):
            thread = self._others.get(name)
            if thread is None or not thread.is_alive():
                self._others[name] = _start(self._quiet(name), until_idle=True)

    def _other_names(self, own: Sequence[Post]) -> tuple[str, ...]:
        """Repositories of which something is left to say, and that nobody here watches."""
        if not self.others:
            return ()
        names = due(self.orders.shop.store)
        return tuple(name for name in names if not any(post.watches(name) for post in own))

    def _quiet(self, name: str) -> Post:
        return Post(orders=replace(self.orders, looks=False), name=name, stop=self.stop, kept=True)


def _once(post: Post) -> PushtrainError | bool:
    """Whether nothing is left to be done of it, or the error, which is logged."""
    found: list[bool] = []

    def look() -> None:
        post.begin()
        found.append(post.once())

    error = guarded(look)
    if error is not None:
        logger.error("%s: %s", post.name, error)
        return error
    return found[0]


def _start(post: Post, *, until_idle: bool) -> threading.Thread:
    thread = threading.Thread(
        target=guarded,
        args=(lambda: post.watch(until_idle=until_idle),),
        name=post.name,
        daemon=True,
    )
    thread.start()
    return thread


def due(store: Store) -> tuple[str, ...]:
    """The repositories of which something is left to say."""
    names = [
        f"{owner}/{name}" for owner in store.children("github") for name in store.children(f"github/{owner}")
    ]
    return tuple(name for name in names if memory.due(store, name))
