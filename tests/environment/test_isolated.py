"""The image of a fork's run: the team's own, or one of its own that shares nothing with anybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.environment import (
    Image,
    Recipe,
    check_isolated,
    isolated_name,
    prepare_image,
    prepare_isolated_image,
    remove_isolated_image,
)
from runner.environment.dockerfile import without_caches
from runner.environment.harmless import require_harmless
from runner.errors import EnvironmentFailed, PlanError, SpecError
from tests.environment.specs import image, planned_image
from tests.environment.test_dockerfile import CASES
from tests.services.dockerd import DockerEngine

RUN = "20260101-000000-aaaa"
docker = pytest.mark.docker


@pytest.mark.parametrize("name", CASES)
def test_a_dockerfile_for_a_fork_mounts_no_cache_and_builds_no_package(tmp_path: Path, name: str) -> None:
    files = {"limits.txt": "", "environment.yml": ""}
    text = planned_image(tmp_path, CASES[name], files).dockerfile or ""

    alone = without_caches(text)

    assert "type=cache" not in alone
    assert "pushtrain-uv" not in alone
    assert "UV_COMPILE_BYTECODE" not in alone
    assert alone.count("uv pip install --no-build ") == text.count("uv pip install")
    assert alone.count("RUN ") == text.count("RUN ")


@pytest.fixture
def lines(docker_engine: DockerEngine) -> Iterator[list[str]]:
    """What Docker said; afterwards the run's own image is gone."""
    yield []
    remove_isolated_image(RUN)
    remove_isolated_image(RUN)
    assert not docker_engine.docker("image", "ls", "-q", isolated_name(RUN))


def prepare(recipe: Recipe, folder: Path, lines: list[str], *, registry: str | None = None) -> Image:
    return prepare_isolated_image(
        recipe, name=isolated_name(RUN), folder=folder, registry=registry, log=lines.append
    )


@docker
@pytest.mark.timeout(600)
def test_an_image_that_nobody_has_is_made_for_this_run_alone(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path, lines: list[str]
) -> None:
    recipe = image(tmp_path, f"base: {base_image}\npip: [six==1.15.0]")

    made = prepare(recipe, tmp_path, lines, registry=registry)

    assert made.reference == f"pushtrain/isolated:{RUN}"
    run = ("run", "--rm", "--user", "1000:1000", made.reference)
    assert docker_engine.docker(*run, "python", "-c", "import six; print(six.__version__)") == "1.15.0"
    assert not docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{recipe.key}")
    assert not docker_engine.docker("image", "ls", "-q", f"{registry}/pushtrain-env:{recipe.key}")
    assert not any("push" in line.split() for line in lines)
    again: list[str] = []
    assert prepare(recipe, tmp_path, again, registry=registry) == made
    assert again == []


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kept", ["here", "registry"])
def test_the_teams_own_image_is_taken_where_it_is_the_same(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path, lines: list[str], kept: str
) -> None:
    version = {"here": "2.0.0", "registry": "1.1.1"}[kept]
    recipe = image(tmp_path, f"base: {base_image}\npip: [iniconfig=={version}]")
    shared = registry if kept == "registry" else None
    ours = prepare_image(
        recipe, folder=tmp_path, registry=shared, secrets={}, wheel_cache=tmp_path, log=lambda _: None
    )
    if shared:
        docker_engine.docker("image", "rm", "-f", ours.reference, f"pushtrain/env:{recipe.key}")

    made = prepare(recipe, tmp_path, lines, registry=shared)

    assert made == ours
    assert not any("uv pip install" in line for line in lines)


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "requirements",
    [
        "docopt==0.6.2",
        "--only-binary :none:\ndocopt==0.6.2",
        "--no-binary docopt\ndocopt==0.6.2",
    ],
)
def test_a_package_that_would_run_its_code_while_it_is_built_is_refused(
    base_image: str, tmp_path: Path, lines: list[str], requirements: str
) -> None:
    environment = f"base: {base_image}\npip: requirements.txt"
    recipe = image(tmp_path, environment, {"requirements.txt": f"{requirements}\n"})

    with pytest.raises(EnvironmentFailed, match=r"docopt|--no-binary"):
        prepare(recipe, tmp_path, lines)


@pytest.mark.parametrize(
    "line",
    [
        "git+http://127.0.0.1:9000/x",
        "six @ https://example.com/six-1.17.0-py3-none-any.whl",
        "six@git+ssh://git@example.com/six",
        "https://example.com/six-1.17.0-py3-none-any.whl",
        "six @ ${WHERE}",
        "--index-url http://169.254.169.254/simple",
        "-ihttp://169.254.169.254/simple",
        "--extra-index-url=https://example.com/simple",
        "--find-links https://example.com/wheels",
        "-f https://example.com/wheels",
        "--trusted-host example.com",
        "--only-binary :all: --index-url https://example.com/simple",
        "six==1.17.0 --hash=sha256:00 --index-url https://example.com/simple",
        "six==1.17.0 --config-settings a=b",
        "six===1.17.0 --index-url https://example.com/simple",
    ],
)
def test_a_line_of_a_fork_that_names_an_address_is_refused(tmp_path: Path, line: str) -> None:
    recipe = planned_image(tmp_path, f'pip: ["numpy==2.0.0", "{line}"]')

    with pytest.raises(EnvironmentFailed) as refused:
        require_harmless(recipe)

    named = [row for row in str(refused.value).splitlines() if row.startswith("  train.yml:4: ")]
    assert len(named) == 1
    assert "numpy" not in str(refused.value)
    assert "train once on the base branch" in refused.value.tip


@pytest.mark.parametrize("between", ["\n", "\r", "\v", "\u2028", "  # \r", " \\\n"])
def test_what_would_be_two_lines_is_refused(tmp_path: Path, between: str) -> None:
    line = f"six{between}--index-url https://example.com/simple"
    recipe = replace(planned_image(tmp_path, "pip: [six]"), pip=(line,))

    with pytest.raises(EnvironmentFailed, match="no image is made for a fork"):
        require_harmless(recipe)


def test_a_constraint_that_names_an_address_is_refused_with_its_place(tmp_path: Path) -> None:
    files = {
        "requirements.txt": "six\n-c limits.txt\n",
        "limits.txt": "\nsix @ https://example.com/six-1.17.0-py3-none-any.whl\n",
    }
    recipe = planned_image(tmp_path, "pip: requirements.txt", files)

    with pytest.raises(EnvironmentFailed, match=r"limits\.txt:2: six @ https://example\.com"):
        require_harmless(recipe)


@pytest.mark.parametrize("option", ["-r ", "-c", "--requirement="])
def test_a_list_of_packages_at_an_address_is_no_file(tmp_path: Path, option: str) -> None:
    with pytest.raises(PlanError, match=r"example\.com"):
        planned_image(tmp_path, f'pip: ["{option}https://example.com/requirements.txt"]')


@pytest.mark.parametrize("line", ["-o APT::X=y", "./x.deb", "http://example.com/x.deb", "x y"])
def test_apt_takes_no_options_and_no_addresses(tmp_path: Path, line: str) -> None:
    with pytest.raises(SpecError, match="Debian package"):
        planned_image(tmp_path, f'apt: ["{line}"]')


def test_packages_of_the_index_with_all_that_is_usual_are_harmless(tmp_path: Path) -> None:
    files = {
        "requirements.txt": "--pre\n--require-hashes\n--only-binary :all:\n# a remark\n"
        'torch[opt-einsum]>=2,<3 ; python_version >= "3.9"  # the newest\n'
        f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{'1' * 64}\n-c limits.txt\n",
        "limits.txt": "numpy~=2.0\n",
    }
    recipe = planned_image(tmp_path, "apt: [git, libsndfile1=1.2.0-1]\npip: requirements.txt", files)

    require_harmless(recipe)

    assert len(recipe.pip) == 5
    assert recipe.constraints == ("numpy~=2.0",)


@docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize("environment", ["dockerfile: Dockerfile", "base: {base}\nlegacy_keras: true"])
def test_what_runs_the_forks_code_with_a_network_is_not_built(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path, lines: list[str], environment: str
) -> None:
    files = {
        "Dockerfile": f"FROM {base_image}\nRUN --mount=type=cache,id=pushtrain-uv,target=/c touch /c/x\n"
    }
    recipe = image(tmp_path, environment.format(base=base_image), files)

    with pytest.raises(EnvironmentFailed, match="no image is made of"):
        prepare(recipe, tmp_path, lines)
    with pytest.raises(EnvironmentFailed, match="no image is made of"):
        check_isolated(recipe, registry=None)

    assert lines == []
    if recipe.dockerfile_path is not None:
        ours = prepare_image(
            recipe, folder=tmp_path, registry=None, secrets={}, wheel_cache=tmp_path, log=lambda _: None
        )
        check_isolated(recipe, registry=None)
        assert prepare(recipe, tmp_path, lines) == ours
