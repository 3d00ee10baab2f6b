"""`python -m runner.agent --state DIR`: the agent itself; agent.json and the folder of state -> a host in the fleet."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent import (
    daemons,
    deadman,
    elastic,
    evicting,
    health,
    lasting,
    layout,
    login,
    membership,
    opening,
    power,
    processes,
    queued,
    skew,
    strangers,
)
from runner.agent.begin import BEGUN, LOCK
from runner.agent.keeper import Keeper
from runner.agent.settings import State
from runner.agent.token import metrics_token
from runner.errors import EngineError, PushtrainError
from runner.lock import held
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.layout import About

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
FIRST_LOOKS_EVERY_S = 2.0
# For so long a slurmd may need to be known to the head after its start.
REGISTERS_WITHIN_S = 20.0
LOGINS_EVERY_S = 10.0
CACHES_EVERY_S = 900.0


def run(state: State) -> None:
    """Keep this machine in the fleet until SIGTERM. Raises PushtrainError where it cannot begin."""
    folder = run_folder()
    with held(folder / LOCK) as ours:
        if not ours:
            raise EngineError("an agent runs on this machine already", tip="pushtrain agent status")
        (folder / "agent.pid").write_text(f"{os.getpid()}\n")
        asked, about = _Asked(), layout.about()
        head_began, joining = threading.Event(), _Joining(about)
        keeper = Keeper(
            daemons.wanted(about, run=folder),
            noted=folder / "daemons.json",
            logs=state.logs,
            configured_by=(folder / "slurm.conf", folder / "gres.conf"),
            started=lambda name: head_began.set() if name == "slurmctld" else None,
        )
        try:
            keeper.begin(before={"slurmd": joining.prepare})
        except PushtrainError:
            keeper.end()
            raise
        (folder / BEGUN).write_text(f"{os.getpid()}\n")
        _begin_looks(about, state, asked, lambda: _stay(about, state, keeper, asked, joining))
        if about.role == "head":
            _begin_heads_looks(about, state, asked, head_began)
        serves = _serve(about, state)
        while not asked.number:
            keeper.wait(asked.wakeup, most_s=LOGINS_EVERY_S)
            keeper.rotate()
            _take_logins(about, state)
            serves = serves or _serve(about, state, at=logging.DEBUG)
        _end(about, keeper, leaves=asked.number == signal.SIGUSR1)


def _begin_looks(about: About, state: State, asked: _Asked, stay: Callable[[], None]) -> None:
    """What is seen to on this machine again and again, each by a thread of its own."""
    if about.works:
        lasting.begin("this host at the head", stay, ended=asked.ended)
    elif about.role == "client":
        compares = partial(_keep_comparing, about, state, asked)
        lasting.begin("the versions of the head", compares, ended=asked.ended)
    if about.works and about.store is not None:
        evicts = partial(_keep_caches, about.store, state.load().cache_quota, asked)
        lasting.begin("the caches of this host", evicts, ended=asked.ended)


def _begin_heads_looks(about: About, state: State, asked: _Asked, began: threading.Event) -> None:
    """As `_begin_looks`, what is seen to on the head alone."""
    lasting.begin("runs that wait", partial(_queue, about, asked), ended=asked.ended)
    lasting.begin("the opening of the queue", partial(_open, began, asked), ended=asked.ended)
    if elastic.kept(state.folder) is not None:
        lasting.begin("hosts that come and go", partial(_tend, asked), ended=asked.ended)


class _Asked:
    """The signal that asked for the end, and a descriptor that can be read as soon as one did."""

    def __init__(self) -> None:
        self.number = 0
        self.wakeup, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._take)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def ended(self) -> bool:
        """Whether there was one."""
        return bool(self.number)

    def _take(self, number: int, _frame: object) -> None:
        self.number = number


def _take_logins(about: About, state: State) -> None:
    """See that a `docker login` on this machine counts for what is pulled here."""
    if about.registry is None:
        return
    try:
        login.refresh(run_folder(), registry=about.registry, key=state.key.read_bytes())
    except OSError as error:
        logger.warning("logins of Docker are not taken over: %s", error)


class _Joining:
    """What has to be before this host offers its GPUs."""

    def __init__(self, about: About) -> None:
        self._about, self._settled, self._first = about, False, True

    def prepare(self) -> None:
        """Ahead of each start of slurmd; at the first, what is left here of jobs that ended meanwhile is ended."""
        self.clear()
        if self._first:
            name = self._about.name
            strangers.keep_out(name, strangers.clear(name, slurm=membership.cluster(), evict=False))
        self._first = False

    def clear(self) -> bool:
        """Until the head has answered: let it forget what this host was. Whether slurmd has to say it anew."""
        if self._settled:
            return False
        cleared = membership.clear(self._about)
        self._settled = cleared != "later"
        return cleared == "changed"


def _open(began: threading.Event, asked: _Asked) -> None:
    """See after the partitions."""
    # An agent that was killed, or this thread when it failed, may have left them closed.
    began.set()
    opening.stay(membership.cluster(), began, ended=asked.ended)


def _serve(about: About, state: State, *, at: int = logging.ERROR) -> bool:
    """Whether others can look at this host, or need not; why not is logged at that level."""
    if about.role == "client" or importlib.util.find_spec("runner.agent.endpoint") is None:
        return True
    endpoint = importlib.import_module("runner.agent.endpoint")
    try:
        endpoint.serve(about.address, about.metrics_port, metrics_token(state.key.read_bytes()))
    except OSError as error:
        # It trains none the worse; its address may be up later.
        logger.log(at, "metrics cannot be served at %s:%d yet: %s", about.address, about.metrics_port, error)
        return False
    return True


def _compare(about: About, state: State, told: str) -> str:
    """Log, unless it was `told` before, and return in what the versions of this host and the head differ."""
    try:
        said = skew.look(about, token=metrics_token(state.key.read_bytes()))
    except (OSError, EngineError) as error:  # As while pip replaces what is installed.
        logger.info("the versions of this host and the head are not compared: %s", error)
        return told
    if said and said != told:
        logger.warning("this host has %s", said)
    elif told and not said:
        logger.info("this host has the versions and settings of its head")
    return said


def _keep_comparing(about: About, state: State, asked: _Asked) -> None:
    """See that a machine that only submits has the versions of its head."""
    told = ""
    while not asked.number:
        told = _compare(about, state, told)
        time.sleep(LOOK_EVERY_S)


def _stay(about: About, state: State, keeper: Keeper, asked: _Asked, joining: _Joining) -> None:
    """Tell the head what this host is; where it forgot it, as with its state, let slurmd say it anew."""
    known, skewed = False, ""
    while not asked.number:
        time.sleep(LOOK_EVERY_S if known else FIRST_LOOKS_EVERY_S)
        if asked.number:
            return
        lost = anew = False
        try:
            deadman.keep()
            found = membership.node(membership.cluster(), about.name)
            lost = found is None or {"DOWN", "NOT_RESPONDING"} <= found.states
            skewed = _compare(about, state, skewed)
            anew = joining.clear()
            if found is not None and not anew:
                membership.tell(about, found)
            if not (known or lost or anew):
                # Slurm asks a minute later: what keeps this host from being offered is told at once.
                health.check(about.name)
            known = not (lost or anew)
        except PushtrainError as error:
            logger.info("the head is not asked or told: %s", error)
            known = False
        # slurmctld would ask one that was cut off again after minutes; a new slurmd says at once that it is there.
        if anew or (lost and keeper.up_for_s("slurmd") > REGISTERS_WITHIN_S):
            logger.warning("the head has lost this host: slurmd is started again")
            keeper.restart("slurmd")


def _keep_caches(store: str, quota: str, asked: _Asked) -> None:
    """See that what this host keeps of images, sources and data stays below its quota."""
    evicting_now = evicting.of_this_host(store, quota=quota)
    while not asked.number:
        time.sleep(CACHES_EVERY_S)
        if not evicting_now.once():
            logger.warning("the caches of this host were not looked at; what is wrong stands above")


def _queue(about: About, asked: _Asked) -> None:
    """See after the runs that wait."""
    queued.watch(membership.cluster(), store=about.store, ended=asked.ended)


def _tend(asked: _Asked) -> None:
    """See after the hosts that come and go."""
    prepared = False
    while not asked.number:
        try:
            growth = power.of_this_head()
            growth.tend() if prepared else growth.prepare()
            prepared = True
        except PushtrainError as error:
            logger.warning("hosts that come and go: %s", error)
        time.sleep(power.TEND_EVERY_S)


def _end(about: About, keeper: Keeper, *, leaves: bool) -> None:
    if leaves and about.works:
        keeper.end(("slurmd",))
        try:
            membership.delete(about.name)
        except EngineError as error:
            logger.error("the head still counts this host: %s", error)
    keeper.end()
    logger.info("ended")


def main(argv: list[str] | None = None) -> int:
    """The process: 0 after it was told to end."""
    reader = argparse.ArgumentParser(prog="python -m runner.agent")
    reader.add_argument("--state", type=Path, required=True)
    state = State(folder=reader.parse_args(argv).state)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    processes.rotate(state.logs / "agent.log", most_bytes=2**20)
    try:
        run(state)
    except PushtrainError as error:
        logger.error("%s%s", error, f"; tip: {error.tip}" if error.tip else "")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
