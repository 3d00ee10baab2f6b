"""The model of GPU that a gang wants and the hosts of a cluster -> what Slurm is to be asked for: pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import NoCapacity
from runner.gpus import Gpu, matches
from runner.slurm.labels import feature, of_gpu

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.place import Gang
    from runner.slurm.nodes import Node


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """`gres_type` is the one type of GPU that will do. Where several will, `features` has one for each of them."""

    gres_type: str | None = None
    features: tuple[str, ...] = ()


def chosen(gang: Gang, known: Sequence[Node]) -> Kinds:
    """The types of GPU for a gang, both empty where any will do.

    Raises NoCapacity where no host has the model now, where there are too few of any one type, or where several types
    have it and no host says which is its own.
    """
    if not gang.gpus_per_node or gang.gpu_model is None:
        return Kinds()
    labels = {feature(*each) for each in gang.labels}
    hosts = [node for node in known if labels <= set(node.features)]
    there = _matching(gang, hosts)
    if not there:
        raise _none(gang, known)
    least = gang.min_nodes or gang.nodes
    kinds = [kind for kind, number in there.items() if number >= least]
    if not kinds:
        raise _too_few(gang, there)
    if len(kinds) == 1:
        return Kinds(gres_type=kinds[0])
    carried = {kind: sum(of_gpu(kind) in node.features for node in hosts) for kind in kinds}
    marked = [kind for kind in kinds if carried[kind]]
    if not marked:
        raise _several(gang, kinds)
    # Asked for by its feature, a type has only the hosts that carry it.
    whole = [kind for kind in marked if carried[kind] >= least]
    if len(whole) > 1:
        return Kinds(features=tuple(of_gpu(kind) for kind in whole))
    return Kinds(gres_type=(whole or marked)[0])


def card(kind: str) -> Gpu:
    """A GPU of which only the type is known, as Slurm names it."""
    return Gpu(index=0, uuid="", model=kind.replace("_", " "), memory_bytes=0)


def wrong(gang: Gang, models: Iterable[str], kinds: Iterable[str]) -> str:
    """The first of the `models` that a host of these `kinds` gave and that is not the gang's, empty where all are.

    A cluster may name its types as it likes: what is called as the gang wants it is that. Models that NVML does not
    tell are empty.
    """
    given = list(kinds)
    if given and all(matches(card(kind), gang.gpu_model) for kind in given):
        return ""
    found = (Gpu(index=0, uuid="", model=model, memory_bytes=0) for model in models if model)
    return next((gpu.model for gpu in found if not matches(gpu, gang.gpu_model)), "")


def _matching(gang: Gang, hosts: Sequence[Node]) -> dict[str, int]:
    """On how many hosts each is; only that which is called by all of the wanted words and no others, where there is."""
    found = Counter(
        kind
        for node in hosts
        for kind, count in node.gpus.items()
        if count >= gang.gpus_per_node and matches(card(kind), gang.gpu_model)
    )
    asked = Gpu(index=0, uuid="", model=gang.gpu_model or "", memory_bytes=0)
    kinds = sorted(found)
    exact = [kind for kind in kinds if matches(asked, kind.replace("_", " "))]
    return {kind: found[kind] for kind in exact or kinds}


def _none(gang: Gang, known: Sequence[Node]) -> NoCapacity:
    there = ", ".join(sorted({kind for node in known for kind in node.gpus})) or "none"
    return NoCapacity(
        f"no host has {gang.gpus_per_node} GPUs of the model {gang.gpu_model} now; there are: {there}",
        tip="pushtrain runners, and again once such a host is there; or ask for another model in train.yml",
    )


def _too_few(gang: Gang, there: Mapping[str, int]) -> NoCapacity:
    least, most = gang.min_nodes or gang.nodes, max(there.values())
    found = ", ".join(f"{number} of {kind}" for kind, number in there.items())
    return NoCapacity(
        f"{least} hosts with {gang.gpus_per_node} GPUs of the model {gang.gpu_model} each, all of one type, "
        f"are wanted, and there are: {found}",
        tip=f"set resources.nodes in train.yml to {most} at most, or: pushtrain runners",
    )


def _several(gang: Gang, kinds: Sequence[str]) -> NoCapacity:
    return NoCapacity(
        f"the model {gang.gpu_model} may be any of {', '.join(kinds)}, and Slurm can be asked for one type alone where "
        "hosts do not carry theirs as a feature",
        tip=f"ask for one under resources.gpu in train.yml, or give hosts the feature of theirs: {of_gpu(kinds[0])}, …",
    )
