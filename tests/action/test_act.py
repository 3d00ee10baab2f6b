"""The workflows as shipped, from an event to what GitHub shows of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner import document
from tests.services.act import ROOT, Act
from tests.services.events import Webhooks
from tests.services.github import GitHub, Repository

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
import json, os, sys
rate, epochs, optimizer = sys.argv[1:]
print("training with", rate, epochs, optimizer)
print("::error::forged by the training")
with open(os.path.join(os.environ["PUSHTRAIN_LOGS"], "metrics.jsonl"), "w") as log:
    for step in range(int(epochs)):
        print(json.dumps({"step": step, "accuracy": 0.6 + 0.05 * step}), file=log)
with open(os.path.join(os.environ["PUSHTRAIN_OUTPUTS"], "model.json"), "w") as model:
    json.dump({"rate": float(rate)}, model)
"""
FILES = {"train.yml": TRAIN_YML, "train.py": TRAIN_PY}


@pytest.fixture
def repo(github: GitHub) -> Repository:
    made = github.repository("ada/digits", FILES)
    made.grant("ada", "admin")
    return made


@pytest.fixture
def webhooks(github: GitHub, node_modules: Path, repo: Repository) -> Webhooks:
    return Webhooks(
        node_modules=node_modules, head=repo.head("main"), server_url=github.url, api_url=github.url
    )


def token_of(github: GitHub, workflow: Path) -> str:
    """A GITHUB_TOKEN with just the permissions that the workflow asks for."""
    (job,) = document.parse(workflow.read_text(), path=workflow.name).data["jobs"].values()  # type: ignore[index]
    asked = {name: access for name, access in job["permissions"].items() if name != "id-token"}
    return github.actions_token(permissions=asked)


def test_a_push_is_trained_checked_and_released(
    act: Act, github: GitHub, repo: Repository, webhooks: Webhooks, tmp_path: Path
) -> None:
    workflow = SHIPPED / "train-on-push.yml"
    commit = repo.push("main", {"x": "1"}, "Train longer")
    result = act(workflow, webhooks.push(commit), token=token_of(github, workflow), home=tmp_path / "home")
    print(result)
    assert result.jobs == {"train": "success"}, result
