"""A run's life apart from whoever asked: prepare, wait, train, collect, publish; taken up again from its folder.

`python -m runner.supervise RUN --engine NAME --store URI` is what an engine starts. Every step may be repeated, so
a supervisor that died is replaced by starting another one on the same folder.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runner import causes, collect, engines, jobs, plan, preparation, removal, runs, source
from runner.errors import (
    Cancelled,
    EngineError,
    NotFound,
    PushtrainError,
    StoreError,
    TimedOut,
    TrainingFailed,
)
from runner.gang import Gang, Outcome
from runner.hosts import Hosts
from runner.interrupts import Watch
from runner.lock import held
from runner.manifest import Manifest
from runner.place import Reservation, Slot
from runner.runs import Attempt, State
from runner.store import open_store

if TYPE_CHECKING:
    from runner.host.job import Job
    from runner.preparation import Prepared
    from runner.runs import Run
    from runner.store import Store

logger = logging.getLogger(__name__)

RESERVE_EVERY_S = 1.0
SEAL_TIMEOUT_S = 24 * 3600.0
# Whoever asks whether a supervisor lives holds its lock for a moment.
LOCK_WAIT_S = 2.0


class Supervision:
    """One supervisor's work on one run. Everything that must not be lost is in the run's folder, not here."""

    def __init__(self, run_id: str, *, engine: str, store: str, home: Path, watch: Watch) -> None:
        self._id, self._home, self._uri, self._watch = run_id, home, store, watch
        self._store: Store = open_store(store)
        self._engine = engines.load(engine, home=home, store=store)
        self._plan = plan.from_json(self._store.read(runs.key(run_id, "plan.json")))
        self._hosts = Hosts(self._engine, home=home, run_id=run_id, nodes=self._plan.gang.nodes)
        self._secrets: dict[str, str] = {}

    def run(self) -> None:
        """Bring the run to its end, whatever state it is in. Safe to repeat."""
        if self._begin().state.ended:
            return
        try:
            self._go_on()
        except Cancelled as error:
            self._end(State.CANCELLED, error, code=error.code)
        except TrainingFailed as error:
            self._end(State.FAILED, error, code=error.code)
        except PushtrainError as error:
            if error.retryable and self._has_results():
                self._leave_for_later(error)
                raise
            self._end(State.FAILED, error, code=error.exit_code)
        finally:
            self._hosts.close()
            self._engine.release()
        self._clean()

    def _go_on(self) -> None:
        cancelled = None
        if self._state not in (State.COLLECTING, State.PUBLISHING):
            try:
                self._train()
            except Cancelled as error:
                if not self._load().attempts:
                    raise
                cancelled = error  # Between two attempts: what the earlier ones wrote is kept.
        manifest = self._collect()
        if cancelled is not None:
            raise cancelled
        causes.check(self._load().attempts[-1])
        self._publish(manifest)

    def _begin(self) -> Run:
        asked, gang = self._plan.asked, self._plan.gang
        run = runs.create(
            self._store,
            runs.Run(
                id=self._id,
                name=self._plan.name,
                engine=self._plan.engine,
                plan_hash=self._plan.hash,
                state=State.QUEUED,
                created_at_s=time.time(),
                branch=asked.branch,
                commit=asked.commit,
                dirty=asked.dirty,
                inputs=dict(self._plan.inputs),
                world_size=gang.nodes * gang.processes_per_node,
                model=self._plan.release.model if self._plan.release else None,
            ),
        )
        return self._change(supervisor=runs.Supervisor(host=socket.gethostname(), pid=os.getpid())) or run

    # Training

    def _train(self) -> None:
        """Attempt after attempt, until one ends for good; how it ended is in run.json then."""
        outcome = self._recorded() or self._follow_adopted()
        if outcome is None:
            with self._watch.breaking():
                self._secrets = jobs.secrets_of(self._plan)
        while outcome is None or self._again(outcome):
            outcome = self._attempt()
            self._note_end(outcome)

    def _recorded(self) -> Outcome | None:
        """How the last attempt ended, where an earlier supervisor wrote that down and then died."""
        attempts = self._load().attempts
        if not attempts or attempts[-1].outcome in ("", "lost"):
            return None
        last = attempts[-1]
        return Outcome(kind=last.outcome, code=last.exit_code or 0, cause=last.cause)

    def _follow_adopted(self) -> Outcome | None:
        """Follow the gang that an earlier supervisor started, where all of it still lives."""
        if self._state is not State.RUNNING:
            return None
        if self._hosts.adopt():
            gang = self._gang()
            if gang.adopt():
                self._say(f"attempt {self._load().attempt} still runs: following it")
                outcome = gang.follow(lambda: None)
                self._note_end(outcome)
                return outcome
        self._hosts.drop()
        return None

    def _attempt(self) -> Outcome:
        with self._watch.breaking():
            self._sweep()
            if not self._plan.gang.gpus_per_node:
                self._hosts.open()  # They start while the environment is looked for; with GPUs they hold the lease.
            prepared = self._prepare()
            reservation = self._reserve()
        self._hosts.open()
        run = self._load()
        number = run.attempt + 1
        self._move(State.RUNNING, attempts=(*run.attempts, Attempt(number=number, started_at_s=time.time())))
        gang = self._gang()
        gang.start(self._jobs(reservation, prepared, attempt=number))
        try:
            return gang.follow(lambda: self._say(f"attempt {number}: all ranks started"))
        except StoreError:
            raise  # Not the training's fault: the attempt is lost, the run goes on when it is resumed.
        except PushtrainError as error:
            self._note_end(Outcome(kind="failed", code=error.exit_code, cause=str(error)))
            raise TrainingFailed(str(error), code=error.exit_code, tip=error.tip) from error

    def _sweep(self) -> None:
        """End what a lost attempt left: its ranks would write to the same folders. Note that it was lost."""
        attempts = self._load().attempts
        if attempts and attempts[-1].outcome in ("", "lost"):
            self._engine.sweep(self._id)
        if attempts and not attempts[-1].outcome:
            self._say(f"attempt {attempts[-1].number} was lost with its supervisor")
            self._note_end(Outcome(kind="lost", code=EngineError.exit_code, cause="its supervisor died"))

    def _prepare(self) -> Prepared:
        self._move(State.PREPARING, reason="")
        cached = source.unpack(self._store, self._plan.tree, self._home / "cache")
        prepared = preparation.prepare(
            self._plan,
            run_id=self._id,
            folder=cached,
            store=self._store,
            home=self._home,
            registry=os.environ.get("PUSHTRAIN_REGISTRY"),
            secrets=jobs.build_secrets_of(self._plan),
        )
        self._change(environment=prepared.name, environment_digest=prepared.digest)
        return prepared

    def _reserve(self) -> Reservation:
        """Block until all slots are ours. Raises TimedOut after `timeout.queue`, NoCapacity when they never can be."""
        gang, limit_s = self._plan.gang, self._plan.limits.queue_s
        since_s = time.monotonic()
        while (reservation := self._engine.reserve(gang, run_id=self._id)) is None:
            wanted = gang.nodes * gang.gpus_per_node
            self._move(
                State.WAITING,
                reason=f"waits for {wanted} GPUs, {self._engine.queued(self._id) or 'none free'}",
            )
            if limit_s is not None and time.monotonic() - since_s > limit_s:
                raise TimedOut(
                    f"timeout.queue: no free GPUs within {limit_s:g} s", tip="pushtrain runs --state running"
                )
            time.sleep(RESERVE_EVERY_S)
        return reservation

    def _gang(self) -> Gang:
        per_node = self._plan.gang.processes_per_node
        ranks = {n: frozenset(range(n * per_node, (n + 1) * per_node)) for n in range(self._plan.gang.nodes)}
        hosts = self._hosts
        return Gang(
            hosts.channels, hosts.inbox, ranks=ranks, limits=self._plan.limits, interrupts=self._watch
        )

    def _jobs(self, reservation: Reservation, prepared: Prepared | None, *, attempt: int) -> dict[int, Job]:
        return jobs.jobs(
            self._plan,
            reservation,
            run_id=self._id,
            attempt=attempt,
            resume=attempt > 1,
            store=self._uri,
            home=self._home,
            venv=prepared.venv if prepared is not None else None,
            image=prepared.image if prepared is not None else None,
            secrets=self._secrets,
        )

    def _again(self, outcome: Outcome) -> bool:
        """Whether `retry:` of train.yml starts the gang once more."""
        retries, attempts = self._plan.retries, self._load().attempts
        lost = outcome.kind == "lost" and "node-lost" in retries.on
        wanted = lost or (outcome.kind == "failed" and outcome.code in retries.exit_codes)
        if wanted and len(attempts) <= retries.max:
            self._say(
                f"attempt {len(attempts)} {outcome.kind} ({outcome.cause or outcome.code}): starting again"
            )
            return True
        return False

    # Collecting and publishing

    def _collect(self) -> Manifest:
        """Seal what the ranks wrote, also when they failed or were stopped. Safe to repeat."""
        key = runs.key(self._id, "outputs.json")
        try:
            return Manifest.from_json(self._store.read(key))
        except NotFound:
            self._move(State.COLLECTING, reason="")
        nodes = range(self._plan.gang.nodes)
        here = Reservation(
            slots=tuple(Slot(node_rank=n, host="", address="127.0.0.1", gpus=()) for n in nodes)
        )
        told = self._jobs(here, None, attempt=max(2, self._load().attempt))
        idle = {node: replace(job, processes=(), datasets=(), log_keys={}) for node, job in told.items()}
        sealed = self._hosts.seal(idle, timeout_s=SEAL_TIMEOUT_S, interrupts=self._watch)
        manifest = collect.manifest(sealed)
        self._change(warnings=collect.warnings(sealed))
        self._store.write(key, manifest.to_json())
        return manifest

    def _publish(self, manifest: Manifest) -> None:
        """Judge the metric, register the model, and let the next run with the same inputs find this one."""
        self._move(State.PUBLISHING)
        collect.add_remote_metrics(self._store, self._id, jobs.known_environment(self._plan, self._secrets))
        verdict = collect.judge(self._store, self._id, self._plan.gate)
        if verdict is not None:
            self._change(metric=collect.measured(self._plan.gate, verdict), verdict=verdict.sentence)
            if not verdict.passed:
                raise TrainingFailed(verdict.sentence, code=1, tip=f"pushtrain show {self._id}")
        name = None
        if self._plan.release is not None:
            from runner import release

            venv = (
                self._home / "envs" / self._plan.environment.key
                if self._plan.environment.kind == "venv"
                else None
            )
            version = release.register(self._store, self._plan, self._load(), manifest, venv=venv)
            name = f"{version.name}@{version.version}"
        self._store.write(f"results/{self._plan.hash}", self._id.encode())
        self._move(State.SUCCEEDED, exit_code=0, release=name, reason="", tip="")

    # The run's folder

    @property
    def _state(self) -> State:
        return self._load().state

    def _load(self) -> Run:
        return runs.load(self._store, self._id)

    def _change(self, **changes: object) -> Run:
        return runs.update(self._store, self._id, lambda run: msgspec.structs.replace(run, **changes))

    def _move(self, state: State, **changes: object) -> Run:
        logger.info("%s: %s", self._id, state)
        return runs.move(self._store, self._id, state, at_s=time.time(), **changes)

    def _note_end(self, outcome: Outcome) -> None:
        def ended(run: Run) -> Run:
            last = msgspec.structs.replace(
                run.attempts[-1],
                ended_at_s=time.time(),
                outcome=outcome.kind,
                exit_code=outcome.code,
                signal=outcome.signal,
                failed_rank=outcome.failed_rank,
                cause=outcome.cause or causes.guess(outcome.last_lines),
                last_lines=outcome.last_lines,
            )
            return msgspec.structs.replace(run, attempts=(*run.attempts[:-1], last))

        runs.update(self._store, self._id, ended)

    def _end(self, state: State, error: PushtrainError, *, code: int) -> None:
        logger.info("%s: %s: %s", self._id, state, error)
        tip = error.tip
        if self._load().attempts and not self._is_sealed():
            tip += f"; what the ranks wrote lies in {self._home / 'scratch' / self._id} until pushtrain gc"
        self._move(state, reason=str(error), tip=tip.removeprefix("; "), exit_code=code)

    def _has_results(self) -> bool:
        """Whether ending the run now could lose something: it trained, and what it wrote is not sealed or published."""
        return bool(self._load().attempts) and self._state in (
            State.RUNNING,
            State.COLLECTING,
            State.PUBLISHING,
        )

    def _leave_for_later(self, error: PushtrainError) -> None:
        """A passing fault (a full disk, a store that does not answer) does not end the run: `resume` goes on."""
        logger.error("%s is left as it is: %s", self._id, error)
        with contextlib.suppress(StoreError):
            self._change(
                reason=str(error), tip=f"{error.tip or 'mend that'}; then: pushtrain resume {self._id}"
            )

    def _say(self, sentence: str) -> None:
        logger.info("%s: %s", self._id, sentence)

    def _clean(self) -> None:
        """Leave nothing of the run on this machine but what is in the store."""
        self._engine.sweep(self._id)
        self._drop_mirror()
        if self._is_sealed() or not self._load().attempts:
            removal.remove(self._home / "scratch" / self._id)

    def _drop_mirror(self) -> None:
        """Once everything is sealed; until then what was synced is all there is."""
        if self._is_sealed():
            for key in self._store.keys(runs.key(self._id, "live/")):
                self._store.delete(key)

    def _is_sealed(self) -> bool:
        try:
            self._store.read(runs.key(self._id, "outputs.json"))
        except NotFound:
            return False
        return True


def main(argv: list[str]) -> int:
    """Supervise one run to its end. Returns 0, 75 when another supervisor has it, or a fault's code."""
    parser = argparse.ArgumentParser(prog="pushtrain supervise")
    parser.add_argument("run")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--store", required=True)
    asked = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = Path(os.environ["PUSHTRAIN_HOME"])
    with held(home / "scratch" / asked.run / "supervisor.lock", wait_s=LOCK_WAIT_S) as mine:
        if not mine:
            logger.error("%s has a supervisor already", asked.run)
            return 75
        try:
            with Watch(open_store(asked.store), asked.run) as watch:
                Supervision(asked.run, engine=asked.engine, store=asked.store, home=home, watch=watch).run()
        except PushtrainError as error:
            logger.error("%s: %s", asked.run, error)  # told once, as the command line does
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
