"""Answers in a thread: what came of each command, with the line to type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from msgspec.structs import replace as changed

from runner import engines, spec
from runner.errors import PlanError, UsageError
from runner.models import Promotion
from runner.parameters import parameters
from runner.quantities import Value
from runner.report import escape, thread
from runner.runs import Run, State
from runner.trigger import comment
from tests.report import samples
from tests.report.hostile import TEXTS
from tests.report.rendering import BOTH, Seen, by_github
from tests.report.samples import PLACE

PROMOTION = Promotion(n=3, name="digits", version="1.3.0", stage="production", by="octo-cat", at_s=0.0)
TRAIN = """\
name: digits
run: python train.py --lr ${{ inputs.lr }}
on: {comment: {command: /train, roles: [write, maintain]}}
inputs:
  lr: {type: number, default: 0.1, min: 0, max: 1, description: "learning rate, see train.py"}
  optimizer: {options: [adam, sgd], default: adam}
  tag: {type: string, required: true, description: "a|b"}
  depth: {type: integer, default: 3, min: 1}
"""


def test_a_mistake_names_the_line_and_what_is_wrong_and_what_to_type() -> None:
    text = thread.mistake("/train lerning=1", "there is no input 'lerning'", "/train lr=1")

    assert text == (
        "⚠️ `/train lerning=1`: there is no input 'lerning'\n\nType instead:\n\n```\n/train lr=1\n```"
    )


def test_several_mistakes_of_one_command_are_a_list() -> None:
    text = thread.mistake("/train a=1 b=2", "there is no input 'a'\nthere is no input 'b'", "")

    assert text.splitlines()[1:] == ["- there is no input 'a'", "- there is no input 'b'"]


INPUTS = """\
name: digits
run: python train.py
inputs:
  accuracy: {type: number, default: 0.5, min: 0, max: 1}
  optimizer: {options: [adam, sgd], default: adam}
  depth: {type: integer, required: true, min: 2}
"""


@pytest.mark.parametrize(
    ("line", "corrected"),
    [
        ("/train accuracy=abc depth=3", "/train accuracy=0.5 depth=3"),
        ("/train depth=3 depth=4", "/train depth=4"),
        ("/train acuracy=0.9 depth=3", "/train accuracy=0.9 depth=3"),
        ("/train optimizer=agam depth=1.5", "/train optimizer=adam depth=2"),
        (
            "/train 0123456789 depth=3 --engine local zzz=1 --fresh",
            "/train 0123456789 depth=3 --engine local --fresh",
        ),
        ("/train", "/train depth=2"),
        ("/train colour=red", "/train depth=2"),
    ],
)
def test_inputs_that_are_wrong_are_answered_with_a_line_that_is_right(line: str, corrected: str) -> None:
    declared = spec.parse(INPUTS)

    def given(text: str) -> dict[str, Value]:
        (command,) = comment.commands(text)
        assert isinstance(command, comment.Train)
        return parameters(declared, command.overrides)

    with pytest.raises(PlanError) as caught:
        given(line)
    text = thread.mistake(line, str(caught.value), caught.value.tip)

    assert text.endswith(f"\n\nType instead:\n\n```\n{corrected}\n```")
    assert given(corrected)


def test_an_engine_that_there_is_not_is_answered_with_a_line_for_each_that_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        engines.load("k8s", home=tmp_path, store=str(tmp_path))

    assert thread.mistake("/train lr=1 --engine=k8s --fresh", str(caught.value), caught.value.tip) == (
        "⚠️ `/train lr=1 --engine=k8s --fresh`: there is no engine `'k8s'`\n\nType one of these instead:\n\n"
        "```\n/train lr=1 --fresh --engine local\n/train lr=1 --fresh --engine docker\n"
        "/train lr=1 --fresh --engine slurm\n```"
    )


def test_what_is_left_of_a_tip_stands_below_the_line_to_type() -> None:
    text = thread.refused("/train lr=1", "a fork's run needs docker", "--engine docker, or push the commit")

    assert text.endswith("```\n/train lr=1 --engine docker\n```\n\n→ push the commit")


def test_a_tip_that_is_no_part_of_a_command_is_shown_as_it_is() -> None:
    for tip in ("-p is no input", "-p lr=1 or less", "commit a train.yml"):
        assert thread.mistake("/train", "it is wrong", tip).endswith(f"\n\n→ {escape.inline(tip)}")


def test_a_headline_stands_above_its_list() -> None:
    text = thread.refused("/train", "a fork may not ask for this:\n  resources.gpu: 2\n  labels: x", "")

    assert text == "🚫 `/train`: a fork may not ask for this:\n- `resources.gpu`: 2\n- labels: x"


def test_a_refusal_shows_a_tip_that_is_no_command_as_prose() -> None:
    text = thread.refused("/train", "this needs the role write", "on: {comment: {roles: [write]}}")

    assert text == "🚫 `/train`: this needs the role write\n\n→ `on: {comment: {roles: [write]}}`"


def test_answers_to_one_comment_are_one_comment_to_its_author() -> None:
    assert thread.joined(["one", "two"], to="octo-cat") == "@octo-cat:\n\none\n\ntwo"


def test_nobody_but_the_author_is_mentioned() -> None:
    assert thread.joined(["one"], to="a @b").startswith("`a @b`:")


def test_many_answers_are_cut_to_the_limit_the_last_ones_first() -> None:
    text = thread.joined([f"{number} {'x' * 10_000}" for number in range(20)], to="octo-cat")

    assert len(text.encode()) <= 65_536
    assert "\n\n0 x" in text
    assert "\n\n19 x" not in text
    assert "Shortened to GitHub's limit: answers." in text


def test_the_status_is_a_table_of_runs_newest_first() -> None:
    rows = thread.status(
        [samples.EARLIER, samples.waiting().run, samples.succeeded().run], PLACE
    ).splitlines()

    assert len(rows) == 5
    assert "⏳ waiting: `waits for 4 GPUs, behind 20251231-200000-cccc00`" in rows[2] + rows[3]
    assert rows[4].startswith("| `20251231-200000-cccc00` | `digits` | ❌ failed |")
    assert rows[4].endswith("| 01-01 00:00 | 12m18s |")


def test_without_runs_the_status_says_so() -> None:
    assert thread.status([], PLACE) == "No run of this pull request yet."


def test_cancelling_lists_what_is_being_stopped() -> None:
    assert thread.cancelled([], PLACE) == "Nothing to cancel: no run of this pull request goes on."
    assert "| `20260101-000000-aaaa00` |" in thread.cancelled([samples.running().run], PLACE)


def test_a_promotion_links_its_tag() -> None:
    assert thread.promoted(PROMOTION, PLACE) == (
        "✅ `digits@v1.3.0` stands in `production` now: "
        "[`digits#production#3`](<https://github.com/acme/vision/tree/digits%23production%233>)."
    )


def test_help_lists_commands_and_the_inputs_of_train_yml() -> None:
    text = thread.help_text(spec.parse(TRAIN))

    assert "| `/train cancel` | stop the runs" in text
    assert "For people with the role write or maintain and above." in text
    assert "| `lr` | number 0 to 1 | `0.1` | learning rate, see `train.py` |" in text
    assert "| `optimizer` | `adam` `sgd` | `adam` |  |" in text
    assert r"| `tag` | string | *required* | `a\|b` |" in text
    assert "| `depth` | integer 1 to … | `3` |  |" in text
    assert "/train lr=0.1 optimizer=adam tag=VALUE" in text
    assert by_github(text).cells == [2] * 7 + [4] * 5


def test_help_without_inputs_or_comments_still_says_what_to_type() -> None:
    text = thread.help_text(spec.parse("name: x\nrun: python train.py\n"))

    assert "| `/train status` |" in text
    assert text.endswith("`train.yml` declares no inputs.")


def every(text: str) -> Sequence[str]:
    run: Run = changed(
        samples.waiting().run, reason=text, inputs={"x": text}, name=text, metric=(text, 1.0), commit=text
    )
    return (
        thread.mistake(text, text, text),
        thread.refused(text, f"{text}\n{text}", "/train " + text),
        thread.status([run, changed(run, state=State.FAILED)], PLACE),
        thread.joined([thread.cancelled([run], PLACE)], to="octo cat"),
    )


@pytest.mark.parametrize("render", BOTH)
@given(text=TEXTS)
def test_nothing_in_an_answer_is_obeyed(render: Callable[[str], Seen], text: str) -> None:
    for said in every(text):
        seen = render(said)
        assert seen.obeyed == []
        assert seen.comments == []
        assert all(link.startswith("https://github.com/acme/vision") for link in seen.links)
        assert set(seen.cells) <= {8}
