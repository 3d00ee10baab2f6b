"""A gang gets a slot for every node, or none."""

from __future__ import annotations

import json
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import NoCapacity
from runner.gpus import Gpu
from runner.place import Gang, Host, Reservation, Slot, fits, place

GIB = 2**30
H100, V100 = "NVIDIA H100 80GB HBM3", "Tesla V100-SXM2-16GB"


def host(name: str, gpus: int = 0, *, model: str = H100, cpus: float = 8, memory_gib: int = 64) -> Host:
    cards = (Gpu(index=i, uuid=f"{name}-{i}", model=model, memory_bytes=GIB) for i in range(gpus))
    return Host(name=name, address=f"{name}.lab", cpus=cpus, memory_bytes=memory_gib * GIB, gpus=tuple(cards))


gangs = st.builds(
    Gang,
    nodes=st.integers(1, 6),
    processes_per_node=st.integers(1, 4),
    gpus_per_node=st.integers(0, 5),
    gpu_model=st.sampled_from([None, "H100", "v100"]),
    cpus=st.sampled_from([None, 0.5, 3, 8]),
    memory_bytes=st.sampled_from([None, GIB, 40 * GIB]),
)
fleets = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([H100, V100]), st.integers(1, 32), st.integers(1, 128)),
    max_size=5,
).map(
    lambda shapes: tuple(
        host(f"host-{i}", gpus, model=model, cpus=cpus, memory_gib=memory)
        for i, (gpus, model, cpus, memory) in enumerate(shapes)
    )
)
shares = st.sampled_from([None, 1, 2])


def placed(gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None) -> tuple[Slot, ...]:
    try:
        return place(gang, hosts, nodes_per_host=nodes_per_host).slots
    except NoCapacity:
        return ()


@given(gang=gangs, hosts=fleets, nodes_per_host=shares)
def test_every_node_has_a_slot_or_none_has(
    gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None
) -> None:
    slots = placed(gang, hosts, nodes_per_host)
    possible = fits(gang, hosts, nodes_per_host=nodes_per_host)
    assert [slot.node_rank for slot in slots] == (list(range(gang.nodes)) if possible else [])


@given(gang=gangs, hosts=fleets, nodes_per_host=shares)
def test_no_gpu_is_given_twice_and_each_is_of_its_host_and_model(
    gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None
) -> None:
    slots = placed(gang, hosts, nodes_per_host)
    given_out = [uuid for slot in slots for uuid in slot.gpus]
    assert len(set(given_out)) == len(given_out) == gang.gpus_per_node * len(slots)
    of = {gpu.uuid: (host.name, gpu.model) for host in hosts for gpu in host.gpus}
    for slot in slots:
        assert all(of[uuid][0] == slot.host for uuid in slot.gpus)
        assert all((gang.gpu_model or "").lower() in of[uuid][1].lower() for uuid in slot.gpus)


@given(gang=gangs, hosts=fleets, nodes_per_host=shares)
def test_no_host_carries_more_than_it_has(
    gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None
) -> None:
    slots = placed(gang, hosts, nodes_per_host)
    for one in hosts:
        nodes = sum(slot.host == one.name for slot in slots)
        assert nodes <= (nodes_per_host or gang.nodes)
        assert nodes * (gang.cpus or 0) <= one.cpus
        assert nodes * (gang.memory_bytes or 0) <= one.memory_bytes


@given(gang=gangs, hosts=fleets, nodes_per_host=shares)
def test_the_ranks_of_a_host_follow_each_other(
    gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None
) -> None:
    names = [name for name, _ in groupby(slot.host for slot in placed(gang, hosts, nodes_per_host))]
    assert len(names) == len(set(names))


@given(gang=gangs, hosts=fleets, nodes_per_host=shares, order=st.randoms())
def test_the_order_of_the_hosts_does_not_matter(
    gang: Gang, hosts: tuple[Host, ...], nodes_per_host: int | None, order: object
) -> None:
    shuffled = list(hosts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert placed(gang, tuple(shuffled), nodes_per_host) == placed(gang, hosts, nodes_per_host)


@given(gang=gangs, hosts=fleets)
def test_a_reservation_survives_json(gang: Gang, hosts: tuple[Host, ...]) -> None:
    reservation = Reservation(slots=placed(gang, hosts, None))
    assert Reservation.from_json(json.loads(json.dumps(reservation.to_json()))) == reservation


def test_a_reservation_with_a_field_of_another_kind_is_refused() -> None:
    slot = {"node_rank": 0, "host": "a", "address": "a", "gpus": [], "ports": ["x"]}
    with pytest.raises(ValueError, match="ports"):
        Reservation.from_json({"slots": [slot]})


def test_one_machine_plays_all_nodes() -> None:
    slots = place(Gang(nodes=2, gpus_per_node=2), (host("a", 5),), nodes_per_host=None).slots
    assert [(slot.host, slot.address, slot.gpus) for slot in slots] == [
        ("a", "a.lab", ("a-0", "a-1")),
        ("a", "a.lab", ("a-2", "a-3")),
    ]


def test_as_few_hosts_as_possible_are_used_and_large_ones_are_spared() -> None:
    hosts = (host("big", 8), host("fit", 4), host("small", 2))
    assert [s.host for s in place(Gang(nodes=2, gpus_per_node=2), hosts, nodes_per_host=None).slots] == [
        "fit",
        "fit",
    ]


@pytest.mark.parametrize(
    ("gang", "hosts", "message", "tip"),
    [
        (
            Gang(nodes=1, gpus_per_node=8, gpu_model="H100"),
            (host("laptop", cpus=2, memory_gib=16),),
            (
                "1 node was asked for, with 8 H100 GPUs, and there is room for none: "
                "laptop has no GPU, 2 CPUs and 16 GiB"
            ),
            "lower resources.gpu in train.yml, or run it on a machine that has it",
        ),
        (
            Gang(nodes=2, gpus_per_node=1, gpu_model="H100", cpus=1),
            (host("a", 2, model=V100),),
            (
                "2 nodes were asked for, each with 1 H100 GPU and 1 CPU, and there is room for none: "
                "a has 2 Tesla V100-SXM2-16GB, 8 CPUs and 64 GiB"
            ),
            "ask for a model there is under resources.gpu in train.yml: Tesla V100-SXM2-16GB",
        ),
        (
            Gang(nodes=1, memory_bytes=65 * GIB),
            (host("a", cpus=1),),
            (
                "1 node was asked for, with 65 GiB of memory, and there is room for none: "
                "a has no GPU, 1 CPU and 64 GiB"
            ),
            "lower resources.memory in train.yml, or run it on a machine that has it",
        ),
        (
            Gang(nodes=1, cpus=16),
            (host("a"),),
            "1 node was asked for, with 16 CPUs, and there is room for none: a has no GPU, 8 CPUs and 64 GiB",
            "lower resources.cpu in train.yml, or run it on a machine that has it",
        ),
        (
            Gang(nodes=3),
            (),
            (
                "3 nodes were asked for, each with a host of its own, and there is room for none: "
                "there are no hosts"
            ),
            "lower what resources asks for in train.yml, or run it on a larger machine",
        ),
    ],
)
def test_where_there_is_no_room_the_error_says_what_was_asked_what_there_is_and_what_to_change(
    gang: Gang, hosts: tuple[Host, ...], message: str, tip: str
) -> None:
    with pytest.raises(NoCapacity) as caught:
        place(gang, hosts, nodes_per_host=None)
    assert str(caught.value) == message
    assert caught.value.tip == tip


def test_too_many_nodes_for_the_hosts_says_how_many_would_fit() -> None:
    with pytest.raises(NoCapacity) as caught:
        place(Gang(nodes=3, gpus_per_node=1), (host("a", 1), host("b", 1)), nodes_per_host=1)
    assert "there is room for 2: a has 1 NVIDIA H100 80GB HBM3" in str(caught.value)
    assert (
        caught.value.tip
        == "set resources.nodes in train.yml to 2 at most, or run it on a machine with room for more"
    )
