"""A run's life apart from whoever asked: prepare, wait, train, collect, publish; taken up again from its folder.

Every step may be repeated, so a supervisor that died is replaced by starting another one on the same folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import causes, entry, finish, jobs, plan, preparation, runs, source
from runner.again import LOST_TIMES, again, left
from runner.agreement import Agreement
from runner.errors import (
    Cancelled,
    Displaced,
    DockerAway,
    HostLost,
    PushtrainError,
    StoreError,
    TrainingFailed,
)
from runner.gang import Gang, Outcome
from runner.host.faults import disk_full
from runner.hosts import Hosts
from runner.progress import Progress
from runner.record import Record
from runner.runs import Attempt, State
from runner.store import open_store
from runner.store.patience import patient
from runner.waits import Waiting

if TYPE_CHECKING:
    from runner.engines import Engine
    from runner.host.job import Job
    from runner.interrupts import Watch
    from runner.launch import Process
    from runner.place import Reservation
    from runner.preparation import Prepared
    from runner.runs import Run
    from runner.turns import Turn

logger = logging.getLogger(__name__)

# 128 and SIGTERM or SIGKILL: it may have been the whole job that was ended.
_ENDED_FROM_OUTSIDE = (143, 137)


class Supervision:
    """One supervisor's work on one run. Everything that must not be lost is in the run's folder, not here."""

    def __init__(self, run_id: str, *, engine: Engine, store: str, home: Path, watch: Watch) -> None:
        self._id, self._home, self._uri, self._watch = run_id, home, store, watch
        # On a fleet no supervisor is started for a store that is back; and its hosts wait as well.
        kept = patient(open_store(store)) if engine.allocated else open_store(store)
        self._record = Record(kept, run_id)
        self._engine = engine
        self._plan = plan.from_json(self._record.store.read(runs.key(run_id, "plan.json")))
        self._hosts = Hosts(self._engine, home=home, run_id=run_id, nodes=self._plan.gang.nodes)
        self._secrets: dict[str, str] | None = None
        self._turn: Turn | None = None
        self._has_adopted = False
        self._waits = Waiting(self._plan, self._record, engine, home=home, store=store)

    def run(self) -> None:
        """Bring the run to its end, whatever state it is in. Safe to repeat."""
        if self._begin().state.ended:
            return
        try:
            self._go_on()
        except PushtrainError as error:
            self._fall(error)
        finally:
            self._hosts.close()
            self._engine.release()
        with (
            runs.clearing(self._record.store, self._id)
            if self._engine.allocated
            else contextlib.nullcontext()
        ):
            self._clean()

    def _go_on(self) -> None:
        ended = None
        if self._record.state not in (State.COLLECTING, State.PUBLISHING):
            try:
                self._train()
            except Displaced:
                raise
            except PushtrainError as error:
                self._check_place()
                if error.retryable or not self._record.load().attempts:
                    raise
                ended = error  # What the attempts wrote so far is kept.
        manifest = finish.seal(
            self._record,
            self._plan,
            self._hosts,
            told=lambda here: self._told(here, None, (), attempt=self._record.load().attempt),
            interrupts=self._watch,
        )
        if ended is not None:
            raise ended
        causes.check(self._record.load().attempts[-1])
        finish.publish(self._record, self._plan, manifest, home=self._home, secrets=self._secrets or {})

    def _fall(self, error: PushtrainError) -> None:
        """End the run for an error, or leave it to be gone on with: then the error, or Displaced, is raised."""
        try:
            if not isinstance(error, Displaced):
                self._check_place()
        except Displaced as displaced:
            error = displaced
        if isinstance(error, Displaced):
            self._record.wait_again(error)
            raise error
        if error.retryable and self._record.has_results():
            self._record.leave_for_later(error)
            raise error
        if isinstance(error, TrainingFailed):
            self._end(
                State.CANCELLED if isinstance(error, Cancelled) else State.FAILED, error, code=error.code
            )
        else:
            self._end(State.FAILED, error, code=error.exit_code)

    def _check_place(self, *, doubted: bool = False) -> None:
        """Raise Displaced where the hosts are wanted back: asked where this process was signalled, or it is `doubted`.

        What ends a job ends its steps, and may not find this process.
        """
        asks = doubted or self._watch.signalled
        why = self._watch.taken_over or (self._engine.displaced() if asks else "")
        if why:
            raise Displaced(why, tip="pushtrain queue")

    def _begin(self) -> Run:
        run = entry.enter(self._record.store, self._plan, self._id)
        return self._record.take(self._engine.me()) if not run.state.ended else run

    # Training

    def _train(self) -> None:
        """Attempt after attempt, until one ends for good; how it ended is in run.json then."""
        outcome = self._record.outcome() or self._follow_adopted()
        while outcome is None or self._again(outcome):
            outcome = self._attempt_on_hosts()
            self._check_place(doubted=outcome.kind == "lost" or outcome.code in _ENDED_FROM_OUTSIDE)
            self._record.note_end(outcome, why=self._watch.why)
            self._record.note_steps_lost()

    def _follow_adopted(self) -> Outcome | None:
        """Follow the gang that an earlier supervisor started, where all of it still lives."""
        if self._record.state is not State.RUNNING:
            return None
        reservation = self._record.reservation()
        if reservation is not None:
            self._hosts.limit(len(reservation.slots))
        number, least = self._record.load().attempt, self._least_nodes
        if reservation is not None and self._hosts.adopt(least=least):
            self._has_adopted = True
            gang = self._gang(reservation, attempt=number)
            if gang.adopt():
                self._record.say(f"attempt {number} still runs: following it")
                outcome = gang.follow(lambda: None)
                self._record.note_end(outcome, why=self._watch.why)
                self._note_gang(gang)
                return outcome
        self._hosts.drop()
        return None

    def _attempt_on_hosts(self) -> Outcome:
        """An attempt; where hosts are lost before it begins, on those that Slurm gives then."""
        for _ in range(LOST_TIMES):
            try:
                return self._attempt()
            except (HostLost, DockerAway) as error:
                if not self._engine.allocated:
                    raise
                self._record.say(f"{error}: beginning again")
            self._hosts.drop()
            self._check_place()
            self._engine.sweep(self._id)
        return self._attempt()

    def _attempt(self) -> Outcome:
        with self._watch.breaking():
            if self._secrets is None:  # A supervisor that took over and followed did without until now.
                self._secrets = jobs.secrets_of(self._plan)
                self._turn = self._waits.join_group()
            if self._has_adopted and self._plan.gang.gpus_per_node:
                self._hosts.close()  # They hold the lease, which this supervisor has to take anew.
            self._has_adopted = False
            self._sweep()
            early = self._engine.allocated or not (self._plan.gang.gpus_per_node or self._turn)
            reservation = self._waits.slots() if early else None
            if reservation is not None:
                self._hosts.limit(len(reservation.slots))
                self._hosts.open()  # They start while the environment is looked for; with GPUs they hold the lease.
            prepared = self._prepare()
            self._waits.begin()
            self._waits.turn(self._turn)
            reservation = reservation or self._waits.slots()
        reservation = self._meet(reservation, prepared)
        run = self._record.load()
        number = run.attempt + 1
        ranks = len(reservation.slots) * self._plan.gang.processes_per_node
        self._record.unseal()
        attempt = Attempt(number=number, started_at_s=time.time(), world_size=ranks)
        self._record.move(State.RUNNING, attempts=(*run.attempts, attempt), reason="")
        gang = self._gang(reservation, attempt=number)
        gang.start(self._jobs(reservation, prepared, attempt=number))
        try:
            outcome = gang.follow(lambda: self._all_started(number))
            self._note_gang(gang)
            return outcome
        except StoreError:
            raise  # Not the training's fault: the attempt is lost, the run goes on when it is resumed.
        except PushtrainError as error:
            if isinstance(error, DockerAway) and self._engine.allocated:
                return Outcome(kind="lost", code=error.exit_code, cause=str(error))
            failed = Outcome(kind="failed", code=error.exit_code, cause=str(error))
            self._record.note_end(failed, why=self._watch.why)
            raise TrainingFailed(str(error), code=error.exit_code, tip=error.tip) from error

    def _note_gang(self, gang: Gang) -> None:
        self._record.warn(gang.warnings)
        if self._plan.distribution.elastic:
            self._record.note_ranks(gang.nodes_left * self._plan.gang.processes_per_node)

    def _sweep(self) -> None:
        """End what a lost attempt left: its ranks would write to the same folders. Note that it was lost."""
        if self._record.load().attempts and self._record.outcome() is None:
            self._engine.sweep(self._id)
            self._record.note_lost(why=self._watch.why)

    def _prepare(self) -> Prepared:
        self._record.move(State.PREPARING, reason="", tip="")
        with disk_full(self._home):
            cached = source.unpack(self._record.store, self._plan.tree, self._home / "cache")
        prepared = preparation.prepare(
            self._plan,
            run_id=self._id,
            folder=cached,
            store=self._record.store,
            home=self._home,
            registry=os.environ.get("PUSHTRAIN_REGISTRY"),
            secrets=jobs.build_secrets_of(self._plan),
            tell=self._record.tell,
        )
        self._record.change(environment=prepared.name, environment_digest=prepared.digest)
        return prepared

    def _meet(self, reservation: Reservation, prepared: Prepared) -> Reservation:
        """Open the hosts and agree on addresses and ports; a supervisor that takes over reads them."""
        plan, count = self._plan, jobs.ports_per_node(self._plan)
        self._hosts.limit(len(reservation.slots))
        self._hosts.open()
        containers, host_network = prepared.image is not None, self._engine.allocated
        reservation = jobs.addressed(plan, reservation, containers=containers, host_network=host_network)
        if (host_network or not containers) and len(reservation.slots) * plan.gang.processes_per_node > 1:
            ports = self._hosts.ports(count)
            slots = tuple(replace(slot, ports=ports[slot.node_rank]) for slot in reservation.slots)
            reservation = replace(reservation, slots=slots)
        self._record.keep_reservation(reservation)
        return reservation

    @property
    def _least_nodes(self) -> int | None:
        """With how many nodes an elastic gang goes on; None where all are needed."""
        return self._plan.distribution.min_nodes if self._plan.distribution.elastic else None

    def _gang(self, reservation: Reservation, *, attempt: int) -> Gang:
        plan, hosts = self._plan, self._hosts
        names = {slot.node_rank: slot.host for slot in reservation.slots}
        self._progress = Progress(names, say=self._record.tell)
        return Gang(
            hosts.channels,
            hosts.inbox,
            processes=jobs.processes(plan, reservation),
            limits=left(plan.limits, self._record.load().attempts[:attempt]),
            interrupts=self._watch,
            names={name: node for node, name in enumerate(reservation.hostnames)},
            least_nodes=self._least_nodes,
            attempt=attempt,
            weights=Agreement(world_size=len(reservation.slots) * plan.gang.processes_per_node),
            divergence=plan.distribution.divergence,
            warn=self._record.warn,
            progress=self._progress.note,
        )

    def _all_started(self, number: int) -> None:
        self._progress.end()
        self._record.say(f"attempt {number}: all ranks started")

    def _jobs(self, reservation: Reservation, prepared: Prepared, *, attempt: int) -> dict[int, Job]:
        return self._told(reservation, prepared, jobs.processes(self._plan, reservation), attempt=attempt)

    def _told(
        self,
        reservation: Reservation,
        prepared: Prepared | None,
        processes: tuple[Process, ...],
        *,
        attempt: int,
    ) -> dict[int, Job]:
        return jobs.jobs(
            self._plan,
            self._engine.housed(reservation),
            processes=processes,
            run_id=self._id,
            attempt=attempt,
            resume=attempt > 1 or not processes,  # To seal, a host brings what is stored where it has none.
            store=self._uri,
            home=self._home,
            venv=prepared.venv if prepared is not None else None,
            image=prepared.image if prepared is not None else None,
            secrets=self._secrets or {},
            host_network=self._engine.allocated,
        )

    def _again(self, outcome: Outcome) -> bool:
        """Whether `retry:` of train.yml starts the gang once more."""
        attempts = self._record.load().attempts
        if not again(outcome, self._plan.retries, attempts, on_fleet=self._engine.allocated):
            return False
        self._record.say(
            f"attempt {len(attempts)} {outcome.kind} ({outcome.cause or outcome.code}): starting again"
        )
        return True

    # Ends

    def _end(self, state: State, error: PushtrainError, *, code: int) -> None:
        logger.info("%s: %s: %s", self._id, state, error)
        tip = error.tip
        if self._record.load().attempts and not self._record.is_sealed():
            tip += f"; what the ranks wrote lies in {self._home / 'scratch' / self._id} until pushtrain gc"
        self._record.move(state, reason=str(error), tip=tip.removeprefix("; "), exit_code=code)

    def _clean(self) -> None:
        """Leave nothing of the run on this machine but what is in the store."""
        self._record.drop_mirror()
        preparation.forget(self._plan, run_id=self._id)
        self._engine.clear(self._id, files=self._record.is_sealed() or not self._record.load().attempts)
