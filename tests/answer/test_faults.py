"""GitHub as it really is: outages, limits, tokens that end, permissions that are missing. No result is lost."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner import runs
from tests.answer.scene import TRAINS, Scene
from tests.answer.test_jobs import SLOW
from tests.engines.project import wait_for


def test_three_times_502_at_every_step_harm_nothing(scene: Scene) -> None:
    pull = scene.pull()
    for method in ("GET", "POST", "PATCH"):
        scene.github.fault(status=502, times=3, method=method)
    done = scene.job(scene.comment(pull, "/train accuracy=0.8"))
    assert done.code == 0, done.output
    assert scene.check.conclusion == "success"
    assert len(scene.repository.checks()) == 1
    assert len(scene.answers(pull)) == 1


def test_what_github_did_before_it_answered_502_is_not_done_twice(scene: Scene) -> None:
    pull = scene.pull()
    scene.github.fault(reset=True, after=True, times=1, method="POST", path="check-runs")
    scene.github.fault(reset=True, after=True, times=1, method="POST", path="comments$")
    done = scene.job(scene.comment(pull, "/train accuracy=0.8"))
    assert done.code == 0, done.output
    assert len(scene.repository.checks()) == 1
    assert len(scene.answers(pull)) == 1


def test_the_secondary_limit_is_waited_for(scene: Scene) -> None:
    scene.github.fault(status=403, retry_after_s=1, method="POST", path="check-runs")
    done = scene.job(scene.push())
    assert done.code == 0, done.output
    assert scene.check.conclusion == "success"


def test_an_outage_while_a_run_goes_on_loses_nothing(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    scene.until_check(status="in_progress")
    scene.github.outage("503")
    scene.project.let_go()
    scene.project.until("succeeded")
    job.child.terminate()  # it would wait for GitHub for minutes
    job.child.kill()
    job.child.wait()
    scene.github.outage(None)
    assert scene.check.status == "in_progress"
    next_job = scene.job(scene.push(TRAINS, branch="try"))
    assert next_job.code == 0, next_job.output
    assert scene.repository.checks()[0].conclusion == "success"
    assert not scene.repository.release("digits@v1.0.0").draft


def test_a_store_that_cannot_be_asked_for_a_moment_costs_the_job_nothing(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    scene.until_check(status="in_progress")
    (turn,) = (scene.project.home / "store" / "github").glob("**/voices/*.json")
    turn.rename(turn.with_suffix(".away"))
    turn.symlink_to(turn)
    runs.update(scene.project.store, scene.run.id, lambda run: replace(run, reason="something new"))
    wait_for(lambda: "how it stands is told later" in job.output, what="a warning", told=scene.project.told)
    turn.unlink()
    turn.with_suffix(".away").rename(turn)
    scene.project.let_go()
    done = job.finish()
    assert done.code == 0, done.output
    assert scene.check.conclusion == "success"


def test_a_token_that_ends_in_the_middle_costs_the_run_nothing(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    scene.until_check(status="in_progress")
    scene.github.expire(scene.token)
    scene.project.let_go()
    done = job.finish()
    assert done.code == 0, done.output
    assert scene.run.state == "succeeded"
    scene.token = scene.github.actions_token(scene.repository.name)
    scene.project.environ["PUSHTRAIN_TOKEN"] = scene.token
    sent = scene.project.pushtrain("github", "send")
    assert sent.code == 0, sent.output
    assert scene.check.conclusion == "success"
    assert not scene.repository.release("digits@v1.0.0").draft


@pytest.mark.parametrize(
    ("missing", "said"),
    [("checks", "checks: write"), ("contents", "contents: write"), ("pull_requests", "write")],
)
def test_a_missing_permission_turns_off_what_needs_it_and_says_so(
    scene: Scene, missing: str, said: str
) -> None:
    granted = {"contents": "write", "checks": "write", "pull_requests": "write", "issues": "write"}
    if missing == "pull_requests":
        granted |= {"pull_requests": "read", "issues": "read"}
    else:
        granted[missing] = "read"
    scene.github.permit(scene.token, granted)
    done = scene.job(
        scene.push(branch="main") if missing == "contents" else scene.comment(scene.pull(), "/train")
    )
    assert done.code == 0, done.output
    assert scene.run.state == "succeeded"
    assert said in scene.summary()


def test_a_publication_that_was_cut_is_taken_up_by_the_next_job(scene: Scene) -> None:
    script = TRAINS + "\npathlib.Path('outputs/model/large.bin').write_bytes(b'x' * 3_000_000)\n"
    scene.github.fault(status=401, method="POST", path="git/tags", times=1)
    scene.github.fault(cut_upload_after_bytes=1_000_000)
    first = scene.job(scene.push(script))
    assert first.code == 0, first.output
    assert "not on GitHub yet" in scene.summary()
    assert scene.repository.releases()[0].draft
    sent = scene.project.pushtrain("github", "send")
    assert sent.code == 0, sent.output
    release = scene.repository.release("digits@v1.0.0")
    assert not release.draft
    before = len(scene.github.api_calls("POST"))
    assert scene.project.pushtrain("github", "send").code == 0
    assert len(scene.github.api_calls("POST")) == before, "nothing is left to say"


def test_github_that_does_not_answer_at_the_start_fails_the_job_with_what_to_do(scene: Scene) -> None:
    event = scene.push()
    scene.github.fault(status=401, times=None)
    done = scene.job(event)
    assert done.code == 79, "GitHub refuses the token"
    assert "tip:" in done.output
    assert scene.project.run_ids == ()


def test_an_attached_run_makes_few_requests(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    scene.project.let_go()
    assert job.finish().code == 0
    calls = [call for call in scene.github.api_calls() if call.path]
    assert len(calls) < 40, [f"{call.method} {call.path}" for call in calls]


def test_a_fork_that_waits_for_github_is_not_started_without_it(scene: Scene) -> None:
    pull = scene.pull()
    event = scene.comment(pull, "/train")
    scene.github.fault(status=404, path="collaborators", times=None)
    assert scene.job(event).code == 77, "who cannot be asked for has no role"
    wait_for(lambda: scene.project.run_ids == (), what="nothing")


def test_without_reactions_a_command_is_answered_all_the_same(scene: Scene) -> None:
    scene.github.permit(
        scene.token, {"contents": "write", "checks": "write", "pull_requests": "write", "issues": "read"}
    )
    pull = scene.pull()
    done = scene.job(scene.comment(pull, "/train"))
    assert done.code == 0, done.output
    assert len(scene.answers(pull)) == 1
    assert "`issues: write`" in scene.summary()
