"""Comment and job summary: as written down for each kind of run, within GitHub's limits, whatever the run says.

After a change on purpose: `python -m tests.report.test_texts` writes what is shown now; read the difference.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from runner.manifest import FileEntry
from runner.metrics import Series
from runner.report import check, comment, job, sections
from runner.report.facts import Base, RunFacts
from runner.runs import State
from tests.report import samples
from tests.report.hostile import FRAGMENTS, TEXTS
from tests.report.rendering import BOTH, Seen, by_github
from tests.report.samples import SAMPLES

GOLDEN = Path(__file__).parent / "golden"
Sample = Callable[[], RunFacts]
ELEMENTS = {"p", "h2", "h3", "a", "code", "pre", "strong", "em", "sub", "ul", "li", "hr", "blockquote"}
ELEMENTS |= {"details", "summary", "table", "thead", "tbody", "tr", "th", "td"}


def texts(facts: RunFacts) -> Iterator[tuple[str, str, int]]:
    said = check.output(facts)
    yield "comment", comment.body(facts), 65_536
    yield "summary", job.summary(facts), 1_048_576
    yield "check", f"{said.summary}\n\n---\n\n{said.text}", 2 * 65_535


def files() -> Iterator[tuple[Path, str]]:
    for name, sample in SAMPLES.items():
        for kind, text, _ in texts(sample()):
            yield GOLDEN / f"{name}.{kind}.md", text.rstrip("\n") + "\n"


@pytest.mark.parametrize(
    ("path", "text"), tuple(files()), ids=lambda each: each.name if isinstance(each, Path) else ""
)
def test_texts_are_as_written_down(path: Path, text: str) -> None:
    assert text == path.read_text()


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_both_parsers_see_the_same_page(sample: Sample) -> None:
    for _, text, _ in texts(sample()):
        first, second = (render(text) for render in BOTH)

        assert first.elements.count("table") == second.elements.count("table")
        assert first.cells == second.cells
        assert [each.rstrip("\n") for each in first.codes] == [each.rstrip("\n") for each in second.codes]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_every_part_that_unfolds_is_closed(sample: Sample) -> None:
    for _, text, _ in texts(sample()):
        assert text.count("<details") == text.count("</details>")


def test_the_marker_is_the_first_line() -> None:
    assert comment.body(samples.running()).startswith("<!-- pushtrain:digits -->\n### ")
    assert comment.marker("a-->b c") == "<!-- pushtrain:a--_b_c -->"


def test_the_comment_of_an_ended_run_does_not_change_with_time() -> None:
    later = replace(samples.succeeded(), now_s=samples.START_S + 86_400)

    assert comment.body(later) == comment.body(samples.succeeded())
    assert job.summary(later) == job.summary(samples.succeeded())


def test_a_metric_that_is_to_fall_is_better_when_it_fell() -> None:
    of = samples.succeeded()
    gate = replace(
        of.plan.gate, primary="train/loss", goal="minimize", operator=">", relative=True, offset=0.0
    )

    text = comment.body(replace(of, plan=replace(of.plan, gate=gate)))

    assert "| 🎯 `train/loss` | **0.1198** | 0.1412 | 🟢 ▼ 0.0214 (15 %) |" in text
    assert "train/loss` 0.1198 ≤ base 0.1412 ·" in text


def test_only_inputs_that_differ_are_shown_and_if_none_does_it_is_said() -> None:
    of = samples.succeeded()
    same = Base(run=changed(samples.BASE_RUN, inputs=of.run.inputs), series=samples.BASE.series)

    assert "All inputs are those of `main`." in comment.body(replace(of, base=same))
    assert "| `epochs` |" not in comment.body(of)


def test_of_a_failed_run_the_last_thirty_lines_are_shown() -> None:
    text = comment.body(replace(samples.failed(), last_lines=samples.LINES))

    assert "Last 30 lines of rank 2" in text
    assert "step 12: " in text
    assert "step 11: " not in text


def test_one_is_not_told_as_several() -> None:
    of = replace(
        samples.failed(), last_lines=("no",), series={"a": samples.BASE.series["f1"]}, files=samples.FILES[:1]
    )

    text = comment.body(of) + job.summary(of) + check.output(of).text

    assert "Last line of rank 2" in text
    assert "1 output, 512 B" in text
    assert "The metric" in text
    assert not re.search(r"\b1 (lines|metrics|outputs|files|runs|inputs)\b", text)


def test_of_more_than_is_shown_one_is_told_as_one() -> None:
    of = samples.succeeded(base=None)

    assert "… and 1 more input\n" in sections.inputs(of, 2) + "\n"
    assert "… and 2 more inputs\n" in sections.inputs(of, 1) + "\n"
    assert "… and 1 more file\n" in sections.outputs(of, 2, digests=False) + "\n"


def test_that_nothing_was_trained_stands_above_all_results() -> None:
    note = f"nothing was trained: run {samples.BASE_ID} did just this"
    of = replace(samples.succeeded(), notes=(note, "something else"))
    shown = f"> [!NOTE]\n> nothing was trained: run `{samples.BASE_ID}` did just this"

    for _, text, _ in texts(of):
        assert text.count("nothing was trained") == 1
        assert text.index(shown) < text.index("**Gate**")
        assert "- something else" in text


def test_that_the_run_is_of_a_fork_is_said_once() -> None:
    for _, text, _ in texts(samples.of_fork()):
        assert text.count("fork") == 1


def test_a_metric_that_the_base_lacks_is_not_available() -> None:
    of = samples.succeeded()
    base = Base(run=samples.BASE_RUN, series={"accuracy": samples.BASE.series["accuracy"]})

    assert "| `f1` | 0.9685 | n/a | n/a |" in comment.body(replace(of, base=base))


def test_commands_to_repeat_a_run_are_quoted_for_a_shell() -> None:
    of = samples.succeeded()
    plan = replace(of.plan, inputs={"tag": "a b'; rm -rf /", "lines": "```\n\u202e"})

    text = comment.body(replace(of, plan=plan, folder="my models", train_file="big.yml"))

    assert "pushtrain run \\\n  'my models' \\\n  -f big.yml \\\n  -p 'tag=a b'\"'\"'; rm -rf /' \\\n" in text
    assert "````sh\ngit fetch origin" in text
    assert r"-p $'lines=```\x0a\xe2\x80\xae'" in text
    assert not by_github(text).obeyed


def test_ten_megabytes_of_log_and_thousands_of_everything_fit_quickly() -> None:
    before_s = time.perf_counter()
    of = huge()

    for _, text, limit in texts(of):
        assert len(text.encode()) <= limit
        seen = by_github(text)
        assert text.count("<details") == text.count("</details>")
        assert set(seen.obeyed) <= {"[!"}
    assert "Shortened to GitHub's limit" in comment.body(of)
    assert time.perf_counter() - before_s < 20


def huge() -> RunFacts:
    of = samples.failed()
    names = [f"metric/{'very-' * 30}long-{each}" for each in range(2_000)]
    series = {name: Series(name=name, steps=(1, 2, 3), values=(0.1, 0.2, 0.3)) for name in names}
    inputs = {f"input-{each}": "x" * 10_000 for each in range(2_000)}
    run = changed(
        of.run,
        inputs=inputs,
        warnings=tuple("w" * 5_000 for _ in range(1_000)),
        reason="\n".join(["r" * 5_000] * 100),
    )
    return replace(
        of,
        run=run,
        plan=replace(of.plan, inputs=inputs),
        series={**series, **of.series},
        base=Base(run=samples.BASE_RUN, series=series),
        files=tuple(
            FileEntry(path=f"outputs/{'d/' * 90}{n}", size_bytes=n, digest="") for n in range(50_000)
        ),
        last_lines=("x" * 10_000_000, *("y" * 100 for _ in range(100_000))),
        notes=("n" * 5_000,) * 100,
        earlier=tuple(changed(samples.EARLIER, inputs=inputs) for _ in range(50)),
    )


def hostile(text: str, value: float) -> RunFacts:
    """A failed run in which everything that somebody else can choose is this text."""
    of = samples.failed()
    name = text or "x"
    series = {name: Series(name=name, steps=(1, 2), values=(value, 1.0))}
    attempt = changed(of.run.attempts[0], cause=text, last_lines=(text, text))
    run = changed(
        of.run,
        reason=f"rank 0 ended: {text}",
        tip=text,
        verdict=text,
        branch=text,
        inputs={name: text},
        environment=text,
        warnings=(text,),
        attempts=(attempt,),
        metric=(name, 1.0),
        release=f"{name}@1.0.0",
    )
    asked = replace(of.plan.asked, by=text, branch=text, base=text, fork=True)
    dataset = replace(of.plan.datasets[0], name=name, source=text)
    plan = replace(of.plan, asked=asked, inputs={name: text}, datasets=(dataset,), notes=(text,))
    gate = replace(plan.gate, primary=name)
    return replace(
        of,
        run=run,
        plan=replace(plan, gate=gate, gang=replace(plan.gang, gpu_model=text)),
        series=series,
        base=Base(run=changed(run, state=State.SUCCEEDED, inputs={}), series=series),
        files=(FileEntry(path=name, size_bytes=1, digest=text),),
        last_lines=(text,) * 3,
        store=text,
        notes=(text,),
        earlier=(run,),
        folder=text,
        train_file=text,
    )


STATES = (
    (State.RUNNING, "", False),
    (State.FAILED, "failed", False),
    (State.FAILED, "succeeded", True),
    (State.SUCCEEDED, "succeeded", False),
    (State.CANCELLED, "cancelled", False),
)


@pytest.mark.parametrize("at", STATES, ids=lambda at: f"{at[0]}-{at[1]}")
@settings(max_examples=30, deadline=None)
@given(text=TEXTS, value=st.floats())
def test_nothing_that_a_run_says_is_obeyed(at: tuple[State, str, bool], text: str, value: float) -> None:
    _check_hostile(at, text, value)


@pytest.mark.parametrize("at", STATES, ids=lambda at: f"{at[0]}-{at[1]}")
def test_none_of_the_known_tricks_is_obeyed(at: tuple[State, str, bool]) -> None:
    for text in FRAGMENTS:
        _check_hostile(at, text, 0.5)
        _check_hostile(at, f"a {text} b", 0.5)


def _check_hostile(at: tuple[State, str, bool], text: str, value: float) -> None:
    state, outcome, is_gate = at
    of = hostile(text, value)
    attempt = changed(of.run.attempts[0], outcome=outcome)
    reason = of.run.verdict if is_gate else of.run.reason
    run = changed(of.run, state=state, attempts=(attempt,), reason=reason)
    for kind, shown, _ in texts(replace(of, run=run)):
        _check_page(by_github(shown), kind)


def _check_page(seen: Seen, kind: str) -> None:
    assert [each for each in seen.obeyed if each != "[!"] == []
    assert seen.comments == ([" pushtrain:digits "] if kind == "comment" else [])
    assert set(seen.elements) <= ELEMENTS
    assert seen.elements.count("details") <= 8
    assert all(link.startswith("https://github.com/") for link in seen.links)
    assert all(2 <= width <= 7 for width in seen.cells)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for written, shown in files():
        written.write_text(shown)
