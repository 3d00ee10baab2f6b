from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import script, spec
from runner.quantities import Value
from runner.starter import draft

ARGPARSE = """
import argparse
import tensorflow as tf
from sklearn import svm

parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", "-l", type=float, default=1, help="Step size: \\"eta\\" # not ${x}")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--dropout", default=0.0, type=float)
parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
parser.add_argument("--fast", action="store_true")
parser.add_argument("--note", default="it's")
parser.add_argument("--seed", type=int)
parser.add_argument("--token", required=True)
parser.add_argument("--layers", nargs="+", type=int, default=[300, 100])
parser.add_argument("--where", default=os.environ["HOME"])
parser.add_argument("data")
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def test_arguments_of_the_script_become_inputs(tmp_path: Path) -> None:
    drafted = draft(write(tmp_path, train__py=ARGPARSE, requirements__txt="tensorflow"))
    read = spec.parse(drafted.train_yml)
    defaults = {name: (declared.type, declared.default) for name, declared in read.inputs.items()}
    assert defaults == {
        "learning-rate": ("number", 1.0),
        "epochs": ("integer", 5),
        "dropout": ("number", 0.0),
        "optimizer": ("choice", "adam"),
        "fast": ("boolean", False),
        "note": ("string", "it's"),
        "token": ("string", None),
    }
    assert read.inputs["learning-rate"].description == 'Step size: "eta" # not ${x}'
    assert read.entrypoint == "train.py"
    assert read.environment.pip == "requirements.txt"
    assert "--seed, --layers, --where, data" in " ".join(drafted.notes)
    assert "framework: tensorflow" in drafted.train_yml


def test_an_editor_finds_the_schema(tmp_path: Path) -> None:
    assert draft(tmp_path).train_yml.startswith("# yaml-language-server: $schema=train.schema.json\n")


def test_options_of_click_and_absl_become_inputs() -> None:
    source = """
@click.option("--lr", default=0.1, help="Rate")
@click.option("--verbose/--quiet", is_flag=True)
@click.option("-x", "--tag", multiple=True)
def main(): ...
flags.DEFINE_integer("steps", 10, "Steps.")
flags.DEFINE_float("decay", None, "Decay.")
flags.DEFINE_bool("eval", True, "Evaluate.")
"""
    read = script.read(source)
    found: dict[str, Value | None] = {option.name: option.default for option in read.options}
    assert found == {"lr": 0.1, "verbose": False, "steps": 10, "eval": True}
    assert read.unread == ("--tag", "--decay")


@pytest.mark.parametrize(
    ("files", "environment"),
    [
        ({"environment__yml": "name: x"}, "conda='environment.yml'"),
        ({"requirements__txt": "numpy"}, "pip='requirements.txt'"),
        (
            {"pyproject__toml": '[project]\nname = "x"\ndependencies = ["numpy>=2", "torch"]'},
            "pip=('numpy>=2', 'torch')",
        ),
        ({"pyproject__toml": "not toml ["}, "pip=()"),
        ({"train__py": "import torch, jax.numpy"}, "pip=('torch', 'jax')"),
    ],
)
def test_the_environment_follows_the_files_that_are_there(
    files: dict[str, str], environment: str, tmp_path: Path
) -> None:
    read = spec.parse(draft(write(tmp_path, **files)).train_yml)
    assert environment in repr(read.environment)


def test_a_dockerfile_and_a_version_of_python_are_noticed(tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text("3.12.4\n")
    drafted = draft(write(tmp_path, Dockerfile="FROM x"))
    assert "dockerfile: Dockerfile" in " ".join(drafted.notes)
    assert spec.parse(drafted.train_yml).environment.base == "python:3.12-slim"


def test_the_likeliest_script_is_taken_and_the_others_named(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    write(tmp_path / "src", train__py="")
    drafted = draft(write(tmp_path, main__py="", train_big__py=""))
    assert spec.parse(drafted.train_yml).entrypoint == "src/train.py"
    assert "there is also main.py, train_big.py" in " ".join(drafted.notes)


def test_an_empty_repository_still_gets_a_file_that_fits(tmp_path: Path) -> None:
    drafted = draft(tmp_path)
    assert spec.parse(drafted.train_yml).entrypoint == "train.py"
    assert "no training script" in drafted.notes[0]


def test_a_script_that_is_not_python_is_noted(tmp_path: Path) -> None:
    drafted = draft(write(tmp_path, train__py="print 'x'"))
    assert spec.parse(drafted.train_yml).inputs == {}
    assert "could not be read" in drafted.notes[0]


@pytest.mark.parametrize("name", ["007", "Ünïcode", "--x--", "null", "a b.c", "1e5", "true"])
def test_any_folder_name_gives_a_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert spec.parse(draft(tmp_path / name).train_yml).name


def uncommented(text: str) -> spec.Spec:
    """With every example that stands behind `# `."""
    lines = text.splitlines()
    return spec.parse(
        "\n".join(
            line
            if "yaml-language-server" in line
            else line.replace("# ", "", 1)
            if line.lstrip().startswith("# ")
            else line
            for line in lines
        )
    )


SHARING = {
    "import torch": ("torch", ("torch",), ""),
    "import jax": ("jax", ("jax",), ""),
    "import tensorflow as tf": ("tensorflow", ("tensorflow",), ""),
    "import horovod.tensorflow.keras as hvd\nimport keras, tensorflow": (
        "mpi",
        ("horovod==0.28.1", "tensorflow-cpu==2.15.1"),
        "-bookworm",
    ),
    "import horovod.keras": ("mpi", ("horovod==0.28.1", "tensorflow-cpu==2.15.1"), "-bookworm"),
    "import horovod.torch, torch": ("torch", ("torch",), ""),
    "from mpi4py import MPI\nimport sklearn": ("mpi", ("scikit-learn", "mpi4py"), "-bookworm"),
}


@pytest.mark.parametrize("imports", SHARING)
def test_each_commented_example_fits_when_uncommented(imports: str, tmp_path: Path) -> None:
    """The distribution is that of what the script imports, in an environment in which it works."""
    kind, packages, debian = SHARING[imports]
    read = uncommented(draft(write(tmp_path, train__py=imports)).train_yml)
    assert read.release is not None
    assert read.resources.gpu is not None
    assert read.distribution.type == kind
    assert read.environment.pip == packages
    assert read.environment.base == f"python:3.11-slim{debian}"


def test_horovod_for_pytorch_is_told_what_to_take_instead(tmp_path: Path) -> None:
    notes = draft(write(tmp_path, train__py="import horovod.torch, torch")).notes
    assert "the distribution torch shares gradients without it" in " ".join(notes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(min_size=1, max_size=8),
    default=st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.none()),
    described=st.text(max_size=12),
    kind=st.sampled_from(["int", "float", "str", "bool", "Path"]),
)
def test_whatever_a_script_declares_the_file_fits(
    name: str, default: object, described: str, kind: str, tmp_path: Path
) -> None:
    text = f"p.add_argument({'--' + name!r}, default={default!r}, type={kind}, help={described!r})\n"
    (tmp_path / "train.py").write_bytes(text.encode("utf-8", errors="replace"))
    spec.parse(draft(tmp_path).train_yml)
