from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.quantities import (
    Gpu,
    MalformedError,
    duration,
    format_duration,
    format_size,
    format_value,
    gpu,
    size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("30m", 1800),
        ("1h30m", 5400),
        ("1.5d", 129_600),
        ("90s", 90),
        (45, 45),
        (0.5, 0.5),
        ("0s", 0),
    ],
)
def test_a_duration_is_read_in_seconds(text: object, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "2 hours", "h", "2", -1, True, None, float("nan"), "9999999d", "1h-2m", [1], "²h"]
)
def test_what_is_no_duration_is_refused_with_what_was_expected(text: object) -> None:
    with pytest.raises(MalformedError, match="expected 30s, 45m"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("32GiB", 32 * 2**30), ("512 MiB", 512 * 2**20), ("10GB", 10**10), ("1.5kb", 1500), (7, 7), ("9B", 9)],
)
def test_a_size_is_read_in_bytes(text: object, size_bytes: int) -> None:
    assert size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "32G", "GiB", -1, 1.5, True, None, "9999999PiB", "1e3GiB"])
def test_what_is_no_size_is_refused_with_what_was_expected(text: object) -> None:
    with pytest.raises(MalformedError, match="expected 512MiB"):
        size(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("H100:8", Gpu(model="H100", count=8)),
        ("8", Gpu(model=None, count=8)),
        (8, Gpu(model=None, count=8)),
        ("H100", Gpu(model="H100", count=1)),
        ("A100-80GB:2", Gpu(model="A100-80GB", count=2)),
    ],
)
def test_gpus_are_read_as_a_model_and_a_count(text: object, wanted: Gpu) -> None:
    assert gpu(text) == wanted
    assert gpu(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text", ["", "H100:0", 0, -1, True, None, 1.5, "8:H100", "H 100", "9999999999999999999999"]
)
def test_what_is_no_number_of_gpus_is_refused_with_what_was_expected(text: object) -> None:
    with pytest.raises(MalformedError, match="expected H100:8"):
        gpu(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.351, "0.35s"),
        (4.24, "4.2s"),
        (59.97, "1m"),
        (65, "1m5s"),
        (7200, "2h"),
        (86_399, "1d"),
        (97_200, "1d3h"),
        (7_150, "1h59m"),
        (7_195, "2h"),
    ],
)
def test_a_duration_is_written_in_at_most_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (512, "512 B"), (1536, "1.5 KiB"), (32 * 2**30, "32 GiB"), (2**20 - 1, "1 MiB")],
)
def test_a_size_is_written_in_one_unit(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.floats(0, 300 * 86_400))
def test_a_written_duration_is_read_back_within_its_last_unit(seconds: float) -> None:
    assert duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.05, abs=0.006)


@given(st.integers(0, 2**59))
def test_a_written_size_is_read_back_within_a_twentieth(size_bytes: int) -> None:
    assert size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.06)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text(), max_size=2)))
def test_no_input_makes_the_readers_fail_otherwise(value: object) -> None:
    for read in (duration, size, gpu):
        with suppress(MalformedError):
            read(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01, "0.01"),
        (1e-05, "1e-05"),
        (5, "5"),
        (5.0, "5"),
        (True, "true"),
        (False, "false"),
        ("a b", "a b"),
    ],
)
def test_a_parameter_is_written_as_programs_read_it(value: str | float | bool, text: str) -> None:
    assert format_value(value) == text
