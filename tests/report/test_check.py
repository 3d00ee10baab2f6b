"""What a check says of a run as it waits, runs and ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from runner.report import check, comment, job
from runner.report.facts import RunFacts
from runner.runs import State
from tests.report import samples
from tests.report.samples import SAMPLES

CONCLUSIONS = {
    "waiting": ("queued", None),
    "running": ("in_progress", None),
    "succeeded": ("completed", "success"),
    "succeeded-no-base": ("completed", "success"),
    "gate-failed": ("completed", "failure"),
    "failed": ("completed", "failure"),
    "build-failed": ("completed", "failure"),
    "cancelled": ("completed", "cancelled"),
    "timed-out": ("completed", "timed_out"),
    "fork": ("completed", "success"),
    "gang-failed": ("completed", "failure"),
    "elastic": ("in_progress", None),
}
TITLES = {
    "waiting": "waits for 4 GPUs, behind 20251231-200000-cccc00",
    "running": "running · 12m · accuracy 0.9312 (step 550)",
    "succeeded": "accuracy 0.9725 ≥ base 0.9681 - 0.01 · model digits@v1.3.0 · 13m27s",
    "succeeded-no-base": "accuracy 0.9725 · model digits@v1.3.0 · 13m27s",
    "gate-failed": "gate failed: accuracy 0.9312, wanted ≥ base 0.9681 - 0.01 · 13m27s",
    "failed": "failed after 13m27s: the GPU's memory is full",
    "build-failed": "failed after 14.5s: environment.pip: no version of scikit-lern",
    "cancelled": "cancelled by octo-cat on the pull request; outputs so far are kept · after 13m27s",
    "timed-out": "timed out after 13m27s: it ran for more than 720 s",
    "fork": "accuracy 0.9725 ≥ base 0.9681 - 0.01 · 13m27s",
    "gang-failed": "failed after 13m27s: the weights file is not there",
    "elastic": "running · 13m · accuracy 0.9312 (step 550)",
}


@pytest.mark.parametrize(("name", "sample"), SAMPLES.items())
def test_status_and_conclusion_follow_the_run(name: str, sample: Callable[[], RunFacts]) -> None:
    assert check.state(sample()) == CONCLUSIONS[name]


@pytest.mark.parametrize(("name", "sample"), SAMPLES.items())
def test_the_title_says_it_in_one_line(name: str, sample: Callable[[], RunFacts]) -> None:
    assert check.output(sample()).title == TITLES[name]


@given(
    state=st.sampled_from(State),
    outcome=st.sampled_from(["", "succeeded", "failed", "lost", "timeout", "cancelled"]),
    verdict=st.sampled_from(["", samples.PASSED, samples.MISSED]),
    reason=st.sampled_from(["", samples.MISSED, "timeout.queue: no free GPUs", "cancelled"]),
)
def test_only_a_run_that_succeeded_is_green(state: State, outcome: str, verdict: str, reason: str) -> None:
    run = changed(
        samples.running().run,
        state=state,
        attempts=(samples.attempt(outcome),),
        verdict=verdict,
        reason=reason,
    )
    status, conclusion = check.state(replace(samples.running(), run=run))

    assert (conclusion == "success") == (state is State.SUCCEEDED)
    assert (conclusion is None) == (not state.ended)
    assert (status == "completed") == state.ended


def test_the_place_in_the_queue_is_told() -> None:
    text = check.output(samples.waiting(), queue="waits for 4 GPUs, 3rd in line")

    assert text.title == "waits for 4 GPUs, 3rd in line"
    assert "⏳ waits for 4 GPUs, 3rd in line" in text.summary


def test_progress_is_held_against_the_base() -> None:
    assert (
        "▰▱▱▱▱▱▱▱▱▱▱▱` step 550 of 1000, by the last run of `main`" in check.output(samples.running()).summary
    )


def test_a_run_whose_training_exits_with_the_code_of_a_time_out_has_failed() -> None:
    of = samples.failed()
    run = changed(of.run, exit_code=75, attempts=(samples.attempt("failed", exit_code=75),))

    assert check.state(replace(of, run=run)) == ("completed", "failure")


def test_the_log_is_in_the_text_and_the_cause_in_the_summary() -> None:
    text = check.output(samples.failed())

    assert "torch.OutOfMemoryError" in text.text
    assert "**Likely cause**: the GPU's memory is full" in text.summary


def test_a_run_that_is_left_for_later_says_what_to_type() -> None:
    of = samples.running()
    run = changed(
        of.run, state=State.COLLECTING, reason="the disk is full", tip="mend that; then: pushtrain resume 7"
    )

    summary = check.output(replace(of, run=run)).summary

    assert "> [!WARNING]\n> the disk is full" in summary
    assert "pushtrain resume 7" in summary


def test_a_check_does_not_link_to_itself() -> None:
    of = replace(samples.succeeded(), check_url="https://github.com/acme/vision/runs/11")

    assert "/runs/11" in comment.body(of)
    assert "/runs/11" in job.summary(of)
    assert "/runs/11" not in check.output(of).summary


def test_a_model_that_is_not_released_on_github_is_said_to_be_in_the_store() -> None:
    of = replace(samples.succeeded(), release_url=None)

    assert " · model digits@v1.3.0 in the store · " in check.output(of).title
    assert "· model `digits@v1.3.0` in the store ·" in comment.body(of)
    assert "/promote" not in comment.body(of)
