"""Horovod among the packages: taken out of the lines, and the exact TensorFlow that it is built for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.environment import prepare_venv, wheels
from runner.environment.harmless import require_harmless
from runner.environment.horovod import SCRIPT
from runner.errors import EnvironmentFailed, PlanError
from tests.environment.specs import planned_image, venv

PINNED = "tensorflow-cpu==2.15.1"


@pytest.mark.parametrize(
    "asked",
    [
        "horovod",
        "horovod==0.28.1",
        "'horovod[tensorflow,keras]>=0.28'",
        "'Horovod ~= 0.28.0'",
        "'horovod==0.28.1; python_version>\"3\"'",
    ],
)
def test_horovod_is_taken_out_of_the_lines_that_uv_gets(tmp_path: Path, asked: str) -> None:
    recipe = planned_image(tmp_path, f"pip: [{PINNED}, {asked}, six]")

    assert recipe.pip == (PINNED, "six")
    assert recipe.horovod is not None
    assert (recipe.horovod.version, recipe.horovod.tensorflow) == ("0.28.1", PINNED)
    assert recipe.apt == ("openmpi-bin",)


def test_hashes_and_constraints_may_pin_both(tmp_path: Path) -> None:
    files = {
        "r.txt": f"horovod==0.28.1 \\\n    --hash=sha256:{'0' * 64}\ntensorflow[and-cuda]\n-c limits.txt\n",
        "limits.txt": "tensorflow==2.15.1\n",
    }

    recipe = planned_image(tmp_path, "pip: r.txt", files)

    assert recipe.pip == ("tensorflow[and-cuda]",)
    assert recipe.horovod is not None
    assert recipe.horovod.tensorflow == "tensorflow==2.15.1"


def test_a_horovod_for_another_python_is_none(tmp_path: Path) -> None:
    recipe = planned_image(tmp_path, "pip: [six, 'horovod; python_version<\"3\"']")

    assert recipe.horovod is None
    assert recipe.apt == ()


@pytest.mark.parametrize(
    ("pip", "said", "tip"),
    [
        (f"{PINNED}, horovod==0.27.0", "only Horovod 0.28.1 is known", "horovod==0.28.1"),
        (f"{PINNED}, 'horovod>=0.29'", "only Horovod 0.28.1 is known", "horovod==0.28.1"),
        (f"{PINNED}, horovod, '-c c.txt'", "rules out Horovod 0.28.1", "horovod==0.28.1"),
        (f"{PINNED}, 'horovod[spark]'", "without spark", "packages of their own"),
        (f"{PINNED}, 'horovod @ https://example.com/h.tar.gz'", "not from an address", "horovod==0.28.1"),
        ("torch, horovod", "there is only torch", "distribution: {type: torch}"),
        ("torch, 'horovod[pytorch]'", "without pytorch", "distribution: {type: torch}"),
        ("six, horovod", "environment.pip names none", "add tensorflow-cpu==2.15.1"),
        ("tensorflow, horovod", "leaves its version open", "tensorflow-cpu==2.15.1"),
        ("'tensorflow>=2.15', horovod", "leaves its version open", "tensorflow-cpu==2.15.1"),
        ("tensorflow==2.15.*, horovod", "leaves its version open", "tensorflow-cpu==2.15.1"),
        (f"{PINNED}, tensorflow==2.15.0, horovod", "leaves its version open", "tensorflow-cpu==2.15.1"),
    ],
)
def test_a_horovod_that_cannot_be_built_is_refused_with_the_nearest_that_can(
    tmp_path: Path, pip: str, said: str, tip: str
) -> None:
    with pytest.raises(PlanError) as caught:
        planned_image(tmp_path, f"pip: [{pip}]", {"c.txt": "horovod<0.28\n"})

    assert str(caught.value).startswith("train.yml:4: ")
    assert said in str(caught.value)
    assert tip in caught.value.tip


def test_horovod_beside_conda_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="not for that of conda"):
        planned_image(tmp_path, f"pip: [{PINNED}, horovod]\nconda: [numpy]")


@pytest.mark.parametrize(
    ("other", "same"),
    [("six", True), ("'-i https://example.com/simple'", False), ("numpy==1.26.4", True), (None, False)],
)
def test_the_wheel_depends_on_tensorflow_its_index_and_the_base_and_on_no_other_package(
    tmp_path: Path, other: str | None, same: bool
) -> None:
    first = planned_image(tmp_path, f"pip: [{PINNED}, horovod]")
    more = f"{PINNED}, horovod, {other}" if other else "tensorflow-cpu==2.15.0, horovod"
    second = planned_image(tmp_path, f"pip: [{more}]")
    moved = planned_image(tmp_path, f"pip: [{PINNED}, horovod]", digest="sha256:cd")
    renamed = planned_image(tmp_path, f"base: python:3\npip: [{PINNED}, horovod]")

    assert first.horovod is not None
    assert second.horovod is not None
    assert moved.horovod is not None
    assert (first.horovod.wheel == second.horovod.wheel) is same
    assert first.horovod.wheel != moved.horovod.wheel
    assert first.key != second.key
    assert renamed.horovod == first.horovod


@pytest.mark.parametrize("option", ["--index-url", "--extra-index-url", "--find-links"])
def test_packages_of_two_addresses_are_two_wheels(tmp_path: Path, option: str) -> None:
    from_one, from_other = (
        f"pip: [{PINNED}, horovod, '{option} https://{host}.example/simple']" for host in ("one", "other")
    )
    for planned in (venv, planned_image):
        keys = {
            each.horovod.wheel
            for each in (planned(tmp_path, from_one), planned(tmp_path, from_other))
            if each.horovod is not None
        }
        assert len(keys) == 2


def test_no_horovod_is_built_for_a_fork(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="horovod, which is built from source") as caught:
        require_harmless(planned_image(tmp_path, f"pip: [{PINNED}, horovod]"))

    assert "train once on the base branch" in caught.value.tip


def test_a_tensorflow_that_does_not_exist_is_named_with_its_line(tmp_path: Path) -> None:
    recipe = venv(tmp_path, "pip:\n  - horovod\n  - tensorflow-cpu==2.99.0")
    lines: list[str] = []

    with pytest.raises(
        EnvironmentFailed, match=r"train\.yml:6: tensorflow-cpu==2\.99\.0 cannot be installed"
    ):
        prepare_venv(recipe, root=tmp_path / "envs", log=lines.append)

    assert not [path.name for path in (tmp_path / "envs").iterdir() if path.is_dir()]


def test_the_script_that_builds_is_in_the_package_and_says_what_is_missing(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        ["/bin/sh", SCRIPT, "uv", "python", PINNED, "links", tmp_path / "work", tmp_path / "out"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == "error: g++ is missing\n"


def test_a_wheel_that_cannot_be_built_leaves_nothing(tmp_path: Path) -> None:
    planned = venv(tmp_path, "pip:\n  - horovod\n  - tensorflow-cpu==2.99.0")
    left = tmp_path / "wheels" / f".{planned.horovod.wheel if planned.horovod else ''}.killed"
    left.mkdir(parents=True)
    lines: list[str] = []

    with pytest.raises(
        EnvironmentFailed, match=r"train\.yml:6: tensorflow-cpu==2\.99\.0 cannot be installed"
    ):
        wheels.for_venv(planned, root=tmp_path / "wheels", log=lines.append)

    assert lines[0] == "building Horovod 0.28.1 for tensorflow-cpu==2.99.0: some minutes, once"
    assert not [path.name for path in (tmp_path / "wheels").iterdir() if path.is_dir()]


def test_a_machine_that_cannot_build_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = venv(tmp_path, f"pip: [horovod, {PINNED}]")
    monkeypatch.setenv("PATH", str(tmp_path))

    lines: list[str] = []

    with pytest.raises(EnvironmentFailed, match=r"needs g\+\+, make, mpicxx") as caught:
        wheels.for_venv(planned, root=tmp_path / "wheels", log=lines.append)

    assert caught.value.tip == "sudo apt-get install -y g++ make libopenmpi-dev"


def test_horovod_on_a_machine_without_open_mpi_is_said_so_when_it_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(EnvironmentFailed, match="no mpirun on this machine"):
        venv(tmp_path, f"pip: [horovod, {PINNED}]")


def test_the_key_of_an_environment_tells_one_with_horovod_from_one_without(tmp_path: Path) -> None:
    with_horovod, without = f"pip: [{PINNED}, horovod]", f"pip: [{PINNED}]"

    images = [planned_image(tmp_path, pip, distribution="mpi") for pip in (with_horovod, without)]
    venvs = [venv(tmp_path, pip) for pip in (with_horovod, without)]

    assert images[0].apt == images[1].apt
    assert images[0].key != images[1].key
    assert venvs[0].key != venvs[1].key
