"""The job and the run: a job that is cancelled, killed, run again, detached; a run that is superseded."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.answer.scene import TRAINS, Scene, files, train_yml
from tests.engines.project import HELD, wait_for

SLOW = """
import json, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open("outputs/saved", "w").write("saved"), sys.exit(0)))
print("begun", flush=True)
hold()
with open("logs/metrics.jsonl", "w") as log:
    log.write(json.dumps({"step": 1, "accuracy": 0.9}) + "\\n")
import pathlib
pathlib.Path("outputs/model").mkdir()
pathlib.Path("outputs/model/weights.bin").write_bytes(b"w")
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_job_cancels_its_run_and_says_so_at_once(scene: Scene, signum: signal.Signals) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    scene.until_check(status="in_progress")
    job.child.send_signal(signum)
    done = job.finish(within_s=7)
    assert done.code == 130, done.output
    assert scene.run.state == "cancelled"
    assert "the job was cancelled" in scene.run.reason
    assert scene.project.outputs()["outputs/saved"] == b"saved"
    assert scene.check.conclusion == "cancelled"


def test_a_job_that_is_killed_while_it_cancels_leaves_a_run_that_ends_and_a_check_that_says_so(
    scene: Scene,
) -> None:
    script = SLOW.replace("sys.exit(0)", "time.sleep(3)")
    event = scene.push(script)
    job = scene.start(event)
    scene.project.until_prints("begun")
    scene.until_check(status="in_progress")
    job.child.send_signal(signal.SIGINT)
    wait_for(lambda: "cancel" in str(scene.check.output), what="a check that tells of it")
    job.child.kill()
    job.child.wait()
    scene.project.until("cancelled")
    scene.project.pushtrain("github", "send")
    assert scene.repository.checks()[0].conclusion == "cancelled", "the next job says the last word"


def test_a_job_that_is_run_again_follows_the_run_that_goes_on(scene: Scene) -> None:
    event = scene.push(SLOW)
    first = scene.start(event, run_id=5)
    scene.project.until_prints("begun")
    first.child.kill()
    first.child.wait()
    again = scene.start(event, run_id=5, attempt=2)
    wait_for(lambda: "which was there already" in again.output, what="the run is found")
    scene.project.let_go()
    done = again.finish()
    assert done.code == 0, done.output
    assert len(scene.project.run_ids) == 1
    assert len(scene.repository.checks()) == 1
    assert scene.check.conclusion == "success"


def test_a_job_that_is_run_again_takes_up_a_run_whose_supervisor_died(scene: Scene) -> None:
    event = scene.push(SLOW)
    first = scene.start(event, run_id=5)
    scene.project.until_prints("begun")
    first.child.kill()
    first.child.wait()
    scene.project.kill("runner.supervise")
    again = scene.start(event, run_id=5, attempt=2)
    wait_for(lambda: scene.project.processes("runner.supervise"), what="a new supervisor")
    scene.project.let_go()
    assert again.finish().code == 0
    assert len(scene.project.run_ids) == 1


def test_a_supervisor_that_dies_is_replaced_by_the_job_that_follows(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    scene.project.kill("runner.supervise")
    wait_for(
        lambda: scene.project.processes("runner.supervise"), what="a new supervisor", told=lambda: job.output
    )
    scene.project.let_go()
    done = job.finish()
    assert done.code == 0, done.output


def test_a_failed_run_is_started_anew_by_a_job_that_is_run_again(scene: Scene) -> None:
    event = scene.push("raise SystemExit(3)")
    assert scene.job(event, run_id=5).code == 3
    assert scene.job(event, run_id=5, attempt=2).code == 3
    assert len(scene.project.run_ids) == 2


def test_a_newer_push_supersedes_the_older_run(scene: Scene) -> None:
    group = {"group": "${{ ref }}", "cancel-in-progress": True}
    older = scene.start(scene.push(SLOW, concurrency=group))
    scene.project.until_prints("begun")
    newer = scene.job(scene.push(TRAINS, concurrency=group))
    assert newer.code == 0, newer.output
    assert older.finish().code == 130
    first, second = scene.project.run_ids
    shown = scene.project.pushtrain("show", first).output
    assert "superseded" in shown
    assert second in shown
    assert [each.conclusion for each in scene.repository.checks()] == ["cancelled", "success"]


def test_a_detached_job_returns_at_once_and_the_next_job_says_the_rest(scene: Scene) -> None:
    done = scene.job(scene.push(SLOW), detach="true")
    assert done.code == 0, done.output
    assert scene.outputs()["run-id"] == scene.project.run_ids[0]
    scene.project.until_prints("begun")
    assert scene.check.status != "completed"
    scene.project.let_go()
    scene.project.until("succeeded")
    sent = scene.project.pushtrain("github", "send")
    assert sent.code == 0, sent.output
    assert scene.check.conclusion == "success"
    assert not scene.repository.release("digits@v1.0.0").draft


def test_a_detached_job_with_a_lasting_token_leaves_a_watcher(scene: Scene) -> None:
    scene.token = scene.github.personal_token("ada")
    assert scene.job(scene.push(SLOW), detach="true").code == 0
    scene.project.until_prints("begun")
    scene.project.let_go()
    wait_for(lambda: scene.repository.releases(), what="a release", told=scene.project.told)
    wait_for(lambda: not scene.repository.releases()[0].draft, what="published")


def test_an_equal_run_that_finished_is_returned(scene: Scene) -> None:
    scene.job(scene.push())
    again = scene.job(scene.webhooks.workflow_dispatch({}))
    assert again.code == 0, again.output
    assert len(scene.project.run_ids) == 1
    fresh = scene.job(scene.webhooks.workflow_dispatch({}), fresh="true")
    assert fresh.code == 0, fresh.output
    assert len(scene.project.run_ids) == 2


def test_the_form_trains_with_its_inputs(scene: Scene) -> None:
    done = scene.job(scene.webhooks.workflow_dispatch({"accuracy": "0.7", "fresh": "false"}))
    assert done.code == 0, done.output
    assert scene.run.inputs == {"accuracy": 0.7}
    unknown = scene.job(scene.webhooks.workflow_dispatch({"acuracy": "0.7"}))
    assert unknown.code == 67
    assert "pushtrain init --github" in unknown.output


def test_the_clock_trains_where_train_yml_has_its_line(scene: Scene) -> None:
    head = scene.repository.push("main", {"train.yml": train_yml(on={"schedule": ["0 3 * * *"]})}, "Nightly")
    event = scene.webhooks.schedule("0 3 * * *")
    done = scene.job(event)
    assert done.code == 0, done.output
    assert head
    assert scene.run.state == "succeeded"
    other = scene.job(scene.webhooks.schedule("0 4 * * *"))
    assert (other.code, len(scene.project.run_ids)) == (0, 1)


def test_the_buttons_of_a_check_cancel_and_train_again(scene: Scene) -> None:
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    check = scene.until_check(status="in_progress")
    wait_for(lambda: scene.project.run.state == "running", what="running")
    cancel = scene.webhooks.check_run_requested_action("cancel", run_id=scene.run.id, check=check.id)
    assert scene.job(cancel).code == 0
    assert job.finish().code == 130
    again = scene.start(
        scene.webhooks.check_run_requested_action("rerun", run_id=scene.run.id, check=check.id)
    )
    wait_for(lambda: len(scene.project.run_ids) == 2, what="a second run", told=lambda: again.output)
    scene.project.until_prints("begun")
    scene.project.let_go()
    assert again.finish().code == 0
    assert scene.run.state == "succeeded"


def test_a_button_of_somebody_who_may_not_write_does_nothing(scene: Scene) -> None:
    scene.job(scene.push())
    rerun = scene.webhooks.check_run_requested_action("rerun", run_id=scene.run.id, by="eve")
    assert scene.job(rerun).code == 77
    assert len(scene.project.run_ids) == 1


def test_the_run_has_no_token_of_the_job_and_no_mark_of_the_runner(scene: Scene) -> None:
    scene.environ = {"RUNNER_TRACKING_ID": "github_1", "ACTIONS_RUNTIME_TOKEN": "runtime-secret"}
    job = scene.start(scene.push(SLOW))
    scene.project.until_prints("begun")
    pids = [
        *scene.project.processes("runner.supervise"),
        *scene.project.processes("runner.host"),
        *scene.project.ranks(),
    ]
    assert len(pids) >= 3
    for pid in pids:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        for secret in (scene.token.encode(), b"runtime-secret", b"RUNNER_TRACKING_ID"):
            assert secret not in environ, Path(f"/proc/{pid}/cmdline").read_bytes()
    scene.project.let_go()
    assert job.finish().code == 0


def test_a_finished_result_is_told_of_on_the_commit_that_asks_for_it(scene: Scene) -> None:
    scene.job(scene.push())
    pull = scene.pull(release=None)
    scene.job(scene.comment(pull, "/train accuracy=0.8"))
    scene.repository.push("again", files(release=None), "The same", by="ada", at_s=1_700_000_000)
    other = scene.repository.pull("again", by="ada")
    done = scene.job(scene.comment(other, "/train accuracy=0.8"))
    assert done.code == 0, done.output
    assert "which was there already" in done.output
    assert "trained" not in done.output
    assert scene.check.commit == scene.repository.head("again")
    assert scene.check.conclusion == "success"
    assert len(scene.answers(other)) == 1
    assert scene.reactions(other) == ["eyes", "rocket"]


def test_data_beside_the_source_is_found_by_the_run(scene: Scene) -> None:
    script = """
import os, pathlib
print(pathlib.Path(os.environ["PUSHTRAIN_DATASET_DIGITS"], "a.txt").read_text())
"""
    content = {
        **files(script, datasets={"digits": {"source": "./data"}}, metrics=None, release=None, source="src"),
        "src/train.py": HELD + script,
        "data/a.txt": "forty-two",
    }
    done = scene.job(scene.pushed({**content, "train.py": None}))
    assert done.code == 0, done.output
    assert "forty-two" in done.output


def test_two_steps_of_one_job_start_a_run_each(scene: Scene) -> None:
    event = scene.push()
    scene.job(event, run_id=5, key="1", fresh="true")
    scene.job(event, run_id=5, attempt=2, key="2", fresh="true")
    assert len(scene.project.run_ids) == 2
