import math
import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from runner.charts import curve, sparkline
from runner.metrics import Series

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def one(name: str, values: Sequence[float], steps: Sequence[int] = ()) -> Series:
    return Series(name=name, steps=tuple(steps or range(1, len(values) + 1)), values=tuple(values))


def drawn(*series: Series, color: bool = False, unicode: bool = True) -> str:
    return curve(*series, width=60, height=12, title="accuracy", color=color, unicode=unicode)


RISING = one("train/accuracy", [0.5, 0.7, 0.8, 0.85])
LOWER = one("val/accuracy", [0.4, 0.6, 0.7, 0.78])


def test_a_curve_has_its_title_its_axes_and_its_size() -> None:
    rows = drawn(RISING).splitlines()

    assert rows[0].strip() == "accuracy"
    assert rows[-1].split() == ["1", "2", "3", "4"]
    assert [row.split("┤")[0].strip() for row in rows if "┤" in row] == ["0.9", "0.8", "0.7", "0.6", "0.5"]
    assert len(rows) == 12
    assert max(map(len, rows)) <= 60


def test_a_rising_curve_rises() -> None:
    columns = [
        [row[column : column + 1] for row in drawn(one("a", [0, 1], [0, 10]), unicode=False).splitlines()]
        for column in (8, 50)
    ]

    low, high = (column.index("*") for column in columns)
    assert low > high


def test_several_series_are_told_apart_without_colour() -> None:
    text = drawn(RISING, LOWER)

    assert text.splitlines()[-1] == "* train/accuracy  + val/accuracy"
    assert text.count("*") > 20 < text.count("+")


def test_colours_are_there_only_when_asked_for() -> None:
    assert not ANSI.search(drawn(RISING, LOWER))
    assert len(set(ANSI.findall(drawn(RISING, LOWER, color=True)))) >= 3
    assert ANSI.sub("", drawn(RISING, LOWER, color=True)).endswith("⠒ train/accuracy  ⠒ val/accuracy")


def test_without_unicode_all_is_ascii() -> None:
    assert drawn(RISING, LOWER, unicode=False).isascii()
    assert drawn(RISING, unicode=False, color=True).isascii()


def test_a_single_point_is_drawn_in_the_middle() -> None:
    rows = drawn(one("a", [0.5], [7]), unicode=False).splitlines()

    assert sum(row.count("*") for row in rows) == 1
    assert rows[-1].split() == ["7"]


def test_a_constant_is_one_level_line() -> None:
    rows = drawn(one("a", [0.0] * 5), unicode=False).splitlines()

    assert [row.split("+")[0].strip() for row in rows if "*" in row] == ["0"]


def test_values_that_are_not_finite_are_left_out_and_counted() -> None:
    text = drawn(one("a", [1, math.nan, 3, math.inf, 1.7e308]))

    assert text.splitlines()[-1] == "(3 not finite)"
    assert "3┤" in text


def test_a_series_without_any_finite_value_says_so() -> None:
    assert drawn(one("a", [math.nan])).splitlines()[-1] == "no values to draw"
    assert drawn().splitlines()[-1] == "no values to draw"


def test_a_peak_among_a_million_points_is_kept() -> None:
    values = [0.0] * 1_000_000
    values[123_456] = 10.0

    rows = drawn(one("loss", values)).splitlines()

    assert any(character not in " │┤" for character in rows[2].split("┤")[1])
    assert rows[-1].split()[-1] == "1M"


def test_labels_have_as_many_digits_as_tell_them_apart() -> None:
    labels = re.findall(r"([\d.]+)┤", drawn(one("a", [12345.678, 12345.679])))

    assert len(set(labels)) == len(labels) > 1


@given(
    st.lists(st.floats(), min_size=1, max_size=6),
    st.integers(0, 100),
    st.integers(0, 30),
    st.lists(st.integers(0, 2**62), min_size=6, max_size=6, unique=True),
)
def test_any_values_can_be_drawn_within_the_size(
    values: list[float], width: int, height: int, steps: list[int]
) -> None:
    series = one("a", values, sorted(steps)[: len(values)])

    rows = curve(series, width=width, height=height, title="t" * 200).splitlines()

    assert len(rows) <= max(height, 6)
    assert max(map(len, rows)) <= max(width, 24)


class TestSparkline:
    def test_values_go_from_the_lowest_to_the_highest_block(self) -> None:
        assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"

    def test_more_values_than_columns_are_averaged(self) -> None:
        assert sparkline([0, 2, 4, 6, 14, 16], width=3) == "▁▃█"

    def test_what_is_not_finite_is_blank(self) -> None:
        assert sparkline([0, math.nan, 1, math.inf]) == "▁ █ "
        assert sparkline([math.nan]) == " "

    def test_a_constant_is_level_and_nothing_is_nothing(self) -> None:
        assert sparkline([3, 3]) == "▄▄"
        assert sparkline([]) == ""

    def test_without_unicode_it_is_ascii(self) -> None:
        assert sparkline([1, 2, 3, 4, 5, 6, 7, 8], unicode=False) == "_.-=+*%#"

    @given(st.lists(st.floats(), max_size=50), st.integers(-1, 30))
    def test_any_values_give_a_line_of_at_most_the_width(self, values: list[float], width: int) -> None:
        assert len(sparkline(values, width=width)) == min(len(values), max(width, 1))
