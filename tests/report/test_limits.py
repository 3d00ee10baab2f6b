"""A text that fits: whole parts go, the least important first, and what went is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner.report.limits import Part, fit, must, part

ELSEWHERE = "See `pushtrain show`."


def test_what_fits_is_left_as_it_is() -> None:
    parts = (must("head"), part("logs", 1, "long", "short"), part("notes", 2, ""))

    assert fit(parts, 1_000, elsewhere=ELSEWHERE) == "head\n\nlong"


def test_the_least_important_part_is_shortened_first_and_named() -> None:
    parts = (must("head"), part("logs", 1, "l" * 500, "l" * 50), part("notes", 2, "n" * 500))

    text = fit(parts, 700, elsewhere=ELSEWHERE)

    assert text.split("\n\n")[:3] == ["head", "l" * 50, "n" * 500]
    assert text.endswith("<sub>Shortened to GitHub's limit: logs. See `pushtrain show`.</sub>")


def test_a_part_goes_altogether_before_a_more_important_one_is_touched() -> None:
    parts = (part("notes", 2, "n" * 500, "n"), part("logs", 1, "l" * 500, "l" * 400))

    assert "l" * 400 not in fit(parts, 700, elsewhere="")
    assert "n" * 500 in fit(parts, 700, elsewhere="")


def test_sizes_are_of_bytes() -> None:
    parts = (must("head"), part("curves", 1, "▁" * 100))

    assert "▁" in fit(parts, 310, elsewhere="")
    assert "▁" not in fit(parts, 290, elsewhere="")


FORMS = st.lists(st.text(max_size=200), min_size=1, max_size=4)
PARTS = st.lists(
    st.builds(lambda keep, forms: Part(name="x", keep=keep, forms=tuple(forms)), st.integers(0, 9), FORMS)
)


@given(PARTS, st.integers(0, 600))
def test_no_text_is_longer_than_its_limit_and_none_is_cut(parts: list[Part], limit: int) -> None:
    text = fit(parts, limit, elsewhere=ELSEWHERE)

    assert len(text.encode()) <= limit
    rest = text
    for each in parts:
        form = next((form for form in each.forms if form and rest.startswith(form)), "")
        rest = rest.removeprefix(form)
        rest = rest.removeprefix("\n\n") if form else rest
    assert (
        not rest or "Shortened" in rest or any(text.startswith(form) for each in parts for form in each.forms)
    )
