"""What newcomers ran into."""

from __future__ import annotations

import signal
import time

import pytest
from msgspec.structs import replace

from runner import runs
from tests.answer.scene import TRAINS, Scene, files, train_yml
from tests.answer.test_jobs import SLOW
from tests.engines.project import HELD, wait_for

ALL = {"contents": "write", "checks": "write", "pull_requests": "write", "issues": "write"}


def test_a_train_yml_in_a_folder_trains_what_lies_beside_it(scene: Scene) -> None:
    content: dict[str, str | bytes | None] = {
        "train.py": "raise SystemExit('the wrong one')",
        "models/big/train.yml": train_yml(run=None, entrypoint="train.py"),
        "models/big/train.py": HELD + TRAINS,
    }
    done = scene.job(scene.pushed(content), train_file="models/big/train.yml")
    assert done.code == 0, done.output
    assert "pushtrain run models/big" in scene.summary()


def test_faults_of_a_train_yml_in_a_folder_are_told_on_its_path(scene: Scene) -> None:
    event = scene.pushed({"models/big/train.yml": train_yml(timeout={"run": "soon"})})
    assert scene.job(event, train_file="models/big/train.yml").code == 65
    (annotation,) = scene.check.annotations
    assert annotation["path"] == "models/big/train.yml"


def test_a_base_branch_that_the_author_chose_is_not_trusted(scene: Scene) -> None:
    anybody = {"comment": {"roles": ["read"]}}
    scene.repository.push("loose", files(on=anybody), "Loosen", by="ada")
    scene.repository.push("try", files(), "Try", by="ada", at_s=time.time() - 60)
    pull = scene.repository.pull("try", base="loose", by="ada")
    assert scene.job(scene.comment(pull, "/train", by="eve")).code == 77
    scene.repository.protect("loose")
    assert scene.job(scene.comment(pull, "/train ", by="eve")).code == 77


def test_a_command_that_github_refuses_does_not_harm_the_others(scene: Scene) -> None:
    scene.job(scene.push())
    scene.github.permit(
        scene.token, {"contents": "read", "checks": "write", "pull_requests": "write", "issues": "write"}
    )
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train accuracy=0.8\n/promote digits@1.0.0 production"))
    assert done.code == 79
    assert scene.run.state == "succeeded"
    assert scene.check.conclusion == "success"
    assert any("contents: write" in each for each in scene.answers(pull))


def test_an_answer_that_github_refuses_does_not_harm_the_run(scene: Scene) -> None:
    pull = scene.pull()
    scene.github.fault(status=422, method="POST", path="comments$", times=None)
    done = scene.job(scene.comment(pull, "/train accuracy=0.8\n/train help"))
    assert done.code == 0, done.output
    assert scene.check.conclusion == "success"
    assert scene.project.pushtrain("github", "send").code == 0, (
        "what GitHub refuses for good is not tried for ever"
    )


def test_a_job_that_is_cancelled_while_it_answers_cancels_its_run(scene: Scene) -> None:
    pull = scene.pull(SLOW)
    scene.github.fault(delay_s=3, method="POST", path="comments$", times=1)
    job = scene.start(scene.comment(pull, "/train\n/train help"))
    scene.project.until_prints("begun")
    job.child.send_signal(signal.SIGINT)
    assert job.finish().code == 130
    assert scene.run.state == "cancelled"
    assert scene.check.conclusion == "cancelled"


def test_a_job_that_is_run_again_finds_its_run_though_the_head_moved_and_the_pull_request_closed(
    scene: Scene,
) -> None:
    pull = scene.pull(SLOW)
    event = scene.comment(pull, "/train")
    first = scene.start(event, run_id=5)
    scene.project.until_prints("begun")
    first.child.kill()
    first.child.wait()
    scene.repository.push("try", files(), "Go on", by="ada")
    scene.repository.close(pull.number)
    again = scene.start(event, run_id=5, attempt=2)
    wait_for(
        lambda: "which was there already" in again.output, what="the run is found", told=lambda: again.output
    )
    scene.project.let_go()
    done = again.finish()
    assert done.code == 0, done.output
    assert len(scene.project.run_ids) == 1


def test_the_check_says_soon_that_the_training_runs(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    wait_for(lambda: "running" in str(scene.check.output.get("title")), what="running", within_s=10)
    scene.project.let_go()
    assert job.finish().code == 0


def test_a_run_whose_machine_went_off_is_taken_up_by_the_next_job(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    job.child.kill()
    job.child.wait()
    scene.project.kill("runner.supervise")
    assert scene.job(scene.pushed({"docs/a.md": "a"}, branch="docs")).code == 0
    scene.project.let_go()
    scene.project.until("succeeded")
    assert scene.project.pushtrain("github", "send").code == 0
    assert scene.repository.checks()[0].conclusion == "success"


def test_a_mistake_in_a_comment_makes_no_red_check(scene: Scene) -> None:
    pull = scene.pull()
    assert scene.job(scene.comment(pull, "/train accuracy=abc")).code == 67
    assert scene.repository.checks() == []


def test_a_fault_and_the_run_that_mends_it_have_one_check_name(scene: Scene) -> None:
    head = scene.push(timeout={"run": "soon"})
    assert scene.job(head).code == 65
    faulty = scene.check.name
    assert scene.job(scene.push()).code == 0
    assert scene.check.name == "pushtrain / digits"
    assert faulty in ("pushtrain / digits", "pushtrain / train.yml")


def test_a_form_on_a_branch_takes_the_inputs_of_that_branch(scene: Scene) -> None:
    inputs = {"accuracy": {"type": "number", "default": 0.9}, "note": {"type": "string", "default": ""}}
    commit = scene.repository.push("feat", files(inputs=inputs), "A note", by="ada")
    event = scene.webhooks.workflow_dispatch({"note": "hello"}, ref="refs/heads/feat")
    scene.environ = {"GITHUB_SHA": commit}
    done = scene.job(event)
    assert done.code == 0, done.output
    assert scene.run.inputs["note"] == "hello"


def test_a_button_belongs_to_one_train_yml(scene: Scene) -> None:
    scene.job(scene.push())
    rerun = scene.webhooks.check_run_rerequested(run_id=scene.run.id)
    scene.repository.push("main", {"models/big/train.yml": train_yml()}, "Another", by="ada")
    done = scene.job(rerun, train_file="models/big/train.yml")
    assert (done.code, len(scene.project.run_ids)) == (0, 1)


def test_nothing_a_run_says_is_a_command_after_the_run_either(scene: Scene) -> None:
    done = scene.job(scene.push("raise ValueError('##[error]forged ::error::forged')"))
    word = done.output.partition("::stop-commands::")[2].partition("\n")[0]
    assert "forged" not in done.output.partition(f"\n::{word}::")[2]


def test_why_a_command_failed_is_in_the_log_and_the_summary(scene: Scene) -> None:
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train", by="eve"))
    assert "needs the role write" in done.output
    assert "needs the role write" in scene.summary()


def test_what_cannot_be_planned_is_in_the_summary_and_an_annotation_of_the_job(scene: Scene) -> None:
    done = scene.job(scene.push(timeout={"run": "soon"}))
    assert "::error title=Pushtrain::train.yml:" in done.output
    assert "timeout" in scene.summary()


def test_a_faulty_train_yml_on_the_base_branch_is_told_in_the_thread(scene: Scene) -> None:
    pull = scene.pull()
    scene.push(timeout={"run": "soon"})
    assert scene.job(scene.comment(pull, "/train")).code == 65
    assert "has faults" in scene.answers(pull)[-1]
    assert scene.reactions(pull) == ["eyes", "confused"]


def test_a_result_that_is_returned_says_that_nothing_was_trained(scene: Scene) -> None:
    scene.job(scene.push())
    scene.job(scene.webhooks.workflow_dispatch({}))
    assert "nothing was trained" in scene.summary()


@pytest.mark.parametrize("attempt", ["x", ""])
def test_an_attempt_that_is_no_number_is_the_first(scene: Scene, attempt: str) -> None:
    scene.environ = {"GITHUB_RUN_ATTEMPT": attempt}
    assert scene.job(scene.push()).code == 0


def test_a_train_file_that_is_not_there_fails_the_job(scene: Scene) -> None:
    done = scene.job(scene.push(), train_file="nope.yml")
    assert done.code == 64
    assert "nope.yml" in done.output


def test_two_jobs_for_one_command_at_the_same_moment_start_it_once(scene: Scene) -> None:
    pull = scene.pull()
    comment = scene.repository.comment(pull.number, "/train accuracy=0.8\n/train help", by="ada")
    jobs = [
        scene.start(scene.told(comment, pull), run_id=5),
        scene.start(scene.told(comment, pull, edited=True), run_id=6),
    ]
    assert [job.finish().code for job in jobs] == [0, 0]
    assert len(scene.project.run_ids) == 1
    assert len(scene.repository.checks()) == 1
    assert len(scene.answers(pull)) == 2, "the report, and the help"


def test_a_home_that_cannot_be_written_is_one_sentence(scene: Scene) -> None:
    scene.environ = {"PUSHTRAIN_HOME": "/proc/nope"}
    done = scene.job(scene.push())
    assert done.code == 64
    assert "Traceback" not in done.output
    assert "/proc/nope" in done.output


@pytest.mark.parametrize("path", ["../train.yml", "/train.yml"])
def test_a_train_file_outside_of_the_repository_is_refused(scene: Scene, path: str) -> None:
    assert scene.job(scene.push(), train_file=path).code == 64
    assert scene.github.api_calls() == []


def test_an_answer_that_is_neither_yes_nor_no_is_refused(scene: Scene) -> None:
    done = scene.job(scene.push(), detach="maybe")
    assert done.code == 64
    assert "maybe" in done.output


def test_a_detached_run_says_who_will_say_the_rest(scene: Scene) -> None:
    assert scene.job(scene.push(SLOW), detach="true").code == 0
    assert "said by the next job" in str(scene.check.output)
    scene.project.until_prints("begun")
    scene.project.let_go()
    scene.project.until("succeeded")


def test_a_release_that_nobody_may_make_is_given_up_and_told_of_after_two_weeks(scene: Scene) -> None:
    scene.token = scene.github.actions_token(scene.repository.name, permissions={**ALL, "contents": "read"})
    assert scene.job(scene.push()).code == 0
    send = ("github", "send")
    assert scene.project.pushtrain(*send).code == 79, "another token may be allowed to"
    assert "whoever may make releases" in str(scene.check.output)
    store, run = scene.project.store, scene.run
    past = tuple(replace(each, started_at_s=each.started_at_s - 15 * 86400) for each in run.stages)
    runs.update(store, run.id, lambda found: replace(found, stages=past))
    done = scene.project.pushtrain(*send)
    assert done.code == 0, done.output
    assert "whoever may make releases" not in str(scene.check.output)
    assert "nobody who may make releases" in str(scene.check.output)
    asked = len(scene.github.api_calls())
    assert scene.project.pushtrain(*send).code == 0
    assert not [each for each in scene.github.api_calls()[asked:] if "/releases" in each.path]
    scene.github.permit(scene.token, ALL)
    assert scene.job(scene.pushed({"docs/a.md": "a"}, branch="docs")).code == 0
    assert "digits@v1.0.0" not in scene.repository.tags
    scene.job(scene.webhooks.workflow_dispatch({}))
    assert "digits@v1.0.0" in scene.repository.tags, "whoever asks for the same again gets it published"
