"""`pushtrain watch`: runs started and told of without a workflow, by a daemon on the head."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.github import options, undumpable
from runner.commands.shop import workshop
from runner.errors import UsageError
from runner.quantities import MalformedError, duration

if TYPE_CHECKING:
    import argparse

    from runner.watcher.daemon import Daemon
    from runner.watcher.post import Orders

SHORTEST_S = 1.0
# A claim lasts so many leases of a run.
LEASES = 4


def watch(asked: argparse.Namespace) -> int:
    """Watch repositories until SIGTERM or SIGINT, or once; runs go on afterwards."""
    from runner.watcher.daemon import Daemon

    undumpable()
    logging.getLogger("runner").setLevel(logging.INFO)
    names = _names(asked)
    orders = _orders(asked)
    if os.geteuid() == 0 and orders.looks and orders.shop.engine_name == "local":
        logging.getLogger("runner").warning(
            "trainings run as root on this machine and can read its files and tokens, this watcher's too: "
            "--engine docker or slurm keeps them apart, or let a user of its own watch"
        )
    daemon = Daemon(orders=orders, names=names, others=True)
    if asked.once:
        return 0 if daemon.once() else 79
    if orders.looks:
        orders.auth()  # Nobody is told that it watches when it cannot.
    _end_on_signals(daemon)
    print(
        f"watching {', '.join(names) or 'what is due in the store'}; Ctrl-C ends it, and no run", flush=True
    )
    daemon.run()
    return 0


def _names(asked: argparse.Namespace) -> tuple[str, ...]:
    wrong = next((name for name in asked.repositories if not re.fullmatch(r"[\w.-]+/[\w.-]+", name)), None)
    if wrong is not None:
        raise UsageError(f"{wrong!r} is no repository", tip="write it as OWNER/NAME")
    if not asked.repositories and not asked.publish_only:
        raise UsageError("which repository?", tip="pushtrain watch OWNER/NAME, or --publish-only")
    return tuple({name.lower(): name for name in asked.repositories}.values())


def _orders(asked: argparse.Namespace) -> Orders:
    from runner.engines.machine import LEASE_S
    from runner.watcher import token
    from runner.watcher.post import Orders

    environ = dict(os.environ)
    file = Path(asked.token_file).absolute() if asked.token_file else None
    shop = workshop(asked)
    try:
        shop.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{shop.home} cannot be made: {error.strerror}", tip="PUSHTRAIN_HOME") from error
    return Orders(
        shop=shop,
        auth=lambda: token.auth(environ, file=file),
        environ=environ,
        options=options(asked),
        every_s=max(_seconds(asked.every, "--every"), SHORTEST_S),
        looks=not asked.publish_only,
        since_s=_moment(asked.since) if asked.since else None,
        from_now=asked.from_now,
        lease_s=LEASES * float(environ.get("PUSHTRAIN_LEASE_S") or LEASE_S),
    )


def _seconds(text: str, option: str) -> float:
    try:
        return duration(text)
    except MalformedError as error:
        raise UsageError(f"{option}: {error}", tip=f"{option} 30s") from error


def _moment(text: str) -> float:
    """2h is two hours ago; all else a time as GitHub writes it, UTC unless it says another zone."""
    try:
        return time.time() - duration(text)
    except MalformedError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--since: {text!r} is no time", tip="--since 2h, or 2026-11-05T12:00Z") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _end_on_signals(daemon: Daemon) -> None:
    """The first asks for an end after what is being done now, the second ends at once: both are safe."""
    heard: list[int] = []

    def hear(signum: int, _: object) -> None:
        heard.append(signum)
        if len(heard) > 1:
            os._exit(128 + signum)
        os.write(sys.stderr.fileno(), b"ending; runs go on\n")
        # By a thread, for this one may hold the lock of the event that it waits for.
        threading.Thread(target=daemon.stop.set).start()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, hear)
