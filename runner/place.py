"""Gang + hosts -> Reservation: a slot for every node, or none at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace

from runner.errors import NoCapacity
from runner.gpus import Gpu, matches
from runner.quantities import format_size


@dataclass(frozen=True, kw_only=True)
class Gang:
    """What a run wants at the same moment: `nodes` times the GPUs, CPUs and memory of one node.

    None wants nothing in particular: any model of GPU, any number of CPUs, any memory. An elastic gang starts with as
    few as `min_nodes`; None is as many as `nodes`.
    """

    nodes: int
    min_nodes: int | None = None
    processes_per_node: int = 1
    gpus_per_node: int = 0
    gpu_model: str | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine and what of it may be used now: leave out the GPUs that others hold."""

    name: str
    address: str
    cpus: float
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The place of one node: a host, and the UUIDs of the GPUs that are its own, in the order of the host.

    `address` is where the other nodes reach it, `cpus` how many the host has, for all nodes on it together. `ports` are
    free on every address of the node, as many as its processes and one more; empty until the hosts were asked.
    `home` is where the host keeps its things, empty where that is as on the supervisor's. `ip` is its address as a
    number, `interface` the network interface that has it and `network` its network, such as 10.7.0.0/16; they are empty
    where all nodes are on one machine.
    """

    node_rank: int
    host: str
    address: str
    gpus: tuple[str, ...] = ()
    cpus: float = 0.0
    ports: tuple[int, ...] = ()
    home: str = ""
    ip: str = ""
    interface: str = ""
    network: str = ""


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A slot for every node, by node rank from 0; the ranks of one host follow each other.

    `interface` is the network interface by which the nodes reach each other, where a slot names no other.
    """

    slots: tuple[Slot, ...]
    interface: str = "lo"

    @property
    def hostnames(self) -> tuple[str, ...]:
        """What the nodes are called: `node-0`, `node-1`, …, of equal length so that they sort."""
        digits = len(str(len(self.slots) - 1))
        return tuple(f"node-{slot.node_rank:0{digits}d}" for slot in self.slots)

    @property
    def interfaces(self) -> str:
        """By which interface, or where hosts call theirs differently networks, the nodes reach each other."""
        if len({slot.interface for slot in self.slots}) == 1:
            return self.slots[0].interface or self.interface
        return ",".join(sorted({slot.network for slot in self.slots}))

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` reads, made of what JSON has."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Reservation:
        """Return the reservation that `to_json` gave; raises msgspec's ValidationError, a ValueError."""
        from runner import decoding

        return decoding.from_objects(value, cls)


def place(gang: Gang, hosts: tuple[Host, ...], *, nodes_per_host: int | None) -> Reservation:
    """Return a slot for every node of the gang; the same input always gives the same slots.

    Fills as few hosts as it can, and of equal hosts those with the fewest GPUs to spare. At most
    `nodes_per_host` nodes share a host; None lets one machine play all of them, as far as it reaches.
    Raises NoCapacity, with what was asked for and what there is, unless every node has a place.
    """
    slots: list[Slot] = []
    for host in sorted(hosts, key=lambda host: _preference(gang, host, nodes_per_host)):
        usable = [gpu.uuid for gpu in host.gpus if matches(gpu, gang.gpu_model)]
        for number in range(min(_room(gang, host, nodes_per_host), gang.nodes - len(slots))):
            first = number * gang.gpus_per_node
            slots.append(
                Slot(
                    node_rank=len(slots),
                    host=host.name,
                    address=host.address,
                    gpus=tuple(usable[first : first + gang.gpus_per_node]),
                    cpus=host.cpus,
                )
            )
    if len(slots) < gang.nodes:
        raise _no_capacity(gang, hosts, nodes_per_host)
    return Reservation(slots=tuple(slots))


def fits(gang: Gang, hosts: tuple[Host, ...], *, nodes_per_host: int | None = None) -> bool:
    """Return whether `place` would succeed: asked with every GPU of the hosts, whether it can ever run."""
    room = sum(_room(gang, host, nodes_per_host) for host in hosts)
    return room >= (gang.min_nodes or gang.nodes)


def shrunk(gang: Gang, hosts: tuple[Host, ...], *, nodes_per_host: int | None = None) -> Gang:
    """The gang with as many nodes as have a place now, never fewer than it can do with."""
    room = sum(_room(gang, host, nodes_per_host) for host in hosts)
    return replace(gang, nodes=max(min(room, gang.nodes), gang.min_nodes or gang.nodes))


def _preference(gang: Gang, host: Host, nodes_per_host: int | None) -> tuple[int, int, str]:
    room = min(_room(gang, host, nodes_per_host), gang.nodes)
    return -room, len(host.gpus) - room * gang.gpus_per_node, host.name


def _room(gang: Gang, host: Host, nodes_per_host: int | None) -> int:
    """Return how many nodes of the gang the host can take."""
    limits = [gang.nodes if nodes_per_host is None else nodes_per_host]
    if gang.gpus_per_node:
        usable = sum(matches(gpu, gang.gpu_model) for gpu in host.gpus)
        limits.append(usable // gang.gpus_per_node)
    if gang.cpus:
        limits.append(int(host.cpus / gang.cpus))
    if gang.memory_bytes:
        limits.append(host.memory_bytes // gang.memory_bytes)
    return min(limits)


def _no_capacity(gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None) -> NoCapacity:
    asked = (
        f"{gang.nodes} nodes were asked for, each with" if gang.nodes > 1 else "1 node was asked for, with"
    )
    room = sum(_room(gang, host, nodes_per_host) for host in hosts)
    there_is = "; ".join(_described(host) for host in sorted(hosts, key=lambda host: host.name))
    return NoCapacity(
        f"{asked} {_wish(gang)}, and there is room for {room or 'none'}: {there_is or 'there are no hosts'}",
        tip=_tip(gang, hosts, nodes_per_host),
    )


def _wish(gang: Gang) -> str:
    model = f"{gang.gpu_model} " if gang.gpu_model else ""
    wishes = [
        f"{gang.gpus_per_node} {model}GPU{_s(gang.gpus_per_node)}" if gang.gpus_per_node else "",
        f"{gang.cpus:g} CPU{_s(gang.cpus)}" if gang.cpus else "",
        f"{format_size(gang.memory_bytes)} of memory" if gang.memory_bytes else "",
    ]
    return _listed([wish for wish in wishes if wish] or ["a host of its own"])


def _described(host: Host) -> str:
    models = Counter(gpu.model for gpu in host.gpus)
    gpus = [f"{count} {model}" for model, count in models.items()] or ["no GPU"]
    cpus = f"{host.cpus:g} CPU{_s(host.cpus)}"
    return f"{host.name} has {_listed([*gpus, cpus, format_size(host.memory_bytes)])}"


def _tip(gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None) -> str:
    """Return which one wish of the gang, if given up, would let it run."""
    if any(host.gpus for host in hosts) and fits(
        replace(gang, gpu_model=None), hosts, nodes_per_host=nodes_per_host
    ):
        models = sorted({gpu.model for host in hosts for gpu in host.gpus})
        return f"ask for a model there is under resources.gpu in train.yml: {_listed(models)}"
    given_up = {
        "resources.gpu": replace(gang, gpus_per_node=0),
        "resources.cpu": replace(gang, cpus=None),
        "resources.memory": replace(gang, memory_bytes=None),
    }
    for key, smaller in given_up.items():
        if fits(smaller, hosts, nodes_per_host=nodes_per_host):
            return f"lower {key} in train.yml, or run it on a machine that has it"
    if room := sum(_room(gang, host, nodes_per_host) for host in hosts):
        return (
            f"set resources.nodes in train.yml to {room} at most, or run it on a machine with room for more"
        )
    return "lower what resources asks for in train.yml, or run it on a larger machine"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _s(count: float) -> str:
    return "" if count == 1 else "s"
