"""The examples as a new user runs them: each a repository of its own, by the real command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.examples.newcomer import clone, pushtrain, shown
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_main_job_trains_a_network_and_registers_it(tmp_path: Path, home: Path) -> None:
    repository = clone("tf-mnist", tmp_path)

    printed = pushtrain(home, "run", repository)

    run = shown(home)
    name, accuracy = run["metric"]
    assert (run["state"], name) == ("succeeded", "accuracy")
    assert accuracy >= 0.95
    assert run["release"] == "tf-dnn-mnist@1.0.0"
    assert "tf-dnn-mnist@1.0.0" in printed
    pushtrain(home, "models", "download", "tf-dnn-mnist", tmp_path / "model")
    assert (tmp_path / "model" / "saved_model.pb").is_file()
    assert "tensorflow 2.15.1" in pushtrain(home, "models", "show", "tf-dnn-mnist")


def test_the_downloaded_model_answers_as_the_trained_one_did(tmp_path: Path, home: Path) -> None:
    repository = clone("tf-mnist", tmp_path)
    pushtrain(home, "run", repository)
    pushtrain(home, "models", "download", "tf-dnn-mnist", tmp_path / "model")
    score = (
        "import sys, tensorflow as tf; from sklearn.datasets import load_digits;"
        "d = load_digits(); m = tf.saved_model.load(sys.argv[1]);"
        "x = tf.constant((d.data / 16).astype('float32'));"
        "s = m.signatures['serving_default']; n = list(s.structured_input_signature[1])[0];"
        "y = list(s(**{n: x}).values())[0].numpy().argmax(1); print((y == d.target).mean())"
    )
    key = shown(home)["environment"].removeprefix("venv ")
    (venv,) = (path for path in (home / "envs").iterdir() if path.name.startswith(key) and path.is_dir())

    scored = subprocess.run(
        [venv / "bin" / "python", "-c", score, tmp_path / "model"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert scored.returncode == 0, scored.stderr
    assert float(scored.stdout) >= 0.95


def test_a_parameter_of_the_small_example_changes_its_metric_and_comparing_shows_it(
    tmp_path: Path, home: Path
) -> None:
    repository = clone("sklearn-digits", tmp_path)

    pushtrain(home, "run", repository)
    first = shown(home)["id"]
    pushtrain(home, "run", repository, "-p", "regularization=1.0")
    second = shown(home)["id"]

    compared = pushtrain(home, "compare", first, second)
    assert "inputs.regularization" in compared
    assert "accuracy" in compared
    assert "did just this" in pushtrain(home, "run", repository)


@pytest.mark.docker
def test_the_small_example_runs_in_an_image_built_from_its_requirements(
    tmp_path: Path, home: Path, docker_engine: DockerEngine, base_image: str
) -> None:
    repository = clone("sklearn-digits", tmp_path)
    docker_engine.docker("tag", base_image, "python:3.11-slim")

    pushtrain(home, "run", repository, "--engine", "docker")

    run = shown(home)
    assert run["state"] == "succeeded"
    assert run["release"] == "sklearn-digits@1.0.0"
    assert docker_engine.docker("ps", "-aq", "--filter", "label=pushtrain.run") == ""
