"""Which packages are refused together, and what is said then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.environment import Demand, Recipe, check_planned
from runner.environment.combinations import KERAS_3_RULES, installed, judge
from runner.errors import PlanError
from tests.environment.specs import planned_image

CURED = {"TF_USE_LEGACY_KERAS": "1"}


def notes(
    recipe: Recipe, distribution: str, folder: Path, env: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    demand = Demand(distribution=distribution, env=env or {})
    return check_planned(recipe, demand, registry="127.0.0.1:9", probes=folder)


@pytest.fixture(autouse=True)
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A docker that has no image at all."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Error: No such image: x' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def recipe(folder: Path, pip: str, more: str = "", *, distribution: str = "mpi") -> Recipe:
    files = {"limits.txt": "tensorflow-cpu==2.18.1\n", "old.txt": "tensorflow<2.16\n"}
    return planned_image(folder, f"pip: [{pip}]\n{more}", files, distribution=distribution)


@pytest.mark.parametrize(
    "pip",
    [
        "horovod, tensorflow-cpu==2.16.1",
        "'horovod[tensorflow]==0.28.1', TensorFlow==2.18.1",
        "horovod, tensorflow-cpu, '-c limits.txt'",
        "horovod, 'tensorflow[and-cuda]==2.21.0'",
    ],
)
def test_horovod_with_keras_3_is_refused_since_it_fails_in_silence(tmp_path: Path, pip: str) -> None:
    with pytest.raises(PlanError, match="trains separate models in silence") as caught:
        notes(recipe(tmp_path, pip), "mpi", tmp_path)

    assert str(caught.value).startswith("train.yml:4: ")
    for cure in ("legacy_keras: true", "tensorflow-cpu==2.15.1", "legacy_keras: false"):
        assert cure in caught.value.tip


@pytest.mark.parametrize(
    "pip", ["tensorflow==2.16.0", "'tensorflow-cpu>=2.18'", "'tensorflow~=2.17,!=2.17.0'"]
)
def test_a_cluster_of_tensorflow_with_keras_3_is_refused(tmp_path: Path, pip: str) -> None:
    with pytest.raises(PlanError, match=r"model\.fit of Keras 3 fails under MultiWorkerMirroredStrategy"):
        notes(recipe(tmp_path, pip, distribution="tensorflow"), "tensorflow", tmp_path)


@pytest.mark.parametrize(
    "pip",
    [
        "tensorflow-cpu==2.15.1",
        "tensorflow",
        "'tensorflow>=2.12'",
        "'tensorflow<2.16'",
        "tensorflow, '-c old.txt'",
        "tensorflow==2.15.1.post1",
        "'tensorflow==2.18.1; python_version<\"3\"'",
        "jax==0.4.30",
    ],
)
@pytest.mark.parametrize("distribution", ["mpi", "tensorflow"])
def test_what_works_or_is_not_decided_yet_is_planned(tmp_path: Path, pip: str, distribution: str) -> None:
    assert notes(recipe(tmp_path, pip, distribution=distribution), distribution, tmp_path) == ()


@pytest.mark.parametrize("distribution", ["none", "torch", "jax", "mpi"])
def test_keras_3_without_horovod_is_nobodys_business(tmp_path: Path, distribution: str) -> None:
    planned = recipe(tmp_path, "tensorflow==2.18.1", distribution=distribution)

    assert notes(planned, distribution, tmp_path) == ()


def test_keras_2_under_a_newer_tensorflow_is_planned_with_what_is_to_be_minded(tmp_path: Path) -> None:
    pip = "horovod, tensorflow-cpu==2.18.1"

    by_field = notes(recipe(tmp_path, pip, "legacy_keras: true"), "mpi", tmp_path)
    by_hand = notes(recipe(tmp_path, f"{pip}, tf_keras==2.18.0"), "mpi", tmp_path, CURED)

    assert by_field == by_hand == (f"legacy_keras: {KERAS_3_RULES['horovod'].limits}",)


@pytest.mark.parametrize(("pip", "env"), [("", CURED), (", tf_keras", {})])
def test_half_of_the_cure_by_hand_is_no_cure(tmp_path: Path, pip: str, env: dict[str, str]) -> None:
    with pytest.raises(PlanError, match="in silence"):
        notes(recipe(tmp_path, f"horovod, tensorflow-cpu==2.18.1{pip}"), "mpi", tmp_path, env)


@pytest.mark.parametrize(
    ("pip", "distribution"),
    [("horovod, tensorflow-cpu==2.18.1", "mpi"), ("tensorflow-cpu==2.18.1", "tensorflow")],
)
def test_who_knows_better_gets_a_note(tmp_path: Path, pip: str, distribution: str) -> None:
    planned = recipe(tmp_path, pip, "legacy_keras: false", distribution=distribution)

    (note,) = notes(planned, distribution, tmp_path)

    assert note.startswith("environment.legacy_keras is false: ")
    assert planned.key == recipe(tmp_path, pip, distribution=distribution).key


@pytest.mark.parametrize(
    ("versions", "distribution", "refused"),
    [
        ({"tensorflow": "2.18.1", "horovod": "0.28.1"}, "mpi", True),
        ({"tensorflow": "2.18.1+nv25.1", "horovod": "0.28.1"}, "mpi", True),
        ({"tensorflow": "2.18.1", "horovod": "0.28.1"}, "none", False),
        ({"tensorflow": "2.15.1", "horovod": "0.28.1"}, "mpi", False),
        ({"tensorflow": "2.18.1"}, "mpi", False),
        ({"tensorflow-cpu": "2.18.1"}, "tensorflow", True),
        ({"tensorflow-cpu": "2.18.1", "tf-keras": "2.18.0"}, "tensorflow", True),
        ({"torch": "2.6.0", "horovod": "0.28.1"}, "mpi", False),
        ({"tensorflow": "of our own"}, "tensorflow", False),
    ],
)
def test_what_an_image_of_the_user_holds_is_judged_by_the_same_rules(
    versions: dict[str, str], distribution: str, refused: bool
) -> None:
    stack = installed(versions, where="team/train:1")

    verdict = judge(stack, distribution=distribution, legacy_keras=None, env={}, own_image=True)

    assert bool(verdict.refused) is refused
    if refused:
        assert verdict.refused.startswith("team/train:1: tensorflow")
        assert "install tf_keras in the image" in verdict.tip
