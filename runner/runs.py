"""The run folder: `runs/ID/run.json` is a state machine that any process may read and its supervisor moves on.

    queued -> preparing -> waiting -> running -> collecting -> publishing -> succeeded
    (as far as running) -> preparing, for another attempt, or queued, where its hosts were taken away
                   (from anywhere) -> failed | cancelled

Everything a run leaves lies below `runs/ID/`: plan.json, source.diff, logs/, metrics.jsonl, live/ and outputs.json.
"""

from __future__ import annotations

import calendar
import contextlib
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from runner import decoding
from runner.errors import Conflict, Corrupt, NotFound, RunNotFound

if TYPE_CHECKING:
    from runner.store import Store

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a run stands; the last three are ends."""

    QUEUED = "queued"
    PREPARING = "preparing"
    WAITING = "waiting"
    RUNNING = "running"
    COLLECTING = "collecting"
    PUBLISHING = "publishing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the run."""
        return self in ENDS


REASON_CHARACTERS = 300
ENDS = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
_ORDER = tuple(State)


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state that the run was in; times in unix seconds."""

    state: State
    started_at_s: float
    ended_at_s: float | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One start of the gang; `outcome` is that of `gang.Outcome.kind`, empty while it runs.

    `failed_rank` is the rank that failed first, on `failed_node` and as `failed_task` (`worker 1`), `signal` the name
    of the signal that ended it. `steps_lost` are those that the next attempt did again. `world_size`
    is how many ranks it had, of an elastic gang at its end.
    """

    number: int
    started_at_s: float
    ended_at_s: float | None = None
    outcome: str = ""
    exit_code: int | None = None
    signal: str = ""
    failed_rank: int | None = None
    cause: str = ""
    last_lines: tuple[str, ...] = ()
    failed_node: int | None = None
    failed_task: str = ""
    world_size: int | None = None
    steps_lost: int | None = None


class Supervisor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that moves the run on; `job` is its batch system's job and which start of it, empty without one."""

    host: str
    pid: int
    job: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`run.json`: what a run is, where it stands and how it ended.

    `isolated` is a fork's run: nothing is compared with it. `group` holds runs that go one after the other. `launchers`
    are numbered after the ranks: so many more streams of output there are.
    """

    id: str
    name: str
    engine: str
    plan_hash: str
    state: State
    reason: str = ""
    tip: str = ""
    exit_code: int | None = None
    created_at_s: float
    branch: str | None = None
    commit: str | None = None
    dirty: bool = False
    inputs: dict[str, str | int | float | bool] = {}
    world_size: int = 1
    launchers: int = 0
    stages: tuple[Stage, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    supervisor: Supervisor | None = None
    metric: tuple[str, float] | None = None
    verdict: str = ""
    environment: str = ""
    environment_digest: str = ""
    model: str | None = None
    release: str | None = None
    warnings: tuple[str, ...] = ()
    isolated: bool = False
    group: str | None = None

    @property
    def attempt(self) -> int:
        """Number of the latest attempt, 0 before the first."""
        return len(self.attempts)

    def seconds_in(self, state: State, *, now_s: float | None = None) -> float:
        """Seconds spent in `state` so far, all its visits together."""
        until = time.time() if now_s is None else now_s
        return sum((s.ended_at_s or until) - s.started_at_s for s in self.stages if s.state is state)


def new_id(*, now_s: float) -> str:
    """An id that sorts by time and is short enough to type the end of: `20261121-210455-9f3c1e`.

    Its end is the fraction of the second in 4096ths, then three random digits.
    """
    fraction = int(now_s % 1 * 4096)
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(now_s)) + f"-{fraction:03x}{secrets.randbits(12):03x}"


def asked_at_s(run_id: str) -> float:
    """When an id was made, to the second."""
    return float(calendar.timegm(time.strptime(run_id[:15], "%Y%m%d-%H%M%S")))


def key(run_id: str, name: str) -> str:
    """The store's key of a file of the run."""
    return f"runs/{run_id}/{name}"


def create(store: Store, run: Run) -> Run:
    """Make the run visible, in its first state. Safe to repeat: an existing run is returned as it stands."""
    started = replace(run, stages=(Stage(state=run.state, started_at_s=run.created_at_s),))
    try:
        store.create(key(run.id, "run.json"), _encode(started))
    except Conflict:
        return load(store, run.id)
    return started


def load(store: Store, run_id: str) -> Run:
    """The run as it stands now. Raises RunNotFound."""
    try:
        return decode(store.read(key(run_id, "run.json")), run_id)
    except NotFound as error:
        raise RunNotFound(f"there is no run {run_id}", tip="pushtrain runs") from error


def update(store: Store, run_id: str, change: Callable[[Run], Run]) -> Run:
    """Apply `change` to run.json whole, also when somebody else writes it at the same time. Returns the new run."""
    while True:
        versioned = store.read_versioned(key(run_id, "run.json"))
        run = decode(versioned.data, run_id)
        changed = change(run)
        if changed == run:
            return run
        try:
            store.replace(key(run_id, "run.json"), _encode(changed), version=versioned.version)
        except Conflict:
            continue
        return changed


def move(store: Store, run_id: str, state: State, *, at_s: float, **changes: object) -> Run:
    """Move the run to `state`, as `moved`."""
    return update(store, run_id, lambda run: moved(run, state, at_s=at_s, **changes))


def moved(run: Run, state: State, *, at_s: float, **changes: object) -> Run:
    """The run in `state`; one that ended stays as it is (safe to repeat). Raises ValueError for a step back."""
    if run.state.ended or (run.state is state and not changes):
        return run
    if _ORDER.index(state) < _ORDER.index(run.state) and state not in (State.QUEUED, State.PREPARING):
        raise ValueError(f"a run goes from {run.state} to {state} never")
    stages = run.stages
    if run.state is not state:
        stages = _close(run.stages, at_s)
        stages += (Stage(state=state, started_at_s=at_s, ended_at_s=at_s if state.ended else None),)
    return replace(run, state=state, stages=stages, **changes)


def _close(stages: tuple[Stage, ...], at_s: float) -> tuple[Stage, ...]:
    return tuple(s if s.ended_at_s is not None else replace(s, ended_at_s=at_s) for s in stages)


def _encode(run: Run) -> bytes:
    return to_json(run) + b"\n"


def decode(data: bytes, run_id: str) -> Run:
    """The run that `to_json` wrote. Raises Corrupt for anything else."""
    try:
        return decoding.from_json(data, Run)
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"run.json of {run_id} cannot be read: {error}",
            tip="was it written by a newer version of pushtrain?",
        ) from error


def to_json(run: Run) -> bytes:
    """`run.json`: the same bytes for equal runs."""
    return msgspec.json.format(msgspec.json.encode(run), indent=1)


def ids(store: Store) -> tuple[str, ...]:
    """All run ids, newest first."""
    return tuple(sorted((name for name in store.children("runs") if is_id(name)), reverse=True))


def find(store: Store, text: str) -> Run:
    """The run that `text` means: its id, a unique beginning or end of it, or `last`. Raises RunNotFound."""
    known = ids(store)
    if text == "last":
        if not known:
            raise RunNotFound("there are no runs yet", tip="pushtrain run FOLDER")
        return load(store, known[0])
    matches = [i for i in known if i == text] or [i for i in known if i.startswith(text) or i.endswith(text)]
    if not matches or not text:
        raise RunNotFound(f"there is no run {text!r}", tip="pushtrain runs")
    if len(matches) > 1:
        raise RunNotFound(f"{text!r} may be any of {', '.join(matches[:5])}", tip="type more of the id")
    return load(store, matches[0])


def listing(
    store: Store, *, state: str | None = None, branch: str | None = None, model: str | None = None
) -> Iterator[Run]:
    """Runs that match, newest first. One whose folder is half there is passed over, a damaged one is named."""
    for run_id in ids(store):
        try:
            run = load(store, run_id)
        except RunNotFound:
            continue
        except Corrupt as error:
            logger.warning("%s", error)
            continue
        wanted = (state, branch, model)
        if all(
            w is None or w == has for w, has in zip(wanted, (run.state, run.branch, run.model), strict=True)
        ):
            yield run


def request_cancel(store: Store, run_id: str, *, how: str, why: str = "") -> None:
    """Ask the run's supervisor to `stop` (SIGTERM and grace) or `kill` the run; the run's reason then says `why`.

    Safe to repeat: what was asked first stays the reason, and a `kill` is never softened.
    """
    asked, reason = _cancel(store, run_id)
    how = "kill" if asked == "kill" else how
    store.write(key(run_id, "cancel"), "\n".join((how, reason or _one_line(why))).strip().encode())


def cancel_requested(store: Store, run_id: str) -> str | None:
    """`stop`, `kill` or None."""
    return _cancel(store, run_id)[0]


def cancel_reason(store: Store, run_id: str) -> str:
    """Why the run was asked to end, such as `superseded by 2026…`; empty where nobody said."""
    return _cancel(store, run_id)[1]


def _cancel(store: Store, run_id: str) -> tuple[str | None, str]:
    try:
        how, _, why = store.read(key(run_id, "cancel")).decode().partition("\n")
    except NotFound:
        return None, ""
    return how, why


def _one_line(text: str) -> str:
    return " ".join(text.split())[:REASON_CHARACTERS]


@contextlib.contextmanager
def clearing(store: Store, run_id: str) -> Iterator[None]:
    """Within the block whoever looks is told that what the run left is being removed. Raises StoreError."""
    store.write(key(run_id, "clearing"), b"")
    try:
        yield
    finally:
        store.delete(key(run_id, "clearing"))


def is_being_cleared(store: Store, run_id: str) -> bool:
    """Whether somebody removes what the run left, or was ended while doing so."""
    try:
        store.read(key(run_id, "clearing"))
    except NotFound:
        return False
    return True


def stream_name(run: Run, rank: int) -> str:
    """What the stream of that number is: `rank 3`, or `launcher` with its node where there are several."""
    if rank < run.world_size:
        return f"rank {rank}"
    return f"launcher {rank - run.world_size}" if run.launchers > 1 else "launcher"


def log_key(run_id: str, *, attempt: int, rank: int) -> str:
    """The stream of one rank's (or launcher's) output in one attempt."""
    return key(run_id, f"logs/attempt-{attempt}/rank-{rank}.log")


def build_log_key(run_id: str) -> str:
    """The stream of the environment's build."""
    return key(run_id, "logs/environment.log")


def metrics_key(run_id: str) -> str:
    """The stream of metric points, JSON lines."""
    return key(run_id, "metrics.jsonl")


def system_key(run_id: str, *, attempt: int, node: int) -> str:
    """The stream of what a node's GPUs did in one attempt, points as those of metrics."""
    return key(run_id, f"system/attempt-{attempt}/node-{node}.jsonl")


def is_id(text: str) -> bool:
    """Whether `text` has the form of a run id."""
    return re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4,}", text) is not None
