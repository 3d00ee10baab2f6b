"""What a report tells of a run's GPUs."""

from __future__ import annotations

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
