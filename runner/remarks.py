"""Spec -> what whoever asked for the run should know of its train.yml: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import placeholders

if TYPE_CHECKING:
    from runner.spec import Spec


def unused(spec: Spec, *, by_hand: bool, fleet: bool) -> tuple[str, ...]:
    """What train.yml asks for and this run has no use for; a `fleet` has a queue of its own."""
    notes = []
    if spec.concurrency is not None and by_hand:
        notes.append("concurrency: has no effect on a run by hand")
    if spec.resources.nodes.min != spec.resources.nodes.max and spec.distribution.type != "torch":
        notes.append(
            f"resources.nodes: all {spec.resources.nodes.max} are taken; a range is for `distribution: torch`"
        )
    if not fleet and spec.policy.priority != type(spec.policy)().priority:
        notes.append("policy.priority: has no effect on one machine; it is for the engine slurm")
    return tuple(notes)


def exposed(spec: Spec) -> tuple[str, ...]:
    """Secrets that the command line would show to everybody on the host."""
    if spec.run is None or not any(
        isinstance(part, placeholders.Reference) and part.kind == "secrets"
        for part in placeholders.parse(spec.run)
    ):
        return ()
    return (
        "run: a secret in it is seen in the host's process list; let the script read the variable instead",
    )
