"""A check run says what it is told, within GitHub's limits, and each annotation once."""

from __future__ import annotations

import pytest

from runner.errors import GitHubAbsent
from runner.github import check, client
from runner.github.check import Action, Annotation
from runner.github.texts import FIELD_LIMIT, fitting, one_line
from tests.github.ours import a_check, faults, ours
from tests.services.github import GitHub


def test_a_check_is_created_updated_and_closed(github: GitHub) -> None:
    mine = ours(github)
    cancel = Action(label="Cancel", description="Ends the run", identifier="cancel")
    number = check.create(mine.repository, a_check(mine.commit, status="queued", actions=(cancel,)))
    (made,) = mine.theirs.checks(mine.commit)
    assert (made.id, made.name, made.external_id) == (number, "pushtrain / mnist", "run-1")
    assert (made.status, made.conclusion, made.started_at) == ("queued", None, "2023-11-14T22:13:20Z")
    assert made.actions == [{"label": "Cancel", "description": "Ends the run", "identifier": "cancel"}]
    assert made.output["summary"] == "It goes on."
    ended = a_check(
        mine.commit,
        status="completed",
        conclusion="failure",
        completed_at_s=1_700_000_060.0,
        title="Failed",
        text="Because.",
    )
    check.update(mine.repository, number, ended)
    (made,) = mine.theirs.checks(mine.commit)
    assert (made.status, made.conclusion, made.completed_at) == (
        "completed",
        "failure",
        "2023-11-14T22:14:20Z",
    )
    assert (made.output["title"], made.output["text"]) == ("Failed", "Because.")
    assert made.actions == []
    assert mine.repository.calls == 2


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (50, 1), (51, 2), (120, 3)])
def test_annotations_go_out_fifty_at_a_time(github: GitHub, count: int, requests: int) -> None:
    mine = ours(github)
    check.create(mine.repository, a_check(mine.commit, annotations=faults(count)))
    (made,) = mine.theirs.checks(mine.commit)
    assert [each["message"] for each in made.annotations] == [f"number {n}" for n in range(count)]
    assert mine.repository.calls == requests


def test_annotations_that_are_there_are_not_added_again(github: GitHub) -> None:
    mine = ours(github)
    number = check.create(mine.repository, a_check(mine.commit, annotations=faults(30)))
    for _ in range(2):
        check.update(mine.repository, number, a_check(mine.commit, annotations=faults(90), title="More"))
    (made,) = mine.theirs.checks(mine.commit)
    assert [each["message"] for each in made.annotations] == [f"number {n}" for n in range(90)]
    assert made.output["title"] == "More"


def test_an_annotation_stands_at_its_column(github: GitHub) -> None:
    mine = ours(github)
    here = Annotation(path="train.yml", line=3, column=7, level="warning", title="", message="odd")
    check.create(mine.repository, a_check(mine.commit, annotations=(here,)))
    (made,) = mine.theirs.checks(mine.commit)[0].annotations
    assert (made["start_line"], made["end_line"], made["start_column"]) == (3, 3, 7)
    assert (made["annotation_level"], made["message"]) == ("warning", "odd")


def test_a_check_is_found_by_its_name_and_our_id(github: GitHub) -> None:
    mine = ours(github)
    wanted = a_check(mine.commit)
    assert check.find(mine.repository, wanted) is None
    for n in range(101):
        check.create(mine.repository, a_check(mine.commit, external_id=f"other-{n}"))
    number = check.create(mine.repository, wanted)
    assert check.find(mine.repository, wanted) == number
    assert check.find(mine.repository, a_check(mine.commit, name="pushtrain / other")) is None


def test_a_check_of_an_app_leads_to_the_job(github: GitHub) -> None:
    app = github.app("trainer", "lab/mnist")
    mine = ours(github, auth=client.App(id=str(app.id), private_key=app.private_key))
    check.create(mine.repository, a_check(mine.commit, details_url="https://example.org/job"))
    assert mine.theirs.checks(mine.commit)[0].details_url == "https://example.org/job"


def test_a_check_that_is_gone_is_absent(github: GitHub) -> None:
    mine = ours(github)
    with pytest.raises(GitHubAbsent):
        check.update(mine.repository, 4711, a_check(mine.commit))


def test_what_is_too_long_for_github_is_cut(github: GitHub) -> None:
    mine = ours(github)
    button = Action(label="A label that is far too long", description="d" * 50, identifier="i" * 30)
    long = a_check(
        mine.commit,
        name="n" * 300,
        title="two\nlines " + "t" * 300,
        summary="s" * 70_000,
        text="a line\n" * 20_000,
        actions=(button,) * 4,
        annotations=(
            Annotation(
                path="a.py", line=1, column=None, level="notice", title="x" * 300, message="m" * 70_000
            ),
        ),
    )
    check.create(mine.repository, long)
    (made,) = mine.theirs.checks(mine.commit)
    output = {name: text or "" for name, text in made.output.items()}
    assert len(output["summary"]) <= FIELD_LIMIT
    assert output["text"].endswith("The rest is left out: GitHub takes no more.\n")
    assert "\n" not in output["title"]
    assert [len(each["label"]) for each in made.actions] == [20, 20, 20]


def test_a_text_is_cut_at_a_line_and_outside_of_a_code_fence() -> None:
    assert fitting("short") == "short"
    assert fitting("x" * FIELD_LIMIT) == "x" * FIELD_LIMIT
    for fence in ("```", "~~~~", "  ````python"):
        mark = fence.strip().rstrip("python")
        cut = fitting(f"before\n{fence}\n" + "log line\n" * 100, 500)
        assert len(cut) <= 500
        assert cut.endswith(f"log line\n{mark}\n\nThe rest is left out: GitHub takes no more.\n")
    closed = fitting("```\ncode\n```\n" + "word\n" * 100, 300)
    assert closed.count("```") == 2


def test_a_line_is_one() -> None:
    assert one_line("a\n b\t c ", 10) == "a b c"
    assert one_line("abcdef", 4) == "abc…"
