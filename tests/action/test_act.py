"""The workflows as shipped, from an event to what GitHub shows of it, each with no more than its own permissions."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import document, spec
from runner.cli import main
from runner.workflows import Setting, workflows
from tests.services.act import ROOT, Act
from tests.services.events import Webhooks
from tests.services.github import GitHub, Repository

pytestmark = pytest.mark.timeout(240)

SHIPPED = ROOT / "workflows"

TRAIN_YML = """\
name: digits
on:
  push: {branches: [main]}
  comment: {command: /train, roles: [write]}
  dispatch: true
inputs:
  learning-rate: {type: number, default: 0.1}
  epochs: {type: integer, default: 5}
  optimizer: {options: [adam, sgd], default: adam}
environment: {base: "python:3.11-slim"}
run: python train.py ${{ inputs.learning-rate }} ${{ inputs.epochs }} ${{ inputs.optimizer }}
metrics: {primary: accuracy, goal: maximize, fail_if: "< 0.5"}
release: {model: digits, path: outputs/model.json, framework: plain, when: {branch: main}}
"""
TRAIN_PY = """\
import hashlib, json, os, sys, time
rate, epochs, optimizer = sys.argv[1:]
print("training with", rate, epochs, optimizer, flush=True)
print("::error::forged by the training")
print("::set-output name=state::forged")
if os.environ.get("KEY"):
    print("the key has", hashlib.sha256(os.environ["KEY"].encode()).hexdigest(), flush=True)
with open(os.path.join(os.environ["PUSHTRAIN_LOGS"], "metrics.jsonl"), "w") as log:
    for step in range(min(int(epochs), 8)):
        print(json.dumps({"step": step, "accuracy": 0.6 + 0.05 * step}), file=log)
with open(os.path.join(os.environ["PUSHTRAIN_OUTPUTS"], "model.json"), "w") as model:
    json.dump({"rate": float(rate)}, model)
if int(epochs) > 100:
    time.sleep(int(epochs))
"""
FILES = {"train.yml": TRAIN_YML, "train.py": TRAIN_PY}


@pytest.fixture
def repo(github: GitHub) -> Repository:
    made = github.repository("ada/digits", FILES)
    made.grant("ada", "admin")
    return made


@pytest.fixture
def webhooks(github: GitHub, node_modules: Path, repo: Repository) -> Webhooks:
    return Webhooks(node_modules=node_modules, head=repo.head(), server_url=github.url, api_url=github.url)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The machine's state; of a test that failed no run is left behind."""
    home = tmp_path / "home"
    yield home
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if str(home).encode() in _bytes(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.parent.name), signal.SIGKILL)


def token_of(github: GitHub, workflow: Path) -> str:
    """A GITHUB_TOKEN with just the permissions that the workflow asks for."""
    parsed: Any = document.parse(workflow.read_text(), path=workflow.name).data
    (job,) = parsed["jobs"].values()
    asked = {name: access for name, access in job["permissions"].items() if name != "id-token"}
    return github.actions_token(permissions=asked)


PUSH, COMMENT, DISPATCH, PROMOTE = (
    SHIPPED / f"{name}.yml" for name in ("train-on-push", "train-on-comment", "train-dispatch", "promote")
)


def test_a_push_is_trained_checked_and_released(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path
) -> None:
    commit = repo.push("main", {"x": "1"}, "Train longer")
    result = act(PUSH, webhooks.push(commit), token=token_of(github, PUSH), home=home)
    assert result.jobs == {"train": "success"}, result
    (check,) = repo.checks(commit)
    assert check.conclusion == "success"
    assert repo.release("digits@v1.0.0").draft is False
    assert "digits@v1.0.0" in repo.tags
    assert result.outputs["state"] == "succeeded"
    assert result.outputs["model"] == "digits@1.0.0"
    assert json.loads(result.outputs["metrics"]) == {"accuracy": 0.8}
    assert check.external_id == result.outputs["run-id"]
    assert "digits" in result.summary


def test_small_outputs_and_the_report_become_an_artifact(
    act: Act, github: GitHub, webhooks: Webhooks, home: Path
) -> None:
    result = act(PUSH, webhooks.push(webhooks.head), token=token_of(github, PUSH), home=home)
    (files,) = result.artifacts.values()
    assert list(result.artifacts) == [f"pushtrain-{result.outputs['run-id']}"]
    assert json.loads(files["outputs/model.json"]) == {"rate": 0.1}
    assert b"accuracy" in files["report.md"]


def test_a_github_without_artifacts_fails_no_training(
    act: Act, github: GitHub, webhooks: Webhooks, home: Path
) -> None:
    env = {"AS_ON_ENTERPRISE_SERVER": "true"}
    result = act(PUSH, webhooks.push(webhooks.head), token=token_of(github, PUSH), home=home, env=env)
    assert "not currently supported on GHES" in result.log
    assert result.artifacts == {}
    assert result.jobs == {"train": "success"}


def test_what_the_training_prints_is_no_command_to_the_runner(
    act: Act, github: GitHub, webhooks: Webhooks, home: Path
) -> None:
    result = act(PUSH, webhooks.push(webhooks.head), token=token_of(github, PUSH), home=home)
    assert "training with 0.1 5 adam" in result.log + result.summary + str(result)
    assert result.errors == ()
    assert result.outputs["state"] == "succeeded"


@pytest.mark.parametrize("deleted", [False, True])
def test_a_push_that_is_to_be_skipped_takes_no_runner(
    act: Act, github: GitHub, webhooks: Webhooks, home: Path, deleted: bool
) -> None:
    message = "Words only\n\n[skip train]" if not deleted else "x"
    event = webhooks.push(webhooks.head, message=message, deleted=deleted)
    result = act(PUSH, event, token=github.token, home=home)
    assert result.jobs.get("train", "skipped") == "skipped", result
    assert github.api_calls() == []


def test_a_comment_trains_the_pull_request(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path
) -> None:
    commit = repo.push("faster", {"x": "2"}, by="ada", at_s=time.time() - 60)
    pull = repo.pull("faster", by="ada")
    said = repo.comment(pull.number, "/train learning-rate=0.2 optimizer=sgd", by="ada")
    event = webhooks.issue_comment(said.body, pull=pull.number, id=said.id, at_s=said.created_at_s)
    result = act(COMMENT, event, token=token_of(github, COMMENT), home=home)
    assert result.jobs == {"train": "success"}, result
    assert repo.checks(commit)[-1].conclusion == "success"
    assert {each.content for each in said.reactions} >= {"rocket"}
    report = repo.comments(pull.number)[-1]
    assert report.by.login == "github-actions[bot]"
    assert "0.8" in report.body
    assert repo.releases() == []


@pytest.mark.parametrize(
    ("body", "on_pull", "kind"),
    [
        ("Looks good, and the training is fine", True, "User"),
        ("/train", False, "User"),
        ("/train", True, "Bot"),
    ],
)
def test_other_comments_take_no_runner(
    act: Act, github: GitHub, webhooks: Webhooks, home: Path, body: str, on_pull: bool, kind: Any
) -> None:
    event = webhooks.issue_comment(body, pull=1 if on_pull else None, kind=kind)
    result = act(COMMENT, event, token=github.token, home=home)
    assert result.jobs.get("train", "skipped") == "skipped", result
    assert github.api_calls() == []


def test_the_form_trains_with_what_was_filled_in(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path
) -> None:
    inputs = {"learning-rate": "0.3", "epochs": "2", "optimizer": "sgd", "fresh": "true"}
    event = webhooks.workflow_dispatch(inputs)
    result = act(DISPATCH, event, token=token_of(github, DISPATCH), home=home)
    assert result.jobs == {"train": "success"}, result
    assert json.loads(result.outputs["metrics"]) == {"accuracy": 0.65}
    assert repo.releases()[0].tag == "digits@v1.0.0"


def test_a_version_is_promoted_by_its_form(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path
) -> None:
    act(PUSH, webhooks.push(webhooks.head), token=token_of(github, PUSH), home=home)
    inputs = {"model": "digits", "version": "1.0.0", "stage": "production"}
    result = act(PROMOTE, webhooks.workflow_dispatch(inputs), token=token_of(github, PROMOTE), home=home)
    assert result.jobs == {"promote": "success"}, result
    assert "digits#production#1" in repo.tags


def test_a_form_with_a_shell_line_in_it_starts_nothing(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path, tmp_path: Path
) -> None:
    evil = f'$(touch {tmp_path}/pwned)`touch {tmp_path}/pwned`";touch {tmp_path}/pwned;\n::error::forged\n'
    inputs = {"model": evil, "version": evil, "stage": evil}
    result = act(PROMOTE, webhooks.workflow_dispatch(inputs), token=token_of(github, PROMOTE), home=home)
    assert result.jobs == {"promote": "failure"}, result
    assert not (tmp_path / "pwned").exists()
    assert repo.tags == {}


def test_events_that_are_shell_lines_are_text(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path, tmp_path: Path
) -> None:
    evil = f"$(touch {tmp_path}/pwned)`touch {tmp_path}/pwned`'\";touch {tmp_path}/pwned;"
    pull = repo.pull(_branch(repo, "a$(touch${IFS}pwned)`id`"), by="ada")
    body = f"/train learning-rate='{evil}'\n/train {evil}\n/promote {evil} {evil}\n::stop-commands::x\n{evil}"
    said = repo.comment(pull.number, body, by="ada")
    event = webhooks.issue_comment(body, pull=pull.number, id=said.id, at_s=said.created_at_s)
    act(COMMENT, event, token=token_of(github, COMMENT), home=home)
    push = webhooks.push(
        repo.head("a$(touch${IFS}pwned)`id`"), branch="a$(touch${IFS}pwned)`id`", message=evil
    )
    act(PUSH, push, token=token_of(github, PUSH), home=home)
    assert list(tmp_path.rglob("pwned")) == []
    assert repo.checks() == []


def _branch(repo: Repository, name: str) -> str:
    repo.push(name, {"x": "3"}, at_s=time.time() - 60)
    return name


def test_secrets_of_train_yml_reach_the_training_and_no_log(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path, tmp_path: Path
) -> None:
    text = TRAIN_YML + "secrets: [KEY]\n"
    commit = repo.push("main", {"train.yml": text})
    made = {each.name: each for each in workflows(spec.parse(text), Setting())}["train-on-push.yml"]
    workflow = tmp_path / made.name
    workflow.write_text(made.text or "")
    key = 'it\'s a $KEY\nof "two" lines'
    result = act(
        workflow, webhooks.push(commit), token=token_of(github, workflow), home=home, secrets={"KEY": key}
    )
    assert result.jobs == {"train": "success"}, result
    log = "".join(path.read_text() for path in home.rglob("rank-0.log"))
    assert "the key has" in log
    assert 'of "two" lines' not in log + str(result)


def test_a_cancelled_job_cancels_its_run_and_says_so(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path
) -> None:
    running = act.start(
        DISPATCH, webhooks.workflow_dispatch({"epochs": "1000"}), token=token_of(github, DISPATCH), home=home
    )
    try:
        running.wait_for("training with")
        step = running.step()
        assert b"runner.cli\0github\0event" in Path(f"/proc/{step}/cmdline").read_bytes()
        started_s = time.monotonic()
        os.kill(step, signal.SIGINT)  # what the runner does, to this process alone
        result = running.wait()
    finally:
        running.stop()
    assert time.monotonic() - started_s < 7.5
    assert result.jobs == {"train": "failure"}
    assert repo.checks()[-1].conclusion == "cancelled"
    (files,) = result.artifacts.values()
    assert "outputs/model.json" in files


def test_a_detached_run_outlives_its_job(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, home: Path, tmp_path: Path
) -> None:
    workflow = tmp_path / "detached.yml"
    workflow.write_text(
        DISPATCH.read_text().replace("        with:\n", "        with:\n          detach: true\n")
    )
    event = webhooks.workflow_dispatch({"epochs": "1000"})
    token = token_of(github, workflow)
    result = act(workflow, event, token=token, home=home)
    assert result.jobs == {"train": "success"}, result
    run_id = result.outputs["run-id"]
    (supervisor,) = [
        path.parent
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"runner.supervise\0{run_id}".encode() in _bytes(path)
    ]
    told = (supervisor / "environ").read_bytes()
    assert b"RUNNER_TRACKING_ID" not in told
    assert b"PYTHONSAFEPATH=1" in told
    assert token.encode() not in told
    assert main(["cancel", run_id, "--kill", "--store", str(home / "store")]) == 0


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.slow
def test_a_real_training_goes_from_a_push_to_a_release(
    act: Act, github: GitHub, node_modules: Path, home: Path, tmp_path: Path
) -> None:
    example = ROOT / "examples" / "sklearn-digits"
    files = {path.name: path.read_text() for path in example.iterdir() if path.is_file()}
    repo = github.repository("ada/digits", {**files, "train.yml": files["train.yml"] + "on: push\n"})
    webhooks = Webhooks(node_modules=node_modules, server_url=github.url, api_url=github.url)
    env = {"UV_CACHE_DIR": str(Path.home() / ".cache" / "uv")}
    event = webhooks.push(repo.head())
    result = act(PUSH, event, token=token_of(github, PUSH), home=home, env=env, network=True)
    assert result.jobs == {"train": "success"}, result
    assert json.loads(result.outputs["metrics"])["accuracy"] > 0.9
    assert repo.checks()[-1].conclusion == "success"
    release = repo.release("sklearn-digits@v1.0.0")
    assert "model.joblib" in {asset.name for asset in release.assets}
