"""How busy a run's GPUs are, asked for again and again while it goes on."""

from __future__ import annotations

from runner import collect, runs
from runner.metrics import Point, encode
from runner.store import Store

RUN = "20260101-000000-aaaa"


def looked(store: Store, *values: float, attempt: int, offset: int = 0) -> int:
    """Add a look every ten seconds to the stream of an attempt; returns where it ends."""
    name, began_s = "system/gpu_0_utilization_percentage", 1000.0 * attempt + offset
    data = encode(
        Point(name=name, step=10 * number, value=value, time_s=began_s + 10 * number)
        for number, value in enumerate(values)
    )
    store.append(runs.system_key(RUN, attempt=attempt, node=0), data, offset=offset)
    return offset + len(data)


def test_what_was_read_is_not_read_again(store: Store) -> None:
    key = runs.system_key(RUN, attempt=1, node=0)
    so_far = collect.GpusSoFar(store, RUN)
    assert so_far.read() == ()
    end = looked(store, 10.0, 20.0, attempt=1)
    (gpu,) = so_far.read()
    assert gpu.busy is not None
    assert gpu.busy.values == (10.0, 20.0)

    looked(store, 30.0, attempt=1, offset=end)
    looked(store, 40.0, attempt=2)
    (gpu,) = so_far.read()
    assert gpu.busy is not None
    assert gpu.busy.values == (10.0, 20.0, 30.0, 40.0)
    assert (gpu,) == collect.gpus(store, RUN)
    assert len(gpu.begins) == 2

    store.delete(key)
    store.append(key, b"x" * end, offset=0)
    assert so_far.read() == (gpu,)
