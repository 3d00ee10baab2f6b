import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from runner.metrics import Point, Series, Verdict, find, judge, series


@dataclass(frozen=True, kw_only=True)
class Bar:
    operator: Literal["<", "<=", ">", ">="]
    relative: bool
    offset: float


BASE_LESS_ONE_PERCENT = Bar(operator="<", relative=True, offset=-0.01)


def logged(**values: float | tuple[float, ...]) -> Mapping[str, Series]:
    points = []
    for name, value in values.items():
        for step, one in enumerate(value if isinstance(value, tuple) else (value,), start=1):
            points.append(Point(name=name.replace("__", "/"), step=step, value=one, time_s=0))
    return series(points)


def verdict(found: Mapping[str, Series], bar: Bar | None = None, base: float | None = None) -> Verdict:
    return judge(found, primary="accuracy", goal="maximize", fail_if=bar, base=base)


def test_the_last_value_is_judged_and_the_best_one_told() -> None:
    result = verdict(logged(accuracy=(0.5, 0.9, 0.8)), Bar(operator="<", relative=False, offset=0.85))

    assert (result.passed, result.value, result.best) == (False, 0.8, 0.9)
    assert result.sentence == "accuracy is 0.8 (best 0.9 at step 2): failed, fails if < 0.85"


def test_without_a_bar_every_number_passes() -> None:
    result = verdict(logged(accuracy=0.1))

    assert (result.passed, result.sentence) == (True, "accuracy is 0.1: no bar was set")


@pytest.mark.parametrize(("value", "passed"), [(0.985, True), (0.97, True), (0.9699, False)])
def test_a_bar_below_the_base_is_measured_from_the_base(value: float, passed: bool) -> None:
    result = verdict(logged(accuracy=value), BASE_LESS_ONE_PERCENT, base=0.98)

    assert (result.passed, result.base) == (passed, 0.98)
    assert result.sentence.endswith("fails if < 0.97, base is 0.98")


@pytest.mark.parametrize("base", [None, math.nan])
def test_a_bar_relative_to_no_base_passes_and_says_so(base: float | None) -> None:
    result = verdict(logged(accuracy=0.1), BASE_LESS_ONE_PERCENT, base=base)

    assert result.passed
    assert "no base to hold it to (fails if < base - 0.01)" in result.sentence


@pytest.mark.parametrize(
    ("operator", "value", "passed"),
    [("<", 1.0, True), ("<=", 1.0, False), (">", 1.0, True), (">=", 1.0, False), (">", 1.1, False)],
)
def test_every_operator_fails_on_its_side(
    operator: Literal["<", "<=", ">", ">="], value: float, passed: bool
) -> None:
    result = verdict(logged(accuracy=value), Bar(operator=operator, relative=False, offset=1.0))

    assert result.passed is passed


def test_a_value_that_tensorboard_rounded_to_32_bits_still_meets_its_bar() -> None:
    (rounded,) = struct.unpack("<f", struct.pack("<f", 0.95))
    assert rounded < 0.95

    assert verdict(logged(accuracy=rounded), Bar(operator="<", relative=False, offset=0.95)).passed


def test_nan_at_the_end_fails_whatever_came_before() -> None:
    result = verdict(logged(accuracy=(0.9, math.nan)))

    assert (result.passed, result.best) == (False, 0.9)
    assert "not a number" in result.sentence


@pytest.mark.parametrize("bar", [Bar(operator="<", relative=False, offset=0.5), BASE_LESS_ONE_PERCENT])
def test_an_infinite_value_fails(bar: Bar) -> None:
    assert not verdict(logged(accuracy=-math.inf), bar, base=0.9).passed
    assert not verdict(logged(accuracy=math.inf), bar, base=0.9).passed


def test_a_metric_that_was_never_logged_fails_with_the_nearest_name() -> None:
    result = verdict(logged(train__acuracy=0.9, loss=0.1))

    assert (result.passed, result.value, result.best) == (False, None, None)
    assert result.sentence == (
        "accuracy was never logged; logged were loss, train/acuracy (did you mean train/acuracy?)"
    )


def test_no_metrics_at_all_is_said_plainly() -> None:
    assert verdict({}).sentence == "accuracy was never logged, and no other metric either"


def test_a_name_finds_the_only_metric_that_ends_with_it() -> None:
    assert verdict(logged(validation__accuracy=0.9, train__loss=1)).value == 0.9


def test_an_exact_name_goes_before_a_longer_one() -> None:
    assert verdict(logged(accuracy=0.5, validation__accuracy=0.9)).value == 0.5


def test_a_name_that_could_be_two_metrics_fails_and_names_both() -> None:
    result = verdict(logged(train__accuracy=0.5, validation__accuracy=0.9))

    assert not result.passed
    assert "train/accuracy or validation/accuracy" in result.sentence


def test_a_name_does_not_match_within_a_word() -> None:
    found = logged(validation__epoch_accuracy=0.9)

    assert find(found, "accuracy") is None
    assert "did you mean validation/epoch_accuracy?" in verdict(found).sentence
