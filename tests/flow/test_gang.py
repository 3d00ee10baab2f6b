"""The life of a gang, driven by hosts that answer from a script: no process, no clock but the gang's own."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from runner import errors, jobs
from runner.agreement import Agreement
from runner.errors import StoreError
from runner.gang import Gang, Outcome
from runner.host.channel import Channel, Event
from runner.host.job import Job
from runner.host.launched import ORPHANED
from runner.launch import Process
from runner.place import Reservation, Slot
from runner.plan import Limits
from tests.flow import made

NO_LIMITS = Limits(queue_s=None, run_s=None, silence_s=None, grace_s=5.0)
Inbox = queue.Queue[tuple[int, Event]]
Answers = Callable[["Host", dict[str, Any]], None]

FETCHED = {"event": "fetched"}
ADOPTED = {"event": "adopted"}
LOST = {"event": "lost"}
STACKS: Event = {"event": "stacks", "last_lines": {}}


def started(*, ago_s: float = 0.0) -> Event:
    return {"event": "started", "at_s": time.time() - ago_s}


def exited(
    rank: int,
    code: int = 0,
    *,
    signal: str = "",
    cause: str = "",
    lines: tuple[str, ...] = (),
    stopped: bool = False,
) -> Event:
    return {
        "event": "exited",
        "rank": rank,
        "at_s": time.time(),
        "stopped": stopped,
        "code": code,
        "signal": signal,
        "cause": cause,
        "last_lines": list(lines),
    }


def error(kind: str, message: str, tip: str = "") -> Event:
    return {"event": "error", "class": kind, "message": message, "tip": tip}


def beat(silent_s: float) -> Event:
    return {"event": "beat", "silent_s": silent_s}


@dataclass
class Host:
    """Takes commands as a channel does; `answers` says by command which events come back."""

    node: int
    inbox: Inbox
    answers: Mapping[str, tuple[Event, ...]]
    everybody: list[tuple[int, str]]
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    alive: bool = False
    killed: bool = False

    def kill(self) -> None:
        self.killed = True

    def send(self, op: str, **fields: Any) -> None:
        self.sent.append((op, fields))
        self.everybody.append((self.node, op))
        usual = (STACKS,) if op == "stacks" else ()
        for event in self.answers.get(op, usual):
            self.inbox.put((self.node, event))

    @property
    def graces_s(self) -> list[float]:
        return [fields["grace_s"] for op, fields in self.sent if op == "stop"]


@dataclass
class Wish:
    """Whether somebody wants the run to end; `then` is what they want once they were asked some times."""

    how: str | None = None


@dataclass
class Stage:
    """A gang of one rank a node, its hosts and what they heard, in order."""

    gang: Gang
    hosts: list[Host]
    heard: list[tuple[int, str]]
    inbox: Inbox
    wish: Wish
    jobs: Mapping[int, Job]

    def start(self) -> None:
        self.gang.start(self.jobs)

    def run(self) -> Outcome:
        self.start()
        return self.gang.follow(lambda: self.heard.append((-1, "running")))


def stage(*answers: Mapping[str, tuple[Event, ...]], limits: Limits = NO_LIMITS) -> Stage:
    inbox: Inbox = queue.Queue()
    heard: list[tuple[int, str]] = []
    hosts = [Host(node, inbox, mine, heard) for node, mine in enumerate(answers)]
    wish = Wish()
    gang = Gang(
        {host.node: cast(Channel, host) for host in hosts},
        inbox,
        processes=tuple(process(host.node) for host in hosts),
        limits=limits,
        interrupts=wish,
    )
    return Stage(gang, hosts, heard, inbox, wish, told(len(hosts)))


def process(node: int, **changes: Any) -> Process:
    return replace(Process(rank=node, local_rank=0, node_rank=node, argv=("true",)), **changes)


def told(nodes: int) -> Mapping[int, Job]:
    slots = tuple(Slot(node_rank=n, host="h", address="127.0.0.1") for n in range(nodes))
    return jobs.jobs(
        made.plan(),
        Reservation(slots=slots),
        processes=tuple(process(n) for n in range(nodes)),
        run_id="r",
        attempt=1,
        resume=False,
        store="/store",
        home=Path("/home"),
        venv="/venv",
        image=None,
        secrets={},
    )


def good(rank: int) -> dict[str, tuple[Event, ...]]:
    return {"fetch": (FETCHED,), "go": (started(), exited(rank))}


def patient(rank: int, code: int = 143) -> dict[str, tuple[Event, ...]]:
    """Runs until it is stopped."""
    return {"fetch": (FETCHED,), "go": (started(),), "stop": (exited(rank, code, stopped=True),)}


def test_a_gang_whose_ranks_all_end_well_succeeded() -> None:
    assert stage(good(0), good(1), good(2)).run() == Outcome(kind="succeeded")


def test_no_rank_starts_before_every_host_has_fetched() -> None:
    here = stage(good(0), {**good(1), "fetch": ()}, good(2))
    here.start()
    here.inbox.put((1, FETCHED))
    here.gang.follow(lambda: None)
    assert here.heard == [(n, "fetch") for n in range(3)] + [(n, "go") for n in range(3)]


def test_every_host_is_told_its_own_job() -> None:
    here = stage(good(0), good(1))
    here.run()
    assert [host.sent[0][1]["job"]["node_rank"] for host in here.hosts] == [0, 1]


def going_on(jobs: Mapping[int, Job]) -> Mapping[int, Job]:
    return {node: replace(job, resume=True, checkpoints="outputs/checkpoints") for node, job in jobs.items()}


def test_hosts_that_go_on_from_node_0s_checkpoints_fetch_once_it_has_stored_them() -> None:
    here = stage({**good(0), "fetch": ()}, good(1), good(2))
    here.gang.start(going_on(here.jobs))
    assert here.heard == [(0, "fetch")]
    here.inbox.put((0, {"event": "stored"}))
    here.inbox.put((0, FETCHED))
    assert here.gang.follow(lambda: None) == Outcome(kind="succeeded")
    assert here.heard == [(n, "fetch") for n in range(3)] + [(n, "go") for n in range(3)]


def test_a_host_of_an_older_version_does_not_say_that_it_stored_its_checkpoints() -> None:
    here = stage(good(0), good(1))
    here.gang.start(going_on(here.jobs))
    assert here.gang.follow(lambda: None) == Outcome(kind="succeeded")
    assert here.heard == [(0, "fetch"), (1, "fetch"), (0, "go"), (1, "go")]


def test_no_other_host_fetches_where_node_0_cannot_store_its_checkpoints() -> None:
    here = stage({"fetch": (error("StoreError", "the store is full"),)}, good(1))
    here.gang.start(going_on(here.jobs))
    with pytest.raises(StoreError, match="full"):
        here.gang.follow(lambda: None)
    assert (1, "fetch") not in here.heard


def test_it_is_told_once_that_all_ranks_run() -> None:
    here = stage(good(0), good(1))
    here.run()
    assert here.heard.count((-1, "running")) == 1


def test_the_first_failure_stops_the_others_and_is_the_one_that_is_reported() -> None:
    failure = exited(1, 7, cause="out of memory", lines=("a", "b"))
    here = stage(patient(0), {"fetch": (FETCHED,), "go": (started(), failure)}, patient(2))
    outcome = here.run()
    assert outcome == Outcome(
        kind="failed",
        code=7,
        failed_rank=1,
        failed_node=1,
        cause="out of memory",
        last_lines=("a", "b"),
    )
    assert [host.graces_s for host in here.hosts] == [[5.0]] * 3


def test_a_rank_that_was_ended_by_a_signal_is_reported_with_its_name() -> None:
    killed = exited(0, 137, signal="SIGKILL")
    assert stage({"fetch": (FETCHED,), "go": (started(), killed)}).run().signal == "SIGKILL"


def test_the_end_of_all_ranks_is_awaited_after_a_failure() -> None:
    slow = {"fetch": (FETCHED,), "go": (started(),), "stop": (beat(0.0), exited(1, 143, stopped=True))}
    here = stage({"fetch": (FETCHED,), "go": (started(), exited(0, 1))}, slow)
    assert here.run().failed_rank == 0
    assert here.inbox.empty()


def test_a_host_that_cannot_fetch_raises_its_error_and_nothing_starts() -> None:
    missing = error("DatasetError", "mnist is gone", "look for it")
    here = stage(good(0), {"fetch": (missing,)})
    with pytest.raises(errors.DatasetError, match="mnist is gone") as caught:
        here.run()
    assert caught.value.tip == "look for it"
    assert "go" not in {op for _, op in here.heard}


def test_an_error_of_a_kind_that_is_not_known_is_the_engines() -> None:
    with pytest.raises(errors.EngineError):
        stage({"fetch": (error("Unheard", "no"),)}).run()


def test_a_host_that_cannot_start_its_ranks_stops_the_others_and_raises_its_error() -> None:
    refusing = {"fetch": (FETCHED,), "go": (error("EngineError", "Docker refused"),)}
    here = stage(patient(0), refusing, patient(2))
    with pytest.raises(errors.EngineError, match="Docker refused"):
        here.run()
    assert [host.graces_s for host in here.hosts] == [[5.0]] * 3
    assert here.inbox.empty()


def test_a_host_that_refuses_after_a_rank_failed_does_not_stop_the_others_twice() -> None:
    failing = {"fetch": (FETCHED,), "go": (started(), exited(0, 1))}
    here = stage(failing, {"fetch": (FETCHED,), "go": (error("EngineError", "no"),)}, patient(2))
    with pytest.raises(errors.EngineError):
        here.run()
    assert here.hosts[2].graces_s == [5.0]


def test_a_host_that_dies_while_ranks_run_loses_the_attempt_and_stops_the_others() -> None:
    here = stage(patient(0), {"fetch": (FETCHED,), "go": (started(), LOST)})
    outcome = here.run()
    assert (outcome.kind, outcome.code) == ("lost", errors.EngineError.exit_code)
    assert "node 1" in outcome.cause
    assert here.hosts[0].graces_s == [5.0]


def test_a_rank_that_was_lost_with_its_docker_loses_the_attempt_and_says_why() -> None:
    why = "rank 0 was lost: Docker on h0 does not answer any more"
    gone = {**exited(0, 72, cause=why), "lost": True}
    here = stage({"fetch": (FETCHED,), "go": (started(), gone)}, patient(1))
    outcome = here.run()
    assert (outcome.kind, outcome.cause) == ("lost", why)
    assert here.hosts[1].graces_s == [5.0]


def test_a_host_that_dies_while_it_fetches_ends_the_attempt_before_anything_started() -> None:
    here = stage({"fetch": ()}, {"fetch": (LOST,)})
    assert here.run().kind == "lost"
    assert "go" not in {op for _, op in here.heard}


def test_a_gang_that_runs_longer_than_its_limit_is_stopped() -> None:
    here = stage(patient(0), patient(1), limits=replace(NO_LIMITS, run_s=0.0))
    outcome = here.run()
    assert (outcome.kind, outcome.code) == ("timeout", 75)
    assert "timeout.run" in outcome.cause


def test_gpu_hours_that_are_used_up_stop_the_ranks_and_are_told_from_the_time_limit() -> None:
    outcome = stage(patient(0), limits=replace(NO_LIMITS, run_s=0.0, budget_s=0.0)).run()
    assert (outcome.kind, outcome.code) == ("timeout", 75)
    assert outcome.cause.startswith("policy.max_gpu_hours: they are used up")
    outcome = stage(patient(0), limits=replace(NO_LIMITS, run_s=0.0, budget_s=3600.0)).run()
    assert outcome.cause.startswith("timeout.run")


def test_fetching_does_not_count_as_running() -> None:
    here = stage({"fetch": (beat(0.0), beat(0.0))}, limits=replace(NO_LIMITS, run_s=0.0))
    here.wish.how = "kill"
    assert here.run().kind == "cancelled"


def test_a_gang_in_which_nobody_says_anything_is_stopped() -> None:
    here = stage(patient(0), patient(1), limits=replace(NO_LIMITS, silence_s=60.0))
    here.start()
    for node in (0, 1):
        here.inbox.put((node, beat(61.0)))
    outcome = here.gang.follow(lambda: None)
    assert (outcome.kind, outcome.code) == ("timeout", 75)
    assert "no output for 61 s" in outcome.cause


def test_one_rank_that_still_speaks_keeps_the_gang_alive() -> None:
    here = stage(patient(0), patient(1), limits=replace(NO_LIMITS, silence_s=60.0))
    here.start()
    here.inbox.put((0, beat(0.5)))
    here.inbox.put((1, beat(61.0)))
    here.inbox.put((0, exited(0)))
    here.inbox.put((1, exited(1)))
    assert here.gang.follow(lambda: None).kind == "succeeded"


def test_a_host_whose_ranks_have_ended_does_not_count_as_one_that_speaks() -> None:
    """It says that it is silent for no time, while the rank that it waits for hangs."""
    here = stage(good(0), patient(1), limits=replace(NO_LIMITS, silence_s=60.0))
    here.start()
    here.inbox.put((0, beat(0.0)))
    here.inbox.put((1, beat(61.0)))
    assert here.gang.follow(lambda: None).kind == "timeout"


def test_cancelling_gives_every_rank_its_grace_and_then_reports_cancelled() -> None:
    here = stage(patient(0), patient(1, code=0))
    here.wish.how = "stop"
    here.start()
    here.inbox.put((0, beat(0.0)))
    outcome = here.gang.follow(lambda: None)
    assert (outcome.kind, outcome.code) == ("cancelled", 130)
    assert [host.graces_s for host in here.hosts] == [[5.0], [5.0]]


def test_cancelling_before_anything_started_ends_at_once() -> None:
    here = stage({"fetch": ()}, {"fetch": ()})
    here.wish.how = "kill"
    assert here.run().kind == "cancelled"


def test_ranks_that_are_just_being_started_get_their_grace_too() -> None:
    """Cancelled between `go` and `started`: the host starts its ranks all the same."""
    here = stage({"fetch": (FETCHED,), "stop": (started(), exited(0, 143))})
    here.wish.how = "stop"
    assert here.run().kind == "cancelled"
    assert here.inbox.empty()
    assert here.hosts[0].graces_s == [5.0]


def test_cancelling_twice_kills() -> None:
    class Impatient:
        """Wants a stop first and, once that was sent, a kill."""

        @property
        def how(self) -> str | None:
            return "kill" if here.hosts[0].graces_s else "stop"

    here = stage({"fetch": (FETCHED,), "go": (started(),)})
    gang = Gang(
        {0: cast(Channel, here.hosts[0])},
        here.inbox,
        processes=(process(0),),
        limits=NO_LIMITS,
        interrupts=Impatient(),
    )
    here.hosts[0].answers = {**here.hosts[0].answers, "stop": ()}
    gang.start(here.jobs)
    here.inbox.put((0, beat(0.0)))
    here.inbox.put((0, beat(0.0)))
    here.inbox.put((0, exited(0, 137, signal="SIGKILL")))
    assert gang.follow(lambda: None).kind == "cancelled"
    assert here.hosts[0].graces_s == [5.0, 0.0]


def test_a_cancel_after_a_failure_does_not_break_off_what_the_others_save() -> None:
    here = stage(
        {"fetch": (FETCHED,), "go": (started(), exited(0, 3))}, {"fetch": (FETCHED,), "go": (started(),)}
    )
    here.start()
    seen: list[str] = []

    class Late:
        @property
        def how(self) -> str | None:
            if here.hosts[1].graces_s and not seen:
                seen.append("stop")
                here.inbox.put((1, exited(1, 143)))
            return "stop" if seen else None

    gang = here.gang
    gang._interrupts = Late()
    outcome = gang.follow(lambda: None)
    assert (outcome.kind, outcome.failed_rank) == ("failed", 0)
    assert here.hosts[1].graces_s == [5.0]


# Taken over from a supervisor that died


def test_ranks_that_an_earlier_supervisor_started_are_followed_and_not_started_again() -> None:
    here = stage({}, {})
    for node in (0, 1):
        for event in (FETCHED, started(), ADOPTED):
            here.inbox.put((node, event))
    assert here.gang.adopt()
    here.inbox.put((0, exited(0)))
    here.inbox.put((1, exited(1)))
    assert here.gang.follow(lambda: None).kind == "succeeded"
    assert here.heard == []


def test_ranks_that_ended_before_the_run_was_taken_over_count() -> None:
    here = stage({}, {})
    for node in (0, 1):
        for event in (FETCHED, started(), exited(node, 5 * node), ADOPTED):
            here.inbox.put((node, event))
    assert here.gang.adopt()
    assert here.gang.follow(lambda: None).failed_rank == 1


def test_a_gang_that_was_not_started_everywhere_is_not_taken_over() -> None:
    here = stage({}, {})
    for event in (FETCHED, started(), ADOPTED):
        here.inbox.put((0, event))
    for event in (FETCHED, ADOPTED):
        here.inbox.put((1, event))
    assert not here.gang.adopt()


def test_a_gang_of_which_a_host_is_gone_is_not_taken_over() -> None:
    here = stage({}, {})
    for node in (0, 1):
        for event in (FETCHED, started(), ADOPTED if node == 0 else LOST):
            here.inbox.put((node, event))
    assert not here.gang.adopt()


def test_the_time_that_ranks_ran_before_they_were_taken_over_counts() -> None:
    here = stage({"stop": (exited(0, 143),)}, limits=replace(NO_LIMITS, run_s=3600.0))
    for event in (FETCHED, started(ago_s=3601.0), ADOPTED):
        here.inbox.put((0, event))
    assert here.gang.adopt()
    assert here.gang.follow(lambda: None).kind == "timeout"


def test_a_gang_that_falls_silent_names_the_rank_that_raised_and_did_not_end() -> None:
    raised: Event = {"event": "stacks", "last_lines": {"0": ["Traceback", "ValueError: boom"]}}
    limits = replace(NO_LIMITS, silence_s=1.0)
    quiet = {
        "fetch": (FETCHED,),
        "go": (started(), beat(2.0)),
        "stacks": (raised,),
        "stop": (exited(0, 143),),
    }
    outcome = stage(quiet, limits=limits).run()
    assert outcome.kind == "timeout"
    assert "rank 0 raised ValueError: boom and did not end" in outcome.cause


def test_a_host_of_an_attempt_before_says_nothing_of_this_one() -> None:
    here = stage({"fetch": (FETCHED,), "go": (started(),)})
    channels = {0: cast(Channel, here.hosts[0])}
    gang = Gang(
        channels, here.inbox, processes=(process(0),), limits=NO_LIMITS, interrupts=here.wish, attempt=2
    )
    here.inbox.put((0, {**exited(0, 9), "attempt": 1}))
    here.inbox.put((0, {**exited(0), "attempt": 2}))
    gang.start(here.jobs)
    assert gang.follow(lambda: None) == Outcome(kind="succeeded")


def test_hosts_that_fetched_twice_are_told_to_go_once() -> None:
    here = stage({"fetch": (FETCHED, FETCHED), "go": (started(), exited(0))})
    here.run()
    assert [op for _, op in here.heard].count("go") == 1


def test_the_time_limit_counts_also_where_no_rank_ever_starts() -> None:
    quiet = {"fetch": (FETCHED,), "stop": (exited(0, 137, stopped=True),)}
    outcome = stage(quiet, limits=replace(NO_LIMITS, run_s=0.05)).run()
    assert (outcome.kind, outcome.code) == ("timeout", 75)


# Daemons and launchers


def with_processes(here: Stage, *processes: Process) -> Gang:
    """The same hosts, with other processes on them."""
    channels = {host.node: cast(Channel, host) for host in here.hosts}
    return Gang(channels, here.inbox, processes=processes, limits=NO_LIMITS, interrupts=here.wish)


def test_daemons_are_ended_when_the_others_are_done_and_their_end_is_no_failure() -> None:
    here = stage(
        {"fetch": (FETCHED,), "go": (started(), exited(0))},
        {
            "fetch": (FETCHED,),
            "go": (started(),),
            "finish": (exited(1, 143, signal="SIGTERM", stopped=True),),
        },
    )
    gang = with_processes(here, process(0), process(1, daemon=True))
    gang.start(here.jobs)
    assert gang.follow(lambda: None) == Outcome(kind="succeeded")
    assert (1, "finish") in here.heard


def test_a_daemon_that_fails_while_the_others_run_fails_the_attempt() -> None:
    here = stage(patient(0), {"fetch": (FETCHED,), "go": (started(), exited(1, 3, cause="no disk"))})
    gang = with_processes(here, process(0), process(1, daemon=True, task="ps 0"))
    gang.start(here.jobs)
    outcome = gang.follow(lambda: None)
    assert (outcome.failed_rank, outcome.failed_task, outcome.code) == (1, "ps 0", 3)


def test_a_launcher_that_fails_before_its_ranks_is_what_failed() -> None:
    failure = exited(2, 1, lines=("not enough slots",))
    here = stage(
        {"fetch": (FETCHED,), "go": (failure,), "stop": (exited(0, 137, cause=ORPHANED, stopped=True),)}
    )
    gang = with_processes(
        here, process(0, kind="launched"), replace(process(0), rank=2, kind="launcher", task="mpirun")
    )
    gang.start(here.jobs)
    outcome = gang.follow(lambda: None)
    assert (outcome.failed_rank, outcome.failed_task, outcome.code) == (None, "mpirun", 1)


def test_a_rank_that_failed_before_its_launcher_is_what_failed() -> None:
    rank, launcher = exited(0, 7, lines=("ValueError: x",)), exited(1, 1, lines=("aborted",))
    here = stage({"fetch": (FETCHED,), "go": (started(), launcher, rank)})
    gang = with_processes(here, process(0, kind="launched"), replace(process(0), rank=1, kind="launcher"))
    gang.start(here.jobs)
    assert gang.follow(lambda: None).failed_rank == 0


def test_an_elastic_gang_goes_on_without_a_node_but_not_without_its_first() -> None:
    def follow(lost: int) -> Gang:
        here = stage(
            {"fetch": (FETCHED,), "go": (started(),)},
            {"fetch": (FETCHED,), "go": (started(),)},
        )
        channels = {host.node: cast(Channel, host) for host in here.hosts}
        gang = Gang(
            channels,
            here.inbox,
            processes=(process(0), process(1)),
            limits=NO_LIMITS,
            interrupts=here.wish,
            least_nodes=1,
        )
        gang.start(here.jobs)
        here.inbox.put((lost, LOST))
        here.inbox.put((1 - lost, exited(1 - lost)))
        outcomes.append(gang.follow(lambda: None).kind)
        return gang

    outcomes: list[str] = []
    without_node_1 = follow(1)
    assert without_node_1.warnings == ("node 1 was lost; its ranks are missing from then on",)
    assert without_node_1.nodes_left == 1
    assert follow(0).warnings == ()
    assert outcomes == ["succeeded", "lost"]


# Weights


def sketch(value: float, *, step: int) -> str:
    told = {"attempt": 0, "pid": 1, "framework": "tensorflow", "model": "fit", "size": 1, "step": step}
    return json.dumps({**told, "squares": value * value, "sketch": [value] + [0.0] * 63})


@pytest.mark.parametrize(("divergence", "kind"), [("fail", "diverged"), ("warn", "succeeded")])
def test_ranks_whose_weights_differ_fail_the_attempt_or_are_warned_of(
    divergence: Literal["fail", "warn"], kind: str
) -> None:
    here = stage(patient(0), patient(1))
    channels = {host.node: cast(Channel, host) for host in here.hosts}
    gang = Gang(
        channels,
        here.inbox,
        processes=(process(0), process(1)),
        limits=NO_LIMITS,
        interrupts=here.wish,
        weights=Agreement(world_size=2),
        divergence=divergence,
    )
    gang.start(here.jobs)
    for step in (1, 2, 4):
        for rank in (0, 1):
            line = sketch(1.0 + step * (1 + rank), step=step)
            here.inbox.put((rank, {"event": "weights", "rank": rank, "report": line}))
    if kind == "succeeded":
        here.inbox.put((0, exited(0)))
        here.inbox.put((1, exited(1)))
    outcome = gang.follow(lambda: None)
    assert outcome.kind == kind
    assert "gradients are not shared" in outcome.cause + "".join(gang.warnings)
