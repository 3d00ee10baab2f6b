"""What Python loads in a rank, with each Python of this machine: it must work on all from 3.8 on, and never be felt."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.inside.watched import INSIDE


def pythons() -> Iterator[str]:
    """One Python of each minor version that this machine has; pyenv keeps those off PATH that are not chosen."""
    shims = Path(shutil.which("pyenv") or "/").parents[1] if shutil.which("pyenv") else Path("/nonexistent")
    for minor in range(8, 16):
        found = [*shims.glob(f"versions/3.{minor}.*/bin/python3"), *Path("/usr/bin").glob(f"python3.{minor}")]
        yield from map(str, found[:1])


PYTHONS = tuple(pythons()) or (sys.executable,)
SOURCES = sorted(INSIDE.glob("*.py"))

pytestmark = pytest.mark.parametrize("python", PYTHONS)


@pytest.fixture
def folders(tmp_path: Path) -> Mapping[str, str]:
    """The variables of rank 1 of a gang, with its folders."""
    for name in ("gang/ranks/1", "outputs", "logs"):
        (tmp_path / name).mkdir(parents=True)
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(INSIDE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PUSHTRAIN_GANG": str(tmp_path / "gang"),
        "PUSHTRAIN_RANK": "1",
        "PUSHTRAIN_WORLD_SIZE": "2",
        "PUSHTRAIN_DIVERGENCE": "fail",
        "PUSHTRAIN_OUTPUTS": str(tmp_path / "outputs"),
        "PUSHTRAIN_LOGS": str(tmp_path / "logs"),
    }


def said(python: str, code: str, env: Mapping[str, str], cwd: Path) -> str:
    done = subprocess.run([python, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def noted(tmp_path: Path) -> list[str]:
    path = tmp_path / "gang" / "ranks" / "1" / "written"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_it_is_written_for_python_3_8(python: str) -> None:
    for source in SOURCES:
        ast.parse(source.read_text(), feature_version=(3, 8))


def test_files_that_are_written_are_noted_once_and_those_that_are_read_are_not(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    (tmp_path / "outputs" / "old").write_text("")
    code = """
import os
open("outputs/a", "w").close(); open("outputs/a", "w").close(); open(os.path.abspath("outputs/a"), "a").close()
open("outputs/old").close()
open("elsewhere", "w").close()
os.close(os.open(b"logs/b", os.O_CREAT | os.O_RDWR))
open("outputs/.c.part", "wb").close(); os.replace("outputs/.c.part", "outputs/c")
open(0, closefd=False)
"""
    said(python, code, folders, tmp_path)

    assert noted(tmp_path) == ["outputs/a", "logs/b", "outputs/.c.part", "outputs/c"]


def test_a_file_is_noted_by_where_it_is_and_not_by_its_name(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "outputs")

    said(python, "open('link/a', 'w').close(); open('outputs/../b', 'w').close()", folders, tmp_path)

    assert noted(tmp_path) == ["outputs/a"]


@pytest.mark.parametrize("missing", ["PUSHTRAIN_GANG", "PUSHTRAIN_RANK", "PUSHTRAIN_WORLD_SIZE"])
def test_nothing_is_watched_outside_of_a_gang(
    python: str, missing: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    env = {name: value for name, value in folders.items() if name != missing}

    said(python, "open('outputs/a', 'w').close()", env, tmp_path)

    assert noted(tmp_path) == []


def test_a_rank_that_may_not_write_into_its_folder_is_not_disturbed(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    code = "import shutil, os; shutil.rmtree(os.environ['PUSHTRAIN_GANG']); open('outputs/a', 'w').write('x')"

    assert said(python, code, folders, tmp_path) == ""
    assert (tmp_path / "outputs" / "a").read_text() == "x"


def test_the_sitecustomize_of_the_training_is_loaded_as_if_there_were_no_other(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text(
        "import sys\nmarked = __name__, sys.modules[__name__].__file__\n"
    )
    env = {**folders, "PYTHONPATH": f"{INSIDE}{os.pathsep}{tmp_path / 'own'}"}

    code = "import sitecustomize; print(sitecustomize.marked, sitecustomize.__spec__.origin); open('outputs/a', 'w')"
    own = str(tmp_path / "own" / "sitecustomize.py")
    assert said(python, f"{code}.close()", env, tmp_path) == f"('sitecustomize', {own!r}) {own}"
    assert noted(tmp_path) == ["outputs/a"]


def test_an_error_in_the_sitecustomize_of_the_training_is_shown_as_ever(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sitecustomize.py").write_text("raise ValueError('theirs')\n")
    env = {**folders, "PYTHONPATH": f"{INSIDE}{os.pathsep}{tmp_path / 'own'}"}

    done = subprocess.run([python, "-c", "print(1)"], env=env, capture_output=True, text=True, check=True)

    assert done.stdout == "1\n"
    assert "ValueError: theirs" in done.stderr


def test_a_module_that_is_waited_for_keeps_its_loader_and_what_it_raises(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    (tmp_path / "awaited.py").write_text("value = 1\n")
    (tmp_path / "broken.py").write_text("raise KeyError('theirs')\n")
    code = """
import sys
import pushtrain_imports as imports
seen = []
imports.when("awaited", lambda module: seen.append(module.value))
imports.when("awaited", lambda module: 1 / 0)
imports.when("broken", seen.append)
imports.when("absent", seen.append)
import awaited, importlib, inspect
assert type(awaited.__loader__).__name__ == "SourceFileLoader" and not "exec_module" in vars(awaited.__loader__)
assert inspect.getsource(awaited) == "value = 1\\n"
importlib.reload(awaited)
for name, error in (("broken", KeyError), ("absent", ImportError)):
    try:
        importlib.import_module(name)
    except error:
        seen.append(name)
print(seen)
"""
    assert said(python, code, folders, tmp_path) == "[1, 'broken', 'absent']"


def test_nothing_is_imported_that_a_program_might_not_need(
    python: str, tmp_path: Path, folders: Mapping[str, str]
) -> None:
    code = "import sys; print([name for name in ('typing', 'json', 'functools', 'threading') if name in sys.modules])"

    with_us = said(python, code, folders, tmp_path)

    assert with_us == said(python, code, {"PATH": folders["PATH"]}, tmp_path)
