"""Text of a run is shown as it is and never obeyed, by GitHub's parser nor by another, nor by the runner of a job."""

from __future__ import annotations

import re
import subprocess
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.report import escape
from tests.report.hostile import FRAGMENTS, TEXTS
from tests.report.rendering import BOTH, Seen

Render = Callable[[str], Seen]
EVERY = "\n".join(FRAGMENTS)


@pytest.mark.parametrize("render", BOTH)
@given(text=TEXTS)
def test_a_code_span_is_one_element_that_shows_the_text(render: Render, text: str) -> None:
    seen = render(f"before {escape.code(text)} after")

    shown = escape.line(text, escape.CODE_LIMIT)
    if shown.strip():
        assert seen.elements == ["p", "code"]
        assert seen.codes == [shown]
    else:
        assert seen.elements == ["p", "em"]
    assert not seen.obeyed


@pytest.mark.parametrize("render", BOTH)
@given(text=TEXTS)
def test_a_cell_stays_in_its_column(render: Render, text: str) -> None:
    cell = escape.cell(text)
    seen = render(escape.table(("a", "b", "c"), [("1", cell, "3"), (cell, cell, cell)], align="lrc"))

    assert seen.cells == [3, 3, 3]
    assert set(seen.elements) <= {"table", "thead", "tbody", "tr", "th", "td", "code", "em"}
    assert not seen.obeyed


@pytest.mark.parametrize("render", BOTH)
@given(text=TEXTS)
def test_a_fence_is_closed_by_its_own_end_alone(render: Render, text: str) -> None:
    lines = text.split("\n")
    seen = render(f"before\n\n{escape.fence(lines)}\n\nafter")

    assert seen.elements == ["p", "pre", "code", "p"]
    assert seen.codes == ["".join(f"{escape.line(each)}\n" for each in lines)]
    assert not seen.obeyed


@pytest.mark.parametrize("render", BOTH)
@pytest.mark.parametrize(
    "frame", ["{}", "before {}", "- {}", "### ✅ {}", "> [!CAUTION]\n> {}", "**x**: {}."]
)
@given(text=TEXTS)
def test_prose_holds_nothing_but_text_and_code(render: Render, frame: str, text: str) -> None:
    prose = escape.inline(text)
    seen = render(frame.format(prose))

    expected = render(frame.format("word"))
    assert [each for each in seen.elements if each not in ("code", "em")] == expected.elements or not prose
    assert not [each for each in seen.obeyed if each != "[!"]


@given(text=TEXTS)
def test_prose_leaves_nothing_out(text: str) -> None:
    def letters(of: str) -> str:
        return re.sub(r"[\s`]", "", of)

    seen = BOTH[0](f"before {escape.inline(text)}")
    shown = "".join(seen.prose).removeprefix("before") + "".join(seen.codes)
    if "em" not in seen.elements:
        whole = letters(unicodedata.normalize("NFC", escape.line(text, escape.INLINE_LIMIT)))
        assert sorted(letters(shown)) == sorted(whole)


def test_plain_sentences_stay_as_they_are() -> None:
    sentence = "accuracy is 0.972 (best 0.98 at step 9): passed, 5% in 1m5s, it's done."

    assert escape.inline(sentence) == sentence


def test_what_looks_like_a_name_in_a_sentence_becomes_code() -> None:
    assert (
        escape.inline("the run wrote nothing to outputs/model, see `release.path` of train.yml.")
        == "the run wrote nothing to `outputs/model`, see `release.path` of `train.yml`."
    )


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        (
            "'--frehs' is not known (did you mean --fresh?)",
            "`'--frehs'` is not known (did you mean `--fresh`?)",
        ),
        ("no such input (did you mean top_k?)", "no such input (did you mean `top_k`?)"),
        (
            "there is no a/b (c_d in train.yml), see e_f.",
            "there is no `a/b` (`c_d` in `train.yml`), see `e_f`.",
        ),
        ("use s3://, https:// or name@v1", "use `s3://`, `https://` or `name@v1`"),
        ("x_y: z_w: it is gone", "`x_y`: `z_w`: it is gone"),
        ("call f(x_y) again", "call `f(x_y)` again"),
        ("--engine local | docker", "`--engine local | docker`"),
        ("--engine docker, or push the commit", "`--engine docker`, or push the commit"),
        ("--key FILE with the public key", "`--key FILE` with the public key"),
        (
            "set T: ${{ a.b }} in on: {push: {tags: [v]}}.",
            "set `T: ${{ a.b }}` in `on: {push: {tags: [v]}}`.",
        ),
        ("give name='two words', or less", "give `name='two words'`, or less"),
        ("it cannot be read: [Errno 2] No such file", "it cannot be read: `[Errno 2]` No such file"),
    ],
)
def test_the_punctuation_of_a_sentence_stays_outside_of_code(sentence: str, shown: str) -> None:
    assert escape.inline(sentence) == shown


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("pushtrain logs shows the whole build", "`pushtrain logs` shows the whole build"),
        ("mend that; then: pushtrain resume 7", "mend that; then: `pushtrain resume 7`"),
        ("docker system df; pushtrain gc", "`docker system df`; `pushtrain gc`"),
        ("pushtrain outputs 7 get . ./x", "`pushtrain outputs 7 get . ./x`"),
        ("set it: export A=$(gh auth token), or another", "set it: `export A=$(gh auth token)`, or another"),
        (
            "start it (`sudo systemctl start docker`), or not",
            "start it (`sudo systemctl start docker`), or not",
        ),
        ("is a git fetch stuck?", "is a git fetch stuck?"),
        ("written by a newer pushtrain, or by hand", "written by a newer pushtrain, or by hand"),
    ],
)
def test_a_command_with_its_arguments_is_one_piece_of_code_and_the_prose_behind_it_none(
    sentence: str, shown: str
) -> None:
    assert escape.inline(sentence) == shown


@given(text=TEXTS)
def test_a_line_has_no_character_that_cannot_be_seen(text: str) -> None:
    line = escape.line(text)

    line.encode()
    assert not [each for each in line if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_of_a_progress_bar_the_last_state_is_shown() -> None:
    assert escape.line("10%\r20%\r30%\r") == "30%"


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_a_shell_reads_back_the_word_that_was_quoted(text: str) -> None:
    word = escape.shell(text)

    assert "\n" not in word
    read = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert read.decode() == text


def test_an_address_is_only_linked_if_it_is_one() -> None:
    assert escape.link("x", "javascript:alert(1)") == "x"
    assert escape.link("x", "https://a.example/b c)|>\n") == "[x](<https://a.example/b%20c)%7C%3E%0A>)"


@pytest.mark.parametrize("text", ["x" * 10_000_000, "\r" * 10_000_000, "`" * 10_000_000, "\x1b[" * 5_000_000])
def test_ten_megabytes_in_one_line_are_no_trouble(text: str) -> None:
    before_s = time.perf_counter()

    assert len(escape.fence([text])) < 2_000
    assert len(escape.code(text)) < 2_000
    assert len(escape.inline(text)) < 4_000
    assert time.perf_counter() - before_s < 2
