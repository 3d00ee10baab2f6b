"""A host as Slurm and its agent know it -> how it is, in plain words, and what to do: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.fleet import cluster, versions
from runner.slurm.waiting import failed_start, power, why_away

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.fleet.scrape import Answer, Card
    from runner.slurm import Job, Node

# Begins the reason of a drain that the host's health check undoes.
_BY_ITSELF = "pushtrain: "
# What Slurm writes as the reason of a host that is down, and what a person does then.
_CURES = (
    ("Not responding", "is it on, and reachable? there: pushtrain agent status"),
    ("unexpectedly rebooted", "it rebooted by itself: {resume}"),
    ("count reported lower than configured", "it has fewer GPUs than before; there: pushtrain agent start"),
    ("Low RealMemory", "it has less memory than before; there: pushtrain agent start"),
    ("Low socket", "it has fewer cores than before; there: pushtrain agent start"),
    ("Kill task failed", "a process there could not be ended; then: {resume}"),
)


# Its own words could be anybody's.
_SETTINGS = "another store or registry than the head; there: pushtrain agent status says the cure"


def cards(node: Node, answer: Answer) -> tuple[Card, ...]:
    """The GPUs that a host offers to the fleet: those that Slurm counts, and of such a host what is lost or ill."""
    return tuple(
        card for card in answer.cards if card.slot is not None or (card.fault and node.gpu_count > 0)
    )


def state(node: Node, jobs: Sequence[Job], answer: Answer | None = None) -> str:
    """One line such as `busy, 3 of 8 GPUs`; `jobs` are those that run there, `answer` is its agent's."""
    words = [_by_slurm(node, jobs), *filter(None, (_skew(node),))]
    if answer is not None:
        words += (card.fault for card in cards(node, answer) if card.fault)
        words += [f"{', '.join(answer.daemons_down)} does not run there"] if answer.daemons_down else []
        words += [f"its agent: {answer.trouble}"] if answer.trouble and not _is_silent(node) else []
    return "; ".join(words)


def is_well(node: Node, answer: Answer | None = None) -> bool:
    """Whether nobody has to do anything."""
    told = answer is None or not (
        answer.trouble or answer.daemons_down or any(c.fault for c in cards(node, answer))
    )
    if failed_start(node) and not node.takes_jobs:
        return False
    return bool(power(node)) or (node.takes_jobs and told and not _skew(node))


def _skew(node: Node) -> str:
    head = cluster.head_versions(node)
    here = versions.Versions(pushtrain=cluster.version(node), slurm=node.version)
    told = versions.told(here, head, where="there") if head else ""
    return "; ".join(filter(None, (told, _SETTINGS if cluster.about(node).get("settings") is False else "")))


def _by_slurm(node: Node, jobs: Sequence[Job]) -> str:
    if words := power(node):
        needed = "; started when a run needs it" if words == "switched off" else ""
        return "; ".join(filter(None, (words + needed, failed_start(node))))
    said = why_away(node)
    since = f" since {said.since.replace('T', ' ')} UTC" if said.since else ""
    if "DOWN" in node.states:
        cure = "" if failed_start(node) else f"; {_cure(node, said.text)}"
        return f"down{since}: {said.text or 'no reason given'}{cure}"
    if _is_silent(node):
        return f"not responding{since}; {_cure(node, 'Not responding')}"
    if "INVAL" in node.states or "INVALID_REG" in node.states:
        return f"refused: {said.text or 'it registered with less than it has'}; there: pushtrain agent start"
    if node.states & {"DRAIN", "FAIL", "FAILING"}:
        return _drained(node, jobs, since)
    if node.states & {"MAINT", "MAINTENANCE"}:
        return "kept for maintenance"
    return _busy(node, jobs)


def _drained(node: Node, jobs: Sequence[Job], since: str) -> str:
    said = why_away(node).text
    why = f": {said}" if said else ""
    if jobs:
        return f"draining{why}"
    if said.startswith(_BY_ITSELF) and cluster.version(node):
        return f"drained{since}{why}; it is resumed by itself when that is over"
    return f"drained{since}{why}; when done: {_resume(node)}"


def _busy(node: Node, jobs: Sequence[Job]) -> str:
    if "COMPLETING" in node.states:
        return "clearing up after a run"
    if node.gpus_used:
        return f"busy, {node.gpus_used} of {node.gpu_count} GPUs"
    if jobs or node.cpus_used:
        return f"busy, {node.cpus_used} of {node.cpus} cores"
    return "idle"


def _is_silent(node: Node) -> bool:
    return "NOT_RESPONDING" in node.states


def _cure(node: Node, reason: str) -> str:
    cure = next((cure for words, cure in _CURES if words in reason), "when it is mended: {resume}")
    cure = cure.format(resume=_resume(node))
    if {"DOWN", "NOT_RESPONDING"} <= node.states and "CLOUD" not in node.states and cluster.version(node):
        cure += f"; gone for good: pushtrain agent leave {node.name}"
    return cure


def _resume(node: Node) -> str:
    if cluster.version(node):
        return f"pushtrain agent resume {node.name}"
    return f"scontrol update nodename={node.name} state=resume"
