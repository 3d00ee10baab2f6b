"""Real trainings of two ranks: those that share their gradients are left alone, those that do not are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.environment import prepare_venv
from runner.writers import shared_files
from tests.environment.specs import venv
from tests.fixtures.docker import cache_folder
from tests.inside.watched import TRAININGS, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PACKAGES = {
    "keras 2": "tensorflow-cpu==2.15.1, keras==2.15.0, numpy==1.26.4",
    "keras 3": "tensorflow-cpu==2.18.1",
    "torch": "torch==2.13.0, numpy==2.2.6",
}
SCRIPTS = {"keras 2": ("keras_fit", "tf_loop"), "keras 3": ("keras_fit", "tf_loop"), "torch": ("torch_loop",)}
EACH = [(name, script) for name, scripts in SCRIPTS.items() for script in scripts]


@pytest.fixture
def python(packages: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with these packages; environments are kept between test sessions."""
    recipe = venv(tmp_path_factory.mktemp("recipe"), f"pip: [{', '.join(PACKAGES[packages].split(', '))}]")
    lines: list[str] = []
    return prepare_venv(recipe, root=cache_folder() / "envs", log=lines.append).python


@pytest.mark.parametrize(("packages", "script"), EACH)
def test_ranks_that_share_nothing_are_found(python: Path, script: str, tmp_path: Path) -> None:
    seen = train(python, TRAININGS / f"{script}.py", tmp_path)

    found = seen.divergence()
    assert found is not None, seen.output
    assert (found.step, found.ranks) == (2, (1,))
    assert "gradients are not shared between the ranks" in found.message


@pytest.mark.parametrize(("packages", "script"), EACH)
def test_ranks_that_do_the_same_agree_and_are_compared_to_the_end(
    python: Path, script: str, tmp_path: Path
) -> None:
    seen = train(python, TRAININGS / f"{script}.py", tmp_path, env={"SHARE": "once"})

    assert seen.divergence() is None
    assert [[each.step for each in reports] for reports in seen.reports.values()] == [
        [1, 2, 4, 8, 16, 32]
    ] * 2


@pytest.mark.parametrize("packages", ["keras 2", "keras 3"])
def test_a_loop_without_functions_is_seen(python: Path, tmp_path: Path) -> None:
    seen = train(python, TRAININGS / "tf_loop.py", tmp_path, env={"EAGER": "1"})

    assert seen.divergence() is not None


@pytest.mark.parametrize("packages", ["torch"])
@pytest.mark.parametrize("share", ["ddp", "zero"])
def test_ranks_that_share_agree_however_they_share(python: Path, share: str, tmp_path: Path) -> None:
    seen = train(python, TRAININGS / "torch_loop.py", tmp_path, env={"SHARE": share})

    assert seen.divergence() is None
    assert [each.step for each in seen.reports[1]] == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("packages", ["torch"])
def test_ranks_that_hold_parts_of_a_model_are_not_compared(python: Path, tmp_path: Path) -> None:
    seen = train(python, TRAININGS / "torch_parts.py", tmp_path)

    assert seen.reports == {0: (), 1: ()}


@pytest.mark.parametrize("packages", ["keras 2", "keras 3", "torch"])
def test_a_model_that_two_ranks_save_under_one_name_is_noticed(python: Path, tmp_path: Path) -> None:
    seen = train(python, TRAININGS / "save.py", tmp_path)

    (sentence,) = shared_files(seen.written)
    assert sentence.startswith("ranks 0 and 1 wrote the same file")
    every = {path for paths in seen.written.values() for path in paths if ".tmp" not in path}
    on_disk = {
        str(path.relative_to(tmp_path)) for path in (tmp_path / "outputs").rglob("*") if path.is_file()
    }
    assert {path for path in on_disk if ".data-" not in path} == every
