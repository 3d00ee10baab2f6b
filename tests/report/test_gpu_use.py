"""What a report tells of a run's GPUs."""

from __future__ import annotations

import pytest

from runner.metrics import Series
from runner.metrics.system import GpuSeries
from runner.report import comment, gpu_use
from tests.report import samples


def gpu(number: int, *busy: float, node: int = 0) -> GpuSeries:
    steps = tuple(range(len(busy)))
    told = Series(name="busy", steps=steps, values=busy) if busy else None
    memory = Series(name="memory", steps=(0,), values=(62.0,))
    return GpuSeries(node=node, gpu=number, busy=told, memory=memory)


def test_each_of_a_few_gpus_has_a_line_between_nothing_and_all() -> None:
    assert list(gpu_use.lines([gpu(0, 0.0, 50.0, 100.0)])) == ["GPU 0   50% busy  ▁▅█  memory 62% at most"]
    assert list(gpu_use.lines([gpu(0), gpu(0, 90.0, node=1)])) == [
        "node 0 GPU 0  memory 62% at most",
        "node 1 GPU 0   90% busy  memory 62% at most",
    ]
    assert list(gpu_use.lines([])) == []


def test_of_many_gpus_those_are_shown_that_had_least_to_do() -> None:
    first, *rest = gpu_use.lines([gpu(number, 100.0 - number) for number in range(20)])
    assert first == "GPUs 90% busy, the least 81%; those with least to do:"
    assert [line.split()[1] for line in rest] == ["19", "18", "17", "16", "15", "14", "13", "12"]


def test_the_curve_is_the_mean_of_all_at_each_moment() -> None:
    curve = gpu_use.curve([gpu(0, 80.0, 100.0), gpu(1, 40.0), gpu(2)])
    assert curve is not None
    assert (curve.steps, curve.values) == ((0, 1), (60.0, 100.0))
    assert gpu_use.curve([gpu(0)]) is None


def test_the_comment_tells_how_busy_they_were_and_draws_it() -> None:
    run = samples.SAMPLES["succeeded"]().run
    said = comment.body(samples.facts(run, gpus=(gpu(0, 80.0, 90.0), gpu(1, 10.0, 20.0))))
    assert "GPUs 50% busy, the least 15%" in said
    assert 'title "GPUs busy in percent, by seconds"' in said


def test_nodes_that_are_looked_at_in_turns_have_one_curve() -> None:
    number = 12

    def seen(node: int, value: float) -> GpuSeries:
        steps = tuple(10 * each + 4 * node for each in range(number))
        return GpuSeries(node=node, gpu=0, busy=Series(name="busy", steps=steps, values=(value,) * number))

    curve = gpu_use.curve([seen(0, 100.0), seen(1, 0.0)])
    assert curve is not None
    assert curve.values == pytest.approx((50.0,) * number)
    assert (curve.steps[0], curve.steps[-1]) == (0, 114)


def test_a_line_is_blank_while_a_run_waits_for_its_next_attempt() -> None:
    busy = Series(name="busy", steps=(0, 10, 90, 100), values=(100.0, 100.0, 0.0, 100.0))
    (line,) = gpu_use.lines([GpuSeries(node=0, gpu=0, busy=busy, begins=frozenset({0, 90}))])
    assert line == "GPU 0   75% busy  ██ ▅"
