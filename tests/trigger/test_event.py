import json
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.trigger import Button, Comment, Dispatch, Event, Push, Schedule, read
from tests.services import events
from tests.services.events import NOTHING, Webhooks, environ, write

COMMIT = "1a" * 20
BEFORE = "2b" * 20


def seen(event: events.Event, folder: Path) -> Event | None:
    return read(environ(event, write(folder, event)))


def test_a_push_to_a_branch_tells_the_newest_commit(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.push(COMMIT, branch="try/one", before=BEFORE, message="Train\n\nlonger", by="ada")
    assert seen(event, tmp_path) == Push(
        by="ada",
        commit=COMMIT,
        before=BEFORE,
        branch="try/one",
        tag=None,
        message="Train\n\nlonger",
        deleted=False,
    )


def test_a_new_branch_has_nothing_before_it(webhooks: Webhooks, tmp_path: Path) -> None:
    push = seen(webhooks.push(COMMIT, branch="new"), tmp_path)
    assert isinstance(push, Push)
    assert push.before is None


def test_a_forced_push_keeps_what_was_there_before(webhooks: Webhooks, tmp_path: Path) -> None:
    push = seen(webhooks.push(COMMIT, branch="try", before=BEFORE, forced=True), tmp_path)
    assert isinstance(push, Push)
    assert (push.before, push.commit) == (BEFORE, COMMIT)


@pytest.mark.parametrize("tag_object", [None, "3c" * 20])
def test_a_tag_stands_for_its_commit_also_where_it_is_annotated(
    webhooks: Webhooks, tmp_path: Path, tag_object: str | None
) -> None:
    push = seen(webhooks.push(COMMIT, tag="digits@v1.0.0", tag_object=tag_object), tmp_path)
    assert isinstance(push, Push)
    assert (push.tag, push.branch, push.commit) == ("digits@v1.0.0", None, COMMIT)


def test_a_deleted_branch_has_no_commit(webhooks: Webhooks, tmp_path: Path) -> None:
    push = seen(webhooks.push(COMMIT, branch="old", deleted=True), tmp_path)
    assert isinstance(push, Push)
    assert (push.deleted, push.commit, push.before, push.message) == (True, NOTHING, COMMIT, "")


def test_a_push_of_anything_else_is_of_no_use(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.push(COMMIT, branch="x")
    path = write(tmp_path, event)
    path.write_text(path.read_text().replace("refs/heads/x", "refs/notes/commits"))
    assert read(environ(event, path)) is None


def test_a_comment_tells_who_wrote_it_where_and_when(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.issue_comment("/train", pull=7, by="grace", at_s=1_700_000_000, id=5)
    assert seen(event, tmp_path) == Comment(
        by="grace",
        by_bot=False,
        id=5,
        body="/train",
        pull=7,
        at_s=1_700_000_000.0,
        edited=False,
        url="https://github.com/ada/digits/pull/7#issuecomment-5",
    )


def test_a_comment_on_an_issue_has_no_pull_request(webhooks: Webhooks, tmp_path: Path) -> None:
    comment = seen(webhooks.issue_comment("/train", issue=7), tmp_path)
    assert isinstance(comment, Comment)
    assert comment.pull is None


def test_a_bot_is_known_as_one(webhooks: Webhooks, tmp_path: Path) -> None:
    comment = seen(webhooks.issue_comment("/train", pull=1, by="renovate[bot]", kind="Bot"), tmp_path)
    assert isinstance(comment, Comment)
    assert comment.by_bot


def test_an_edited_comment_counts_from_when_it_was_edited(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.issue_comment("/train", pull=1, action="edited", at_s=100, edited_at_s=200)
    comment = seen(event, tmp_path)
    assert isinstance(comment, Comment)
    assert (comment.edited, comment.at_s) == (True, 200)


def test_a_comment_that_somebody_else_edited_is_nobodys_word(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.issue_comment("/train", pull=1, action="edited", by="mallory", sender="ada")
    assert seen(event, tmp_path) is None


def test_a_deleted_comment_is_of_no_use(webhooks: Webhooks, tmp_path: Path) -> None:
    assert seen(webhooks.issue_comment("/train", pull=1, action="deleted"), tmp_path) is None


def test_a_comment_of_an_account_that_is_gone_is_of_no_use(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.issue_comment("/train", pull=1)
    path = write(tmp_path, event)
    payload = json.loads(path.read_text())
    payload["comment"]["user"] = None
    path.write_text(json.dumps(payload))
    assert read(environ(event, path)) is None


def test_the_longest_comment_and_a_large_payload_are_read(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.issue_comment("\U0001f600" * 65_536, pull=1)
    path = write(tmp_path, event)
    path.write_text(json.dumps({**json.loads(path.read_text()), "more": ["x" * 1000] * 10_000}))
    comment = read(environ(event, path))
    assert isinstance(comment, Comment)
    assert len(comment.body) == 65_536


def test_inputs_of_a_dispatch_are_text_as_github_shows_them(webhooks: Webhooks, tmp_path: Path) -> None:
    inputs = {"lr": "0.10", "augment": True, "fresh": False, "epochs": 3, "size": 0.5, "note": None}
    event = webhooks.workflow_dispatch(inputs, ref="refs/heads/try/one", by="grace")
    assert seen(event, tmp_path) == Dispatch(
        by="grace",
        commit=webhooks.head,
        branch="try/one",
        tag=None,
        inputs={"lr": "0.10", "augment": "true", "fresh": "false", "epochs": "3", "size": "0.5", "note": ""},
    )


def test_a_dispatch_without_inputs_has_none(webhooks: Webhooks, tmp_path: Path) -> None:
    dispatch = seen(webhooks.workflow_dispatch(ref="refs/tags/v1"), tmp_path)
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.inputs, dispatch.branch, dispatch.tag) == ({}, None, "v1")


def test_the_clock_tells_its_line_with_single_blanks(webhooks: Webhooks, tmp_path: Path) -> None:
    assert seen(webhooks.schedule("0  3 * * *"), tmp_path) == Schedule(
        cron="0 3 * * *", commit=webhooks.head, branch="main"
    )


@pytest.mark.parametrize("action", ["cancel", "rerun"])
def test_a_button_names_the_run_that_its_check_is_of(webhooks: Webhooks, tmp_path: Path, action: str) -> None:
    button = seen(webhooks.check_run_requested_action(action, run_id="r1", check=9, by="ada"), tmp_path)
    assert isinstance(button, Button)
    assert (button.by, button.action, button.run_id, button.check) == ("ada", action, "r1", 9)


def test_a_check_that_is_run_again_is_a_button_too(webhooks: Webhooks, tmp_path: Path) -> None:
    button = seen(webhooks.check_run_rerequested(run_id="r1", by="ada"), tmp_path)
    assert button == Button(by="ada", action="rerun", run_id="r1", check=4)


def test_buttons_and_checks_of_others_are_of_no_use(webhooks: Webhooks, tmp_path: Path) -> None:
    assert seen(webhooks.check_run_requested_action("lgtm|26764", run_id="r1"), tmp_path) is None
    assert seen(webhooks.check_run_rerequested(run_id=""), tmp_path) is None
    assert seen(webhooks.example("check_run", 4, "check_run$created"), tmp_path) is None


@pytest.mark.parametrize(
    ("name", "index", "schema"),
    [
        ("pull_request", 12, "pull_request$opened"),
        ("pull_request", 22, "pull_request$synchronize"),
        ("merge_group", 1, "merge_group$checks_requested"),
        ("check_suite", 7, "check_suite$rerequested"),
    ],
)
def test_other_events_start_nothing(
    webhooks: Webhooks, tmp_path: Path, name: str, index: int, schema: str
) -> None:
    assert seen(webhooks.example(name, index, schema), tmp_path) is None


@pytest.mark.parametrize(
    ("name", "index", "schema"),
    [("push", index, "push$event") for index in range(1, 7)]
    + [("issue_comment", index, "issue_comment$created") for index in range(1, 5)]
    + [("workflow_dispatch", 1, "workflow_dispatch$event")],
)
def test_githubs_own_examples_are_read(
    webhooks: Webhooks, tmp_path: Path, name: str, index: int, schema: str
) -> None:
    assert seen(webhooks.example(name, index, schema), tmp_path) is not None


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("push", "{", "event.json: Invalid JSON"),
        ("push", "[]", "event.json: Input should be an object"),
        ("push", '{"ref": "refs/heads/x"}', "event.json: before: Field required"),
        ("push", '{"ref": 5}', "event.json: ref: Input should be a valid string"),
        ("check_run", '{"action": "x", "check_run": {"id": "4"}}', "event.json: check_run.id: "),
        ("issue_comment", '{"comment": {"user": {}}}', "event.json: action: Field required"),
        ("workflow_dispatch", '{"inputs": {"lr": {}}, "sender": {"login": "a"}}', "event.json: inputs.lr: "),
        ("schedule", '{"schedule": ""}', "event.json: schedule: "),
        ("check_run", "null", "event.json: "),
        ("check_run", "[" * 100_000, "event.json: Invalid JSON"),
    ],
)
def test_a_payload_that_is_not_as_documented_is_named_with_its_field(
    tmp_path: Path, name: str, payload: str, message: str
) -> None:
    path = tmp_path / "event.json"
    path.write_text(payload)
    known = {"GITHUB_REF": "refs/heads/main", "GITHUB_SHA": COMMIT}
    with pytest.raises(UsageError) as refused:
        read({**known, "GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": str(path)})
    assert f"{tmp_path}/{message}" in str(refused.value)
    assert name in refused.value.tip


@pytest.mark.parametrize("missing", ["GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH", "GITHUB_SHA", "GITHUB_REF"])
def test_a_variable_that_is_missing_is_named(webhooks: Webhooks, tmp_path: Path, missing: str) -> None:
    event = webhooks.workflow_dispatch()
    variables = environ(event, write(tmp_path, event))
    with pytest.raises(UsageError, match=f"{missing} is not set"):
        read({**variables, missing: ""})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read({"GITHUB_EVENT_NAME": "push", "GITHUB_EVENT_PATH": str(tmp_path / "none.json")})


def test_a_schedule_on_no_branch_is_refused(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.schedule()
    with pytest.raises(UsageError, match="refs/tags/v1"):
        read({**environ(event, write(tmp_path, event)), "GITHUB_REF": "refs/tags/v1"})


def test_a_commit_of_a_job_does_not_name_the_files_it_changes(webhooks: Webhooks, tmp_path: Path) -> None:
    event = webhooks.push(COMMIT, branch="main")
    assert "added" in event.payload["head_commit"]
    written = json.loads(write(tmp_path, event).read_text())
    assert not {"added", "removed", "modified"} & {*written["head_commit"], *written["commits"][0]}


def test_an_event_that_github_would_not_send_is_refused(webhooks: Webhooks) -> None:
    with pytest.raises(AssertionError, match="author_association"):
        webhooks.issue_comment("x", association="FRIEND")
