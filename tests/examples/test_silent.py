"""Horovod on Keras 3 shares nothing while every loss falls: refused when planned, and where it runs, seen."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.examples.newcomer import PUSHTRAIN, shown
from tests.inside.watched import TRAININGS

# Horovod's wheel for this TensorFlow is built within it where nothing is kept from an earlier session.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRAIN_YML = """\
name: silent
environment:
  pip: [tensorflow-cpu==2.18.1, horovod==0.28.1]
{legacy_keras}
run: python keras_fit.py
env: {{SHARE: horovod, TF_CPP_MIN_LOG_LEVEL: "3"}}
resources: {{nodes: 2}}
distribution: {{type: mpi, processes_per_node: 1}}
"""


def run(folder: Path, home: Path, *, legacy_keras: str) -> subprocess.CompletedProcess[str]:
    """`pushtrain run` on a repository with the training that is silent on Keras 3."""
    repository = folder / "repository"
    repository.mkdir()
    (repository / "train.yml").write_text(TRAIN_YML.format(legacy_keras=legacy_keras))
    shutil.copy(TRAININGS / "keras_fit.py", repository)
    named = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "silent")):
        subprocess.run(["git", *named, *arguments], cwd=repository, check=True)
    environment = {**os.environ, "PUSHTRAIN_HOME": str(home)}
    return subprocess.run(
        [PUSHTRAIN, "run", repository], env=environment, capture_output=True, text=True, check=False
    )


def test_it_is_refused_before_anything_is_built(tmp_path: Path, home: Path) -> None:
    refused = run(tmp_path, home, legacy_keras="")
    assert refused.returncode == 67
    assert "legacy_keras: true" in refused.stderr + refused.stdout


def test_where_it_runs_all_the_same_the_run_fails_and_says_why(tmp_path: Path, home: Path) -> None:
    failed = run(tmp_path, home, legacy_keras="  legacy_keras: false")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    (attempt,) = shown(home)["attempts"]
    assert attempt["outcome"] == "diverged"
    assert "the weights of rank 1 differ from rank 0's after step 2" in attempt["cause"]
    assert "gradients are not shared between the ranks" in attempt["cause"]
    assert "environment.legacy_keras: true" in attempt["cause"]


def test_the_cure_that_it_names_works(tmp_path: Path, home: Path) -> None:
    cured = run(tmp_path, home, legacy_keras="  legacy_keras: true")
    assert cured.returncode == 0, cured.stdout + cured.stderr
    assert shown(home)["warnings"] == []
