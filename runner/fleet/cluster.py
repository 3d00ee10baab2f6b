"""This machine -> the fleet it is of: its hosts, its jobs, and what its agents say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner import slurm
from runner.errors import EngineError
from runner.fleet import scrape, versions
from runner.slurm.allocated import allocated
from runner.slurm.trouble import no_cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.fleet.scrape import Answer
    from runner.fleet.versions import Versions
    from runner.slurm import Job, Node

PATIENCE_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All that is known at one moment. `answers` are the agents', by host; `given` tells a GPU's job by host and slot.

    `note` says why agents were not asked, empty where they were.
    """

    nodes: tuple[Node, ...]
    jobs: tuple[Job, ...]
    answers: Mapping[str, Answer] = field(default_factory=dict)
    given: Mapping[tuple[str, int], str] = field(default_factory=dict)
    note: str = ""


def find() -> slurm.Slurm | None:
    """The cluster of this machine, None where it is of none. Raises EngineError where there is one that is silent."""
    try:
        # Whoever looks at a screen would rather hear soon that the head is away.
        found = replace(slurm.find(), patience_s=PATIENCE_S)
        found.run("scontrol", "show", "config")
    except EngineError as error:
        if no_cluster(error):
            return None
        raise
    return found


def look(cluster: slurm.Slurm, *, token: str | None, within_s: float = scrape.ANSWERS_WITHIN_S) -> Fleet:
    """Ask Slurm, then all agents side by side; without the `token` Slurm alone. Raises EngineError."""
    nodes = tuple(node for node in slurm.nodes(cluster) if "FUTURE" not in node.states)
    agents = {node.name: place for node in nodes if (place := agent_of(node)) and _is_up(node)}
    answers = scrape.ask(agents, token=token, within_s=within_s) if token else {}
    return Fleet(
        nodes=nodes,
        jobs=slurm.jobs(cluster),
        answers=answers,
        given=allocated(cluster),
        note="" if token or not agents else "only root may ask the agents of hosts: sudo pushtrain …",
    )


def agent_of(node: Node) -> tuple[str, int] | None:
    """Where the agent of a host answers, as it told Slurm; None where none ever did."""
    port = about(node).get("metrics")
    return (node.address or node.name, port) if isinstance(port, int) and port > 0 else None


def version(node: Node) -> str:
    """The version of the agent of a host, empty where it has none."""
    return str(about(node).get("pushtrain") or "")


def head_versions(node: Node) -> Versions | None:
    """What the head has, where the agent of a host says that it is not what the host has."""
    return versions.read(about(node).get("head"))


def about(node: Node) -> dict[str, object]:
    """What the agent of a host says of itself, {} where there is none."""
    try:
        said = json.loads(node.comment)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _is_up(node: Node) -> bool:
    return not node.states & {"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP"}
