"""`python -m runner.supervise RUN --engine NAME --store URI`, which engines start: this host -> a run's supervisor.

What keeps the host from being that, such as a full disk, is told in the run, and a fleet finds another host.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from runner import engines, runs
from runner.errors import Displaced, EngineError, NotFound, PushtrainError, RunNotFound, StoreError
from runner.host.faults import disk_full
from runner.host.ownership import NOT_THIS_STORE
from runner.interrupts import Watch
from runner.lock import held
from runner.record import Record
from runner.store import open_store
from runner.supervision import Supervision

logger = logging.getLogger(__name__)

# Whoever asks whether a supervisor lives holds its lock for a moment.
LOCK_WAIT_S = 2.0


def supervise(run_id: str, *, engine: str, store: str, home: Path) -> int:
    """Bring the run to its end. Returns 0, 75 when another supervisor has it. Raises PushtrainError, OSError."""
    with held(home / "scratch" / run_id / "supervisor.lock", wait_s=LOCK_WAIT_S) as mine:
        if not mine:
            logger.error("%s has a supervisor already", run_id)
            return 75
        loaded = engines.load(engine, home=home, store=store)
        with Watch(open_store(store), run_id, me=loaded.me()) as watch:
            Supervision(run_id, engine=loaded, store=store, home=home, watch=watch).run()
    return 0


def fault(error: OSError, home: Path) -> EngineError:
    """What this host cannot do, with its name: its disk is full, or what the system says."""
    there = next(each for each in (home, *home.absolute().parents) if each.exists())
    try:
        with disk_full(there):
            raise error
    except EngineError as full:
        return full
    except OSError:
        return EngineError(f"{socket.gethostname()} cannot supervise a run: {error}", tip="pushtrain runners")


def give_up(error: EngineError, run_id: str, *, engine: str, store: str, home: Path) -> None:
    """Write in the run why this host does no more for it, and let a fleet find others. Raises PushtrainError."""
    # Whoever gives a job back is ended soon, and has to write that down.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record = Record(open_store(store), run_id)
    try:
        engines.load(engine, home=home, store=store).give_up(error)
    except Displaced as displaced:
        record.wait_again(displaced)
        raise
    record.leave_for_later(error)


def _has_ended(run_id: str, store: str) -> bool:
    """Whether the run has ended; False where that cannot be read: whoever takes it up reads it again."""
    with contextlib.suppress(RunNotFound, StoreError):
        return Record(open_store(store), run_id).state.ended
    return False


def main(argv: list[str]) -> int:
    """Supervise one run to its end. Returns 0, 75 when another supervisor has it, or a fault's code."""
    parser = argparse.ArgumentParser(prog="pushtrain supervise")
    parser.add_argument("run")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--store", required=True)
    asked = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = Path(os.environ["PUSHTRAIN_HOME"])
    try:
        open_store(asked.store).read(runs.key(asked.run, "plan.json"))
    except NotFound:  # Another folder of that name: to try again would not help.
        logger.error("%s has no %s: do all hosts reach that store?", asked.store, asked.run)
        return NOT_THIS_STORE
    except StoreError as error:
        logger.error("%s: %s", asked.run, error)
        return error.exit_code
    try:
        try:
            return supervise(asked.run, engine=asked.engine, store=asked.store, home=home)
        except OSError as error:
            logger.error("%s", error, exc_info=error)
            told = fault(error, home)
            if _has_ended(asked.run, asked.store):
                logger.warning("%s has ended, and this host did not clear up: %s", asked.run, told)
                return 0  # Nobody is to try that again on its hosts.
            give_up(told, asked.run, engine=asked.engine, store=asked.store, home=home)
            raise told from error
    except PushtrainError as error:
        logger.error("%s: %s", asked.run, error)  # told once, as the command line does
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
