"""Charts that Mermaid reads, whatever was measured and whatever it is called."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.metrics import Series
from runner.report import mermaid
from tests.report.hostile import FRAGMENTS, TEXTS
from tests.report.rendering import by_github

HERE = Path(__file__).parent
LINE = re.compile(r'^    line "(base|this run)" \[(.*)\]$', re.MULTILINE)
NUMBER = re.compile(r"-?\d+(\.\d+)?")
NAN, INF = math.nan, math.inf


def one(values: Sequence[float], *, steps: Sequence[int] = (), name: str = "loss") -> Series:
    return Series(name=name, steps=tuple(steps or range(len(values))), values=tuple(values))


def lines(chart: str) -> dict[str, list[float]]:
    return {name: [float(each) for each in values.split(", ")] for name, values in LINE.findall(chart)}


def axis(chart: str, name: str) -> tuple[float, float]:
    found = re.search(rf"^    {name}-axis.* (\S+) --> (\S+)$", chart, re.MULTILINE)
    assert found
    return float(found[1]), float(found[2])


def test_an_even_curve_keeps_its_values() -> None:
    chart = mermaid.chart(one([0.5, 0.25, 0.125], steps=[10, 20, 30]))

    assert lines(chart) == {"this run": [0.5, 0.25, 0.125]}
    assert axis(chart, "x") == (10, 30)


def test_a_long_curve_has_sixty_points_and_its_own_ends() -> None:
    values = [1 / (1 + step) for step in range(10_000)]

    drawn = lines(mermaid.chart(one(values)))["this run"]

    assert len(drawn) == 60
    assert drawn[0] == 1
    assert drawn[-1] == pytest.approx(values[-1], abs=1e-3)


def test_of_a_dense_and_noisy_curve_the_mean_is_drawn() -> None:
    drawn = lines(mermaid.chart(one([1.0, 0.0] * 3000)))["this run"]

    assert all(value == pytest.approx(0.5, abs=0.01) for value in drawn[1:-1])


def test_both_runs_share_the_steps_of_this_run() -> None:
    longer = one([1.0, 0.5, 0.0], steps=[0, 10, 20])
    chart = mermaid.chart(one([1.0, 0.8], steps=[0, 10]), longer, base_name="main")

    assert lines(chart) == {"base": [1.0, 0.5], "this run": [1.0, 0.8]}
    assert "the last run of `main`, which went on to step 20" in chart


def test_a_base_that_ended_earlier_keeps_its_last_value_and_the_caption_says_so() -> None:
    chart = mermaid.chart(one([1.0, 0.8, 0.7], steps=[0, 10, 20]), one([1.0, 0.5], steps=[0, 10]))

    assert lines(chart)["base"] == [1.0, 0.5, 0.5]
    assert "which ended at step 10" in chart


def test_uneven_steps_are_drawn_where_they_are() -> None:
    drawn = lines(mermaid.chart(one([0.0, 1.0, 1.0], steps=[0, 1, 100])))["this run"]

    assert drawn[1:] == [1.0] * 59


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    chart = mermaid.chart(one([1.0, NAN, INF, -INF, 0.5]))

    assert lines(chart)["this run"][-1] == 0.5
    assert "3 values left out" in chart


@pytest.mark.parametrize("values", [[], [1.0], [NAN, NAN, 1.0], [INF, -INF]])
def test_without_two_values_there_is_no_chart(values: list[float]) -> None:
    assert mermaid.chart(one(values)) == ""


@pytest.mark.parametrize(
    ("values", "title"),
    [([1e300, 2e299], "loss (\u00d71e300)"), ([1e-9, 5e-9], "loss (\u00d71e-9)"), ([0.5, 9e5], "loss")],
)
def test_large_and_small_values_are_scaled(values: list[float], title: str) -> None:
    assert f'title "{title}"' in mermaid.chart(one(values))


@given(st.lists(st.floats(), max_size=80), st.lists(st.floats(), max_size=80))
def test_every_number_is_a_plain_decimal_within_the_axis(own: list[float], base: list[float]) -> None:
    chart = mermaid.chart(one(own), one(base))
    if not chart:
        return
    for _, values in LINE.findall(chart):
        assert all(NUMBER.fullmatch(each) for each in values.split(", "))
    low, high = axis(chart, "y")
    assert low < high
    assert all(low <= value <= high for values in lines(chart).values() for value in values)


@given(TEXTS)
def test_a_name_cannot_leave_its_quotes_or_the_block(name: str) -> None:
    chart = mermaid.chart(one([0.0, 1.0], name=name))

    assert by_github(chart).elements == ["pre", "code"]
    title = next(each for each in chart.splitlines() if each.startswith("    title "))
    assert re.fullmatch(r'    title "[\w\s./:()+,-]+"', title)


def test_mermaid_itself_reads_every_chart(node_modules: Path) -> None:
    names = (*FRAGMENTS, "x" * 500, "Ünïcode 名前 🚀", "  ", "click A callback", "end", "---")
    curves = (
        [5.0, 5.0], [0.0, 0.0], [-0.0, 0.0], [1e300, -1e300], [1e-300, 5e-324], [1e15, 1e15 + 1], [-1e-7, 3.0],
        [1e6, 0.0], [NAN, 1.0, INF, 2.0], [0.001, 0.0011], [123456.789, 123456.79], list(map(float, range(500))),
    )  # fmt: skip
    charts = [mermaid.chart(one([0.1, 0.9], name=name)) for name in names]
    charts += [mermaid.chart(one(values), one(values[::-1])) for values in curves]
    charts.append(mermaid.chart(one([1.0, 2.0], steps=[-5, 10**15]), one([1.0], steps=[10**400])))
    charts.append(mermaid.chart(one([1.0, 2.0, 3.0], steps=[0, 3, 10**400])))
    texts = [re.sub(r"\A```mermaid\n|```.*\Z", "", chart, flags=re.DOTALL) for chart in charts]

    told = subprocess.run(
        ["node", HERE / "mermaid.mjs", node_modules],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert [each for each in zip(texts, json.loads(told), strict=True) if each[1]] == []
