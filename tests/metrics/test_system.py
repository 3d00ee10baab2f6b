"""System metrics of GPUs: named as MLflow does, means over a time that grows, so that a week's run stays small."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from runner.metrics import Point, Series, decode, encode
from runner.metrics.system import Seen, Thinned, by_gpu, mean, spread

NAME = "system/gpu_0_utilization_percentage"
LOOK_S = 10.0
WEEK_S = 7 * 86_400


def looked(
    thinned: Thinned, uuids: tuple[str, ...], *, lasts_s: int, begins_s: float = 1000.0
) -> list[Point]:
    points: list[Point] = []
    seen = {uuid: Seen(busy=0.5, memory=0.25) for uuid in uuids}
    for number in range(int(lasts_s / LOOK_S)):
        points += thinned.add(seen, time_s=begins_s + number * LOOK_S)
    return [*points, *thinned.rest()]


def test_a_short_run_keeps_every_look_in_percent() -> None:
    points = looked(Thinned(("a",), node=None, nodes=1), ("a",), lasts_s=60)
    assert {point.name for point in points} == {
        "system/gpu_0_utilization_percentage",
        "system/gpu_0_memory_usage_percentage",
    }
    assert [point.step for point in points if "memory" in point.name] == [0, 10, 20, 30, 40, 50]
    assert {point.value for point in points} == {50.0, 25.0}


@pytest.mark.parametrize("count", [1, 8, 64])
def test_a_run_of_a_week_is_kept_within_three_megabytes(count: int) -> None:
    uuids = tuple(f"gpu-{number}" for number in range(count))
    points = looked(Thinned(uuids, node=None, nodes=1), uuids, lasts_s=WEEK_S)
    assert len(encode(points)) < 3 * 2**20
    steps = sorted({point.step for point in points})
    assert steps[-1] >= WEEK_S - 2 * LOOK_S
    assert max(after - before for before, after in pairwise(steps)) < WEEK_S / 20


def test_what_lies_between_two_points_counts_as_well() -> None:
    thinned = Thinned(("a",), node=None, nodes=1500)
    thinned.add({"a": Seen(busy=0.0, memory=None)}, time_s=0.0)
    assert thinned.add({"a": Seen(busy=1.0, memory=None)}, time_s=0.0)[0].value == 100.0
    assert thinned.rest() == ()


def test_gpus_that_do_not_tell_and_strangers_have_no_points() -> None:
    thinned = Thinned(("a",), node=3, nodes=4)
    points = thinned.add({"a": Seen(busy=None, memory=0.5), "b": Seen(busy=1.0, memory=1.0)}, time_s=5.0)
    assert [point.name for point in points] == ["system/node-3/gpu_0_memory_usage_percentage"]


def test_attempts_and_nodes_are_put_together_by_the_time() -> None:
    first = looked(Thinned(("a",), node=0, nodes=2), ("a",), lasts_s=20, begins_s=1000.0)
    other = looked(Thinned(("b",), node=1, nodes=2), ("b",), lasts_s=20, begins_s=1003.0)
    again = looked(Thinned(("c",), node=0, nodes=2), ("c",), lasts_s=10, begins_s=1500.0)
    stranger = [Point(name="loss", step=1, value=1, time_s=1)]
    zero, one = by_gpu(decode(encode(stream)) for stream in (again, first, other, stranger))
    assert (zero.node, zero.gpu, one.node, one.gpu) == (0, 0, 1, 0)
    assert zero.busy is not None
    assert one.memory is not None
    assert zero.busy.steps == (999, 1009, 1499)
    assert (set(zero.begins), set(one.begins)) == ({999, 1499}, {1002})
    assert one.memory.values == (25.0, 25.0)


def test_a_mean_is_over_the_time() -> None:
    assert mean(Series(name="a", steps=(0, 10, 110), values=(0.0, 0.0, 60.0))) == 50.0
    assert mean(Series(name="a", steps=(7,), values=(3.0,))) == 3.0


def test_the_wait_between_two_attempts_counts_for_nothing() -> None:
    first = [Point(name=NAME, step=step, value=100.0, time_s=step) for step in range(0, 3600, 10)]
    waited_s = 10 * 3600
    again = [replace(point, value=min(100.0, point.step), time_s=waited_s + point.time_s) for point in first]
    (gpu,) = by_gpu([again, first])
    assert gpu.busy is not None
    assert mean(gpu.busy, begins=gpu.begins) > 98
    drawn = spread(gpu.busy, begins=gpu.begins, first=0, last=gpu.busy.steps[-1], count=12)
    assert [value is None for value in drawn] == [False, False, *[True] * 8, False, False]


def test_a_spread_is_by_the_time_though_points_lie_farther_apart() -> None:
    told = Series(name="a", steps=(0, 10, 20, 60), values=(0.0, 0.0, 0.0, 100.0))
    assert spread(told, first=0, last=60, count=4) == (0.0, 0.0, 100.0, 100.0)
    assert list(spread(told, first=0, last=60, count=2)) == pytest.approx([0.0, 200 / 3])
