"""A job that waits, the queue and the hosts -> for what it waits, behind whom, and until when: pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.slurm import labels
from runner.slurm.hostlist import expand

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from runner.slurm.nodes import Node
    from runner.slurm.queue import Job

_Demand = tuple[str, str, int, int]
# How many of several hosts are named in a sentence.
# Why a host is drained that sends its jobs away. One that leaves when they have ended takes none from anybody.
LEAVES_NOW = "leaves the fleet at once"
_NAMED = 3
# Slurm takes a job without a time limit for one of a year: what follows from that is no estimate.
_NO_ESTIMATE_S = 300 * 86_400
# A job that gives way is ended within Slurm's KillWait of 30 s.
_JUST_NOW_S = 60.0
_TIER = re.compile(r"p(\d{1,3})")
# What Slurm says of jobs that it waits with for other reasons than hosts; `squeue(1)`, JOB REASON CODES.
_REASONS = {
    "BeginTime": "it is not to start earlier (BeginTime)",
    "Dependency": "it waits for another job that has to end first",
    "DependencyNeverSatisfied": "it waits for another job that failed: it will never start",
    "PartitionDown": "its part of the queue is closed (PartitionDown)",
    "PartitionInactive": "its part of the queue is closed (PartitionInactive)",
    "PartitionTimeLimit": "it wants more time than its part of the queue allows (PartitionTimeLimit)",
    "Reservation": "the hosts it wants are reserved (Reservation)",
    "Licenses": "it waits for a licence (Licenses)",
    "Prolog": "its hosts are being made ready (Prolog)",
    "Cleaning": "what ran before it is being cleared away (Cleaning)",
}
# How a host is that can be switched off, in the order in which one state stands before another.
_POWER = {
    "POWERED_DOWN": "switched off",
    "POWERING_DOWN": "being switched off",
    "POWERING_UP": "being started",
    "POWER_DOWN": "about to be switched off",
    "REBOOT_ISSUED": "rebooting",
    "REBOOT_REQUESTED": "about to reboot",
}
_FAILED_START = re.compile(r"start \d+ of \d+ failed .*", re.DOTALL)
# Somebody's: `scontrol uhold`, `hold`, `requeuehold`. What Slurm holds by itself has others, such as
# "launch failed requeued held" (seen with 22.05).
_HELD = {
    "JobHeldUser": "somebody holds it (JobHeldUser)",
    "JobHeldAdmin": "an administrator holds it (JobHeldAdmin)",
    "job requeued in held state": "somebody put it back and holds it (scontrol requeuehold)",
}
# An account's or a quality of service's limit, such as QOSMaxGRESPerUser or AssocGrpCpuLimit.
_QUOTA = re.compile(r"(?:QOS|Assoc|Association)[A-Za-z]*")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """`why` is a sentence; `behind` names who holds what it needs, then who stands before it: run ids, or
    `job 7 of alice` where it is no run. `starts_at_s` is Slurm's own estimate, None while it has none.
    """

    why: str
    behind: tuple[str, ...] = ()
    starts_at_s: float | None = None


class Moment:
    """All jobs and hosts of a cluster as of one moment. What is asked again for each that waits is worked out once."""

    def __init__(self, jobs: Sequence[Job], nodes: Sequence[Node]) -> None:
        self.jobs = tuple(jobs)
        self.waiting = {job.name: job for job in jobs if job.waits}
        self.nodes = tuple(nodes)
        self._order = in_order(jobs)
        self._ranks = [_rank(job) for job in self._order]
        self._hosts = {job.id: frozenset(expand(job.hosts)) for job in jobs if not job.waits}
        self._fitting: dict[_Demand, tuple[Node, ...]] = {}
        self._meeting: dict[tuple[_Demand, _Demand], bool] = {}

    def explain(self, job: Job) -> Waiting:
        """Why a job that waits, or whose hosts are being started, has not started."""
        if job.starting:
            return Waiting(why=self._coming(job))
        if job.held:
            return Waiting(why=_held(job))
        found = self._explain(job)
        failed = [(node.name, failed_start(node)) for node in self._fit(job)]
        untold = [f"{name}: {why}" for name, why in failed if why and why not in found.why]
        return replace(found, why=f"{found.why}; {_some(untold)}") if untold else found

    def _coming(self, job: Job) -> str:
        hosts = [node for node in self.nodes if node.name in self._hosts.get(job.id, ())]
        away = [node for node in hosts if not node.takes_jobs]
        if not away:
            return "its hosts are being made ready"
        return f"it waits for its host{'s' * (len(hosts) > 1)} to start: {_away(away)}"

    def _explain(self, job: Job) -> Waiting:
        reason = job.reason.partition(",")[0]
        if reason == "BeginTime" and job.restarts:
            why = "it was put back into the queue: Slurm lets such a job wait for at most two minutes"
            return Waiting(why=why, starts_at_s=_starts(job))
        if reason in _REASONS:
            return Waiting(why=_REASONS[reason], starts_at_s=_starts(job))
        if _QUOTA.fullmatch(reason):
            return Waiting(why=f"a limit of its account is reached ({reason})", starts_at_s=_starts(job))
        fitting = self._fit(job)
        likeliest = _likeliest(job, fitting)
        if len(likeliest) < job.nodes:
            why = f"it waits for {wants(job)}, and the fleet has {len(likeliest) or 'none'} of that kind"
            return Waiting(why=why, starts_at_s=_starts(job))
        before = self._order[: bisect_left(self._ranks, _rank(job))]
        ahead = [each for each in before if self._competes(each, job)]
        holders = self._holders(job, fitting)
        return Waiting(
            why=_why(job, fitting=likeliest, ahead=ahead, holders=holders),
            behind=tuple(dict.fromkeys(label(each) for each in (*holders, *ahead))),
            starts_at_s=_starts(job),
        )

    def _fit(self, job: Job) -> tuple[Node, ...]:
        """Those of a type of which there are enough; of all types that fit where there are not."""
        demand = _demand(job)
        if demand not in self._fitting:
            found = _enough(job, self.nodes) or {node.name for node in self.nodes if fits(job, node)}
            self._fitting[demand] = tuple(node for node in self.nodes if node.name in found)
        return self._fitting[demand]

    def _competes(self, other: Job, job: Job) -> bool:
        """Whether it could be given one of the hosts that fit: Slurm keeps none for jobs that lack others."""
        if other.reason.partition(",")[0] in _REASONS or _QUOTA.fullmatch(other.reason):
            return False
        pair = _demand(other), _demand(job)
        if pair not in self._meeting:
            could = _enough(other, [node for node in self._fit(other) if node.takes_jobs])
            self._meeting[pair] = any(node.name in could for node in self._fit(job))
        return self._meeting[pair]

    def _holders(self, job: Job, fitting: Sequence[Node]) -> list[Job]:
        """Who runs on hosts that it could have, with GPUs where it wants some; none where enough hosts are free."""
        taken = {node.name for node in fitting if node.takes_jobs and not _is_free(job, node)}
        if not taken or _free(job, fitting) >= job.nodes:
            return []
        there = [each for each in self.jobs if not each.waits and taken & self._hosts[each.id]]
        with_gpus = [each for each in there if each.gpus_per_node]
        # Jobs that asked for GPUs in another way (`--gpus`) do not say here how many they have.
        return with_gpus if job.gpus_per_node and with_gpus else there


def explain(job: Job, jobs: Sequence[Job], nodes: Sequence[Node]) -> Waiting:
    """Why a job that waits has not started; `jobs` and `nodes` are all of the cluster, as of one moment."""
    return Moment(jobs, nodes).explain(job)


def held_by_slurm(job: Job) -> bool:
    """Whether Slurm holds a job by itself, so that nobody minds if it is released. Pure."""
    return job.held and job.reason not in _HELD


def wants(job: Job) -> str:
    """What a job asks for, such as `2 hosts with 4 GPUs (nvidia_h100) each, pool: lab`."""
    hosts = "1 host" if job.nodes == 1 else f"{job.nodes} hosts"
    if job.gpus_per_node:
        kind = f" ({job.gpu_type})" if job.gpu_type else ""
        hosts += f" with {job.gpus_per_node} GPU{'s' * (job.gpus_per_node > 1)}{kind}"
        hosts += " each" if job.nodes > 1 else ""
    features = [feature for feature in re.split(r"[&,]", job.features) if feature not in ("", "pushtrain")]
    alike = ("all of one type",) if job.nodes > 1 and len(labels.alternatives(job.features)) > 1 else ()
    return ", ".join((hosts, *(labels.named(feature) for feature in features), *alike))


def label(job: Job) -> str:
    """The run's id, or `job 7 of alice` where the job is no run."""
    return job.name if job.comment.startswith("pushtrain ") else f"job {job.id} of {job.user}"


def in_order(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Those that wait and are not held, the one that Slurm looks at first standing first."""
    return tuple(sorted((job for job in jobs if job.waits and not job.held), key=_rank))


def fits(job: Job, node: Node) -> bool:
    """Whether the host could ever be one of the job's, by its GPUs and labels, whatever its state."""
    have = node.gpus.get(job.gpu_type, 0) if job.gpu_type else node.gpu_count
    if have < job.gpus_per_node:
        return False
    return labels.satisfied(job.features, node.features)


def alike(job: Job, nodes: Sequence[Node]) -> tuple[tuple[Node, ...], ...]:
    """Those of the hosts that fit, by type where all of the job's have to be of one: it gets the hosts of one of these.

    What is counted for a job is counted in each of them.
    """
    ways = [replace(job, features=each) for each in labels.alternatives(job.features)]
    return tuple(tuple(node for node in nodes if fits(way, node)) for way in ways)


def taken_by(
    hosts: Collection[str], partition: str, jobs: Sequence[Job], nodes: Sequence[Node], *, now_s: float
) -> str:
    """Why a job of that partition loses its hosts now, as far as Slurm says; empty where it does not. Pure.

    Slurm keeps nowhere whom a job had to give way to: told are those of a higher priority that wait for hosts such as
    these, or were given one of them just now.
    """
    own = [node for node in nodes if node.name in hosts]
    if away := [node for node in own if node.states & {"DOWN", "NOT_RESPONDING"}]:
        return _away(away)
    if leaving := [node.name for node in own if "DRAIN" in node.states and why_away(node).text == LEAVES_NOW]:
        return f"{_some(leaving)} {'leaves' if len(leaving) == 1 else 'leave'} the fleet"
    mine = _TIER.fullmatch(partition)
    if mine is None:
        return ""
    higher = [job for job in jobs if _tier(job) > int(mine[1]) and _has_come(job, own, now_s=now_s)]
    if not higher:
        return ""
    return f"{_some([label(job) for job in higher])} {_verb(higher, 'has', 'have')} a higher priority"


def _has_come(job: Job, own: Sequence[Node], *, now_s: float) -> bool:
    if job.waits:
        return job.reason == "Resources" and any(fits(job, node) for node in own)
    is_new = now_s - (job.starts_at_s or 0.0) < _JUST_NOW_S
    return is_new and not {node.name for node in own}.isdisjoint(expand(job.hosts))


@dataclass(frozen=True, kw_only=True)
class Told:
    """Why a host takes no job: what was said, by whom, and since when as Slurm writes it in UTC; empty if unknown."""

    text: str
    by: str = ""
    since: str = ""


def why_away(node: Node) -> Told:
    """The reason that Slurm keeps of a host, such as `Not responding [slurm@2026-11-22T06:46:17]`."""
    found = re.fullmatch(r"(.*?)\s*\[([^@\]]*)@([0-9T:-]+)\]", node.reason, re.DOTALL)
    return Told(text=found[1], by=found[2], since=found[3]) if found else Told(text=node.reason)


def power(node: Node) -> str:
    """How a host is that is off, or on its way there or back, such as `being started`; empty of any other."""
    if "DOWN" in node.states and failed_start(node):
        return ""
    return next((words for flag, words in _POWER.items() if flag in node.states), "")


def failed_start(node: Node) -> str:
    """Why a host that comes and goes was not started the last time, and when it is tried again; empty of any other."""
    found = _FAILED_START.fullmatch(why_away(node).text)
    return found[0] if found else ""


def _rank(job: Job) -> tuple[int, int, int]:
    tier = _TIER.fullmatch(job.partition)
    number = re.match(r"\d+", job.id)
    return -int(tier[1] if tier else 0), -job.priority, int(number[0]) if number else 0


def _demand(job: Job) -> _Demand:
    """All by which hosts fit a job or do not, and how many it wants."""
    return job.features, job.gpu_type, job.gpus_per_node, job.nodes


def _is_free(job: Job, node: Node) -> bool:
    spare = node.gpu_count - node.gpus_used
    is_cleared = "COMPLETING" not in node.states
    return node.takes_jobs and is_cleared and spare >= job.gpus_per_node and node.cpus_used < node.cpus


def _free(job: Job, fitting: Sequence[Node]) -> int:
    return max(sum(_is_free(job, node) for node in hosts) for hosts in alike(job, fitting))


def _enough(job: Job, nodes: Sequence[Node]) -> set[str]:
    """The names of those that could be the job's, of types of which there are as many as it wants."""
    return {node.name for hosts in alike(job, nodes) if len(hosts) >= job.nodes for node in hosts}


def _likeliest(job: Job, fitting: Sequence[Node]) -> tuple[Node, ...]:
    """All of the one type of which the job lacks the fewest: first hosts at all, then such as take jobs, then free."""

    def lacks(hosts: Sequence[Node]) -> tuple[int, ...]:
        there = [node for node in hosts if node.takes_jobs]
        return tuple(max(job.nodes - each, 0) for each in (len(hosts), len(there), _free(job, hosts)))

    return min(alike(job, fitting), key=lacks)


def _why(job: Job, *, fitting: Sequence[Node], ahead: Sequence[Job], holders: Sequence[Job]) -> str:
    wanted = f"it waits for {wants(job)}"
    there = [node for node in fitting if node.takes_jobs]
    if len(there) < job.nodes:
        away = [node for node in fitting if not node.takes_jobs]
        return f"{wanted}; {_count(len(there))} of {len(fitting)} can be had: {_away(away)}"
    free = _free(job, fitting)
    if free < job.nodes:
        have = "have" if free > 1 else "has"
        what = "them" if job.gpus_per_node > 1 else "it" if job.gpus_per_node else "a core"
        return f"{wanted}; {_count(free)} of {len(there)} {have} {what} free{_turn(job, holders)}"
    if ahead:
        return f"{wanted}, and it is not its turn yet"
    if job.reason == "Resources":
        return f"{wanted}; GPUs are free, and Slurm says that cores or memory are not"
    if job.reason in ("None", "Priority", ""):
        return "hosts are free: Slurm is about to start it"
    return f"{wanted}; Slurm says: {job.reason}"


def _turn(job: Job, holders: Sequence[Job]) -> str:
    """What is said of runs that have to give way to this one."""
    lower = [each for each in holders if _TIER.fullmatch(each.partition) and _tier(each) < _tier(job)]
    if not lower or not _TIER.fullmatch(job.partition):
        return ""
    return f"; {_some([label(each) for each in lower])} {_verb(lower, 'gives', 'give')} way to it: a lower priority"


def _tier(job: Job) -> int:
    found = _TIER.fullmatch(job.partition)
    return int(found[1]) if found else 0


def _verb(those: Sequence[Job], one: str, several: str) -> str:
    return one if len(those) == 1 else several


def _count(number: int) -> str:
    return str(number) if number else "none"


def _away(nodes: Sequence[Node]) -> str:
    return _some([f"{node.name} {_state(node)}" for node in nodes])


def _state(node: Node) -> str:
    told = why_away(node).text
    said = f" ({told})" if told and told != "Not responding" else ""
    if words := power(node):
        return f"is {words}" + (f" ({failed})" if (failed := failed_start(node)) else "")
    if "NOT_RESPONDING" in node.states and not failed_start(node):
        return f"does not respond{said}"
    if "DRAIN" in node.states:
        return f"is drained{said}"
    return f"is down{said}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _starts(job: Job) -> float | None:
    at_s = job.starts_at_s
    return None if at_s is None or at_s - job.submitted_at_s > _NO_ESTIMATE_S else at_s


def _held(job: Job) -> str:
    if job.reason in _HELD:
        return f"{_HELD[job.reason]}; it never starts until: scontrol release {job.id}"
    times = f", after {job.restarts} restart{'s' * (job.restarts > 1)}" if job.restarts else ""
    return f"Slurm holds it by itself ({job.reason or 'no reason given'}{times})"
