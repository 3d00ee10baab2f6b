"""Slurm's power saving and elastic.yml -> hosts that are started when jobs wait for them, and stopped when idle.

Slurm decides which; it calls `resume` and `suspend` on the head, each in a process of its own. `tend` is for the agent
of the head: it does what Slurm does not, so that a start that failed is tried again and no machine is forgotten.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import lock
from runner.agent import elastic
from runner.agent.layout import about
from runner.agent.settings import State
from runner.agent.starts import Failure, Starts
from runner.errors import EngineError, UsageError
from runner.providers import Machine, Place, Provider, Started, provider
from runner.providers.settings import Elastic
from runner.quantities import format_duration
from runner.slurm import Node, Slurm, nodes
from runner.slurm.client import run_folder
from runner.slurm.conf import ELASTIC

logger = logging.getLogger(__name__)

TEND_EVERY_S = 5.0
_UNLOCKED_S = 600.0
_OFF = frozenset({"POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN"})
_ENDING = frozenset({"POWERED_DOWN", "POWERING_DOWN", "DOWN"})
_COMING = "POWERING_UP"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The hosts of a fleet that come and go. `state` is a lasting folder of the head's."""

    settings: Elastic
    provider: Provider
    slurm: Slurm
    state: Path

    def prepare(self) -> None:
        """Tell slurmctld of all hosts that there may be, and stop machines that nobody knows. Raises EngineError.

        For the start of the head, when slurmctld answers and its gres.conf has `elastic.gres_lines`. Safe to repeat.
        """
        known = {node.name: node for node in nodes(self.slurm) if ELASTIC in node.features}
        for node in tuple(known.values()):
            kind = self.settings.kind_of(node.name)
            if "POWERED_DOWN" in node.states and (kind is None or elastic.differs(node, kind)):
                self.slurm.run("scontrol", "delete", f"nodename={node.name}")
                del known[node.name]
        for name, kind in self.settings.hosts.items():
            missing = [each for each in self.settings.names_of(name) if each not in known]
            if missing:
                words = elastic.node_words(kind)
                self.slurm.run("scontrol", "create", f"NodeName={','.join(missing)}", *words)
        # What it was told to keep running, it could not read before they were there.
        self.slurm.run("scontrol", "reconfigure")
        self.tend()

    def resume(self, names: Sequence[str]) -> None:
        """Start their machines; one that cannot be started is down, with the reason. Safe to repeat.

        A machine that was to be stopped is stopped first: Slurm waits for one that boots from now on.
        """
        with self._alone():
            self._start(names)

    def suspend(self, names: Sequence[str]) -> None:
        """Stop their machines, of those that are still to be off when it is their turn; `resume` sees to the others.

        Raises EngineError where the provider or slurmctld does not answer; `tend` tries again.
        """
        noted = {name for name in names if self._note_stop(name)}
        with self._alone():
            hosts = {node.name: node for node in nodes(self.slurm)}
            off = [name for name in names if name not in hosts or _is_to_be_off(hosts[name])]
            # A note that is gone by now was taken up by `resume`, and the machine that runs is the new one.
            doomed = [name for name in off if name not in noted or self._stops(name).exists()]
            if doomed:
                self.provider.stop(doomed)

    def retry(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Forget failures of those hosts, or of all, and return of which: they may be started again at once.

        Raises UsageError for a host that there cannot be.
        """
        with self._alone():
            starts = Starts.load(self.state, spare=run_folder())
            if unknown := [name for name in names if name not in self.settings.names]:
                known = ", ".join(
                    f"{kind}-1 to {kind}-{each.max_hosts}" for kind, each in self.settings.hosts.items()
                )
                raise UsageError(
                    f"{', '.join(unknown)}: no host that comes and goes; there are {known}",
                    tip="pushtrain agent power retry, for all whose start failed",
                )
            chosen = tuple(name for name in starts.failed if name in names or not names)
            for name in chosen:
                self._reset(name)
                self._started(name, starts)
            return chosen

    def tend(self) -> None:
        """See after starts that failed, machines that are lost and machines that nobody knows. For every few seconds.

        Raises EngineError where the provider or slurmctld does not answer: the next time does the same.
        """
        with self._alone():
            # In this order: a machine that was there before its host was off is not one that has just been started.
            machines = self.provider.running()
            hosts = {node.name: node for node in nodes(self.slurm)}
            self._sweep(machines, hosts)
            starts = Starts.load(self.state, spare=run_folder())
            there = {machine.name: machine for machine in machines}
            for name in self.settings.names:
                if node := hosts.get(name):
                    self._look(node, there.get(name), starts)
            self._keep_least(hosts)

    def _start(self, names: Sequence[str]) -> None:
        refused: dict[str, str] = {}
        former = [name for name in names if self._stops(name).exists()]
        try:
            self._end(former)
        except EngineError as error:
            refused = dict.fromkeys(former, str(error))
        wanted = [name for name in names if name not in refused]
        try:
            started = self.provider.start(wanted) if wanted else Started()
        except EngineError as error:
            refused |= dict.fromkeys(wanted, str(error))
        else:
            refused |= started.refused
            for machine in started.machines:
                self._tell_address(machine)
        starts = Starts.load(self.state, spare=run_folder())
        for name, reason in refused.items():
            self._failed(name, reason, starts)

    def _end(self, names: Sequence[str]) -> None:
        """Wait until machines that were to be stopped are: one that still ends would be taken for one that starts."""
        stopped, deadline_s = False, time.monotonic() + self.settings.stop_within
        while names and (left := sorted({machine.name for machine in self.provider.running()} & set(names))):
            if not stopped:
                self.provider.stop(left)
                stopped = True
            if time.monotonic() > deadline_s:
                what = f"the machine before has not ended: {', '.join(left)}"
                raise EngineError(what, tip="stop it by hand")
            time.sleep(1)
        for name in names:
            self._stops(name).unlink(missing_ok=True)

    def _note_stop(self, name: str) -> bool:
        """Before the lock is waited for: meanwhile the host may be wanted again, and `resume` may come first.

        The note stays until then: a machine may still be ending.
        """
        try:
            self._stops(name).parent.mkdir(mode=0o700, exist_ok=True)
            self._stops(name).touch()
        except OSError as error:
            logger.warning("that %s is to be stopped is not noted: %s", name, error)
            return False
        return True

    def _stops(self, name: str) -> Path:
        return self.state / "stops" / name

    def _look(self, node: Node, machine: Machine | None, starts: Starts) -> None:
        if "DOWN" in node.states:
            self._look_at_down(node, machine, starts)
        elif {_COMING, "DRAIN"} <= node.states:
            # Its own health check, or slurmctld, found it unfit while it started.
            self._failed(node.name, node.reason.partition(" [")[0], starts)
        elif "POWERED_DOWN" in node.states:
            self._look_at_off(node, starts)
        elif _COMING in node.states:
            if machine and machine.address and machine.address != node.address:
                self._tell_address(machine)
        elif not node.states & _OFF:
            self._look_at_on(node, machine, starts)

    def _look_at_off(self, node: Node, starts: Starts) -> None:
        if (failure := starts.failed.get(node.name)) and not failure.held:
            # By itself Slurm would look only once a minute whether a job could have it started again.
            self._say(node.name, self._words(node.name, failure))

    def _look_at_on(self, node: Node, machine: Machine | None, starts: Starts) -> None:
        if node.name in starts.failed and "NOT_RESPONDING" not in node.states:
            self._started(node.name, starts)
        if machine is None and "NOT_RESPONDING" in node.states:
            # Slurm would wait for longer before it starts its jobs elsewhere.
            self._down(node.name, "its machine is gone")

    def _look_at_down(self, node: Node, machine: Machine | None, starts: Starts) -> None:
        failure = starts.failed.get(node.name)
        if "ResumeTimeout" in node.reason and failure is not None and failure.held:
            # Slurm waited on for a start that had failed, and wrote over the reason.
            self._down(node.name, self._words(node.name, failure))
        elif "ResumeTimeout" in node.reason:
            within = format_duration(self.settings.start_within)
            self._failed(node.name, f"the machine started but did not join within {within}", starts)
        elif failure is not None:
            if failure.count < self.settings.attempts and failure.again_s <= time.time():
                self._reset(node.name)
                starts.let_go(node.name)
        elif machine is None:
            self._reset(node.name)

    def _failed(self, name: str, reason: str, starts: Starts) -> None:
        failure = starts.fail(name, reason, first_pause_s=self.settings.again_after)
        self._down(name, self._words(name, failure))
        with contextlib.suppress(EngineError):
            # It may have started, and nobody would use it; if this fails, the sweep finds it.
            self.provider.stop((name,))

    def _words(self, name: str, failure: Failure) -> str:
        most = self.settings.attempts
        if failure.count < most:
            # It is reset then, and Slurm starts none within `stop_within` of that.
            at_s = failure.again_s + self.settings.stop_within
            then = f"next try after {time.strftime('%H:%M:%SZ', time.gmtime(at_s))}"
        else:
            then = f"given up: pushtrain agent power retry {name}"
        return f"start {failure.count} of {most} failed ({then}): {failure.reason}"

    def _down(self, name: str, reason: str) -> None:
        logger.warning("%s: %s", name, reason)
        self.slurm.run("scontrol", "update", f"nodename={name}", "state=down", f"reason={reason[:400]}")

    def _reset(self, name: str) -> None:
        """As one that is off: jobs may have it started. Slurm calls `suspend` for it once more."""
        self.slurm.run("scontrol", "update", f"nodename={name}", "state=power_down")

    def _started(self, name: str, starts: Starts) -> None:
        """Its failures are over: Slurm itself would keep the reason."""
        self._say(name, "")
        starts.forget(name)

    def _say(self, name: str, reason: str) -> None:
        self.slurm.run("scontrol", "update", f"nodename={name}", f"reason={reason[:400]}")

    def _tell_address(self, machine: Machine) -> None:
        if machine.address:
            self.slurm.run("scontrol", "update", f"nodename={machine.name}", f"nodeaddr={machine.address}")

    def _sweep(self, machines: Iterable[Machine], hosts: Mapping[str, Node]) -> None:
        orphans = {m.name for m in machines if m.name not in hosts or "POWERED_DOWN" in hosts[m.name].states}
        if orphans:
            logger.warning("stopping machines that no host uses: %s", ", ".join(sorted(orphans)))
            self.provider.stop(sorted(orphans))

    def _keep_least(self, hosts: Mapping[str, Node]) -> None:
        for name, kind in self.settings.hosts.items():
            known = [hosts[each] for each in self.settings.names_of(name) if each in hosts]
            on = [each for each in known if not each.states & (_OFF | {"DOWN"})]
            off = [each for each in known if "POWERED_DOWN" in each.states and "DOWN" not in each.states]
            for node in off[: max(kind.min_hosts - len(on), 0)]:
                self.slurm.run("scontrol", "update", f"nodename={node.name}", "state=power_up")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with lock.held(self.state / "power.lock", wait_s=_UNLOCKED_S) as ours:
            if not ours:
                raise EngineError("another process starts or stops machines for too long", tip="see its log")
            yield


def _is_to_be_off(node: Node) -> bool:
    return bool(node.states & _ENDING) and _COMING not in node.states


def of_this_head() -> Growth:
    """The hosts that come and go with the head on this machine. Raises EngineError, UsageError where there are none."""
    told = about()
    if told.role != "head":
        raise UsageError(
            f"hosts that come and go are started by the head, {told.head}",
            tip=f"on {told.head}: pushtrain agent power retry",
        )
    settings = elastic.kept(Path(told.state))
    if settings is None:
        raise UsageError(
            "this fleet does not grow or shrink by itself",
            tip="pushtrain agent start --head --elastic elastic.yml",
        )
    state = Path(told.state) / "power"
    state.mkdir(mode=0o700, exist_ok=True)
    place = Place(
        cluster=told.cluster, head=told.head, address=told.head_address, token=State(folder=Path(told.state)).token,
        state=state,
    )  # fmt: skip
    slurm = Slurm(conf=run_folder() / "slurm.conf")
    return Growth(settings=settings, provider=provider(settings, place), slurm=slurm, state=state)
