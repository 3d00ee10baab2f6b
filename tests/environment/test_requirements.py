from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import PlanError
from tests.environment.specs import venv


def where(folder: Path, environment: str, files: dict[str, str], line: str) -> str:
    recipe = venv(folder, environment, files)
    return next(origin.where for origin in recipe.origins if origin.line == line)


def test_comments_and_empty_lines_are_left_out(tmp_path: Path) -> None:
    text = "# what we need\n\nsix  # small\niniconfig @ https://host/x.whl#sha256=1\n"

    recipe = venv(tmp_path, "pip: requirements.txt", {"requirements.txt": text})

    assert recipe.pip == ("six", "iniconfig @ https://host/x.whl#sha256=1")


def test_included_files_are_read_from_where_they_are_included(tmp_path: Path) -> None:
    files = {
        "requirements/all.txt": "-r base.txt\npytest\n",
        "requirements/base.txt": "--requirement=deep/er.txt\nsix\n",
        "requirements/deep/er.txt": "--index-url https://host/simple\niniconfig\n",
    }

    recipe = venv(tmp_path, "pip: requirements/all.txt", files)

    assert recipe.pip == ("--index-url https://host/simple", "iniconfig", "six", "pytest")


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    recipe = venv(tmp_path, "pip: a.txt", {"a.txt": "-r b.txt\nsix\n", "b.txt": "-ra.txt\npip\n"})

    assert recipe.pip == ("pip", "six")


def test_constraints_are_kept_apart_from_requirements(tmp_path: Path) -> None:
    files = {"r.txt": "-c limits.txt\nsix\n", "limits.txt": "six<2\n"}

    recipe = venv(tmp_path, "pip: r.txt", files)

    assert (recipe.pip, recipe.constraints) == (("six",), ("six<2",))


def test_hashes_on_continued_lines_stay_with_their_requirement(tmp_path: Path) -> None:
    text = "six==1.17.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\npip\n"

    recipe = venv(tmp_path, "pip: r.txt", {"r.txt": text})

    assert recipe.pip == ("six==1.17.0 --hash=sha256:aa --hash=sha256:bb", "pip")


def test_a_line_of_a_file_is_known_by_file_and_line(tmp_path: Path) -> None:
    files = {"r.txt": "# first\n-r more/n.txt\n", "more/n.txt": "\n\nsix==1 \\\n  --hash=sha256:aa\npip\n"}

    assert where(tmp_path, "pip: r.txt", files, "pip") == "more/n.txt:5"
    assert where(tmp_path, "pip: r.txt", files, "six==1 --hash=sha256:aa") == "more/n.txt:3"


def test_an_item_of_a_list_is_known_by_its_line_of_train_yml(tmp_path: Path) -> None:
    assert where(tmp_path, "pip:\n  - six\n  - pip>=20", {}, "pip>=20") == "train.yml:6"


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=.",
        ".",
        "./wheels/x.whl",
        "../lib",
        "/opt/x",
        "lib/core",
        "x.whl",
        "x @ file:///x.whl",
    ],
)
def test_a_package_of_a_local_folder_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(PlanError, match=r"r\.txt:2: .* is a local package"):
        venv(tmp_path, "pip: r.txt", {"r.txt": f"six\n{line}\n"})


@pytest.mark.parametrize(
    "line", ["x @ https://host/x.whl", "git+https://host/x/y.git@v1", "six; os_name=='x'"]
)
def test_a_package_of_a_url_is_no_local_one(tmp_path: Path, line: str) -> None:
    assert venv(tmp_path, "pip: r.txt", {"r.txt": line}).pip == (line,)


def test_a_missing_file_is_named_with_the_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"train\.yml:4: requirements\.txt cannot be read: No such file"):
        venv(tmp_path, "pip: requirements.txt")


def test_an_included_file_outside_the_source_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "secret.txt").write_text("token\n")

    with pytest.raises(PlanError, match=r"r\.txt:1: \.\./secret\.txt lies outside the source folder"):
        venv(source, "pip: r.txt", {"r.txt": "-r ../secret.txt"})
