import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StoreError
from runner.metrics import Point, decode, encode, series, steps_again

POINTS = st.builds(
    Point,
    name=st.text(st.characters(exclude_categories=["Cs"])),
    step=st.integers(-(2**63), 2**63 - 1),
    value=st.floats(allow_nan=False),
    time_s=st.floats(0, 1e12),
)


def point(name: str, step: int, value: float) -> Point:
    return Point(name=name, step=step, value=value, time_s=1.5)


@given(st.lists(POINTS, max_size=5))
def test_what_was_encoded_is_decoded_the_same(points: list[Point]) -> None:
    assert decode(encode(points)) == tuple(points)


def test_lines_are_strict_json_also_for_nan() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = encode([point("a", 1, math.nan), point("a", 2, math.inf)])

    spelled = [json.loads(line, parse_constant=refuse)["value"] for line in content.splitlines()]
    assert spelled == ["NaN", "Infinity"]
    assert math.isnan(decode(content)[0].value)


def test_a_name_that_is_not_unicode_does_not_stop_the_stream() -> None:
    assert decode(encode([point("a\udcff", 1, 2)])) == (point("a?", 1, 2),)


def test_a_last_line_without_its_end_is_left_out() -> None:
    content = encode([point("a", 1, 1), point("a", 2, 2)])

    assert decode(content[:-1]) == (point("a", 1, 1),)


@pytest.mark.parametrize(
    "line", [b"x\n", b'{"name": "a"}\n', b'{"name":"a","step":1,"value":1,"time_s":1,"q":2}\n']
)
def test_a_line_that_is_no_point_is_named(line: bytes) -> None:
    with pytest.raises(StoreError, match="line 2"):
        decode(encode([point("a", 1, 1)]) + line)


def test_series_are_in_the_order_of_steps_and_the_last_point_of_a_step_counts() -> None:
    found = series([point("a", 2, 5), point("b", 1, 0), point("a", 1, 3), point("a", 2, 6)])

    assert list(found) == ["a", "b"]
    assert (found["a"].steps, found["a"].values, found["a"].last) == ((1, 2), (3, 6), 6)


def test_the_best_value_follows_the_goal_and_leaves_nan_out() -> None:
    found = series([point("a", step, value) for step, value in enumerate([0.5, math.nan, 0.9, 0.2])])["a"]

    assert (found.best("maximize"), found.best("minimize")) == (0.9, 0.2)
    assert series([point("a", 1, math.nan)])["a"].best("maximize") is None


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ((1, 2, 3), (4, 5), 0),
        ((1, 2, 3), (3, 4), 1),
        ((1, 2, 3, 4, 5, 6), (5, 6, 7), 2),
        ((1, 2, 3), (1, 2), 3),
        # The file was read once more, by a host that took over.
        ((1, 2, 3), (1, 2, 3, 2, 3, 4), 2),
        ((), (1, 2), None),
        ((1, 2), (), None),
    ],
)
def test_steps_that_were_done_again_are_counted(
    before: tuple[int, ...], after: tuple[int, ...], again: int | None
) -> None:
    points = [Point(name="loss", step=step, value=0.0, time_s=1.0) for step in before]
    points += [Point(name="loss", step=step, value=0.0, time_s=9.0) for step in after]
    assert steps_again(points, since_s=5.0) == again
