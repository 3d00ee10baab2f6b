"""A repository -> a commented train.yml to start from, and what the reader of it should know."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import script
from runner.document import resolve
from runner.environment.combinations import HOROVOD, RECOMMENDED
from runner.environment.mpi import DEBIAN
from runner.quantities import Value
from runner.script import Option, Script

_MAX_SCRIPT_BYTES = 1024 * 1024
_SCRIPTS = ("train.py", "main.py", "training.py", "run.py")
_FOLDERS = (".", "src", "scripts", "training")
_CONDA_FILES = ("environment.yml", "environment.yaml", "conda.yml")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)

# Import name -> (the framework as a release names it, what pip calls it); the first that is imported counts.
_FRAMEWORKS = {
    "horovod": ("tensorflow", "horovod"),
    "tensorflow": ("tensorflow", "tensorflow"),
    "torch": ("pytorch", "torch"),
    "jax": ("jax", "jax"),
    "keras": ("keras", "keras"),
    "xgboost": ("xgboost", "xgboost"),
    "lightgbm": ("lightgbm", "lightgbm"),
    "sklearn": ("scikit-learn", "scikit-learn"),
}
# Import name -> what sets its ranks up, the likeliest first: who imports mpi4py besides another shares by MPI.
_DISTRIBUTIONS = {
    "horovod": "{type: mpi, processes_per_node: 2}",
    "mpi4py": "{type: mpi, processes_per_node: 2}",
    "tensorflow": "{type: tensorflow, workers: 2}",
    "torch": "{type: torch, processes_per_node: 2}",
    "jax": "{type: jax, processes_per_node: 2}",
}
# What pip gets beside Horovod, which is built for one exact TensorFlow and shares nothing under Keras 3.
_BESIDE_HOROVOD = {"horovod": f"horovod=={HOROVOD}", "tensorflow": RECOMMENDED, "keras": ""}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The text of a train.yml that `spec.parse` accepts, and notes on what was found or left to decide."""

    train_yml: str
    notes: tuple[str, ...]


def draft(folder: Path, *, branch: str | None = None) -> Draft:
    """A starter file for the repository in `folder`; nothing is run and nothing is written.

    With `branch`, GitHub starts a training for each push to it, for comments and by its form.
    """
    notes: list[str] = []
    entrypoint = _entrypoint(folder, notes)
    read = _script(folder / entrypoint, notes)
    library = next((name for name in _FRAMEWORKS if name in read.imports), "")
    shares_by = _shares_by(read, notes)
    sections = (
        ["# yaml-language-server: $schema=train.schema.json", f"name: {_name(folder)}"],
        *([_triggers(branch)] if branch is not None else []),
        _inputs(read, notes),
        _environment(folder, read, notes, shares_by=shares_by),
        [
            f"entrypoint: {_scalar(entrypoint)}    # inputs become --name value; or write a command line: run: …"
        ],
        _resources(shares_by),
        _results(library, entrypoint),
    )
    lines = [line for section in sections for line in [*section, ""]]
    return Draft(train_yml="\n".join(lines[:-1]) + "\n", notes=tuple(notes))


def _triggers(branch: str) -> list[str]:
    return [
        "on:    # what starts a training on GitHub",
        f"  push: {{branches: [{_scalar(branch)}]}}",
        "  comment: {command: /train, roles: [write]}    # in a pull request, by those who may write",
        "  dispatch: true",
    ]


def _name(folder: Path) -> str:
    words = re.findall(r"[a-z0-9]+", folder.resolve().name.lower())
    return _scalar("-".join(words)[:60].strip("-") or "training")


def _entrypoint(folder: Path, notes: list[str]) -> str:
    found = list(_candidates(folder))
    if not found:
        notes.append("no training script was found: write its path after entrypoint")
        return "train.py"
    if len(found) > 1:
        notes.append(f"{found[0]} is taken as the training script; there is also {', '.join(found[1:4])}")
    return found[0]


def _candidates(folder: Path) -> Iterator[str]:
    """Scripts that may be the training, the likeliest first."""
    seen: set[str] = set()
    for pattern in (*_SCRIPTS, "train*.py", "train.sh"):
        for place in _FOLDERS:
            for path in sorted((folder / place).glob(pattern)):
                name = path.relative_to(folder).as_posix()
                if path.is_file() and name not in seen and re.fullmatch(r"[\w./-]+", name):
                    seen.add(name)
                    yield name


def _script(path: Path, notes: list[str]) -> Script:
    nothing = Script(options=(), unread=(), imports=frozenset())
    if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _MAX_SCRIPT_BYTES:
        return nothing
    try:
        return script.read(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} could not be read for its arguments: {error}")
        return nothing


def _inputs(read: Script, notes: list[str]) -> list[str]:
    unread = list(read.unread)
    lines = []
    for option in read.options:
        line = _input(option)
        if line:
            lines.append(line)
        else:
            unread.append(f"--{option.name}")
    if unread:
        notes.append(f"left out of inputs, having no plain default: {', '.join(unread[:8])}")
    if lines:
        return ["inputs:    # parameters, each changed by: pushtrain run -p NAME=VALUE", *lines]
    return [
        "# inputs:    # parameters, each changed by: pushtrain run -p NAME=VALUE",
        "#   learning-rate: 0.01",
    ]


def _input(option: Option) -> str:
    """One line for an option; empty where it cannot be written."""
    texts = [value for value in (option.default, *option.options) if value is not None]
    if not _IDENTIFIER.fullmatch(option.name) or not all(_writable(value) for value in texts):
        return ""
    fields = [f"type: {option.kind}"]
    if option.options:
        fields.append(f"options: [{', '.join(_scalar(value) for value in option.options)}]")
    fields.append(
        "required: true"
        if option.required
        else f"default: {_scalar(option.default if option.default is not None else '')}"
    )
    description = "".join(c for c in " ".join(option.description.split()) if c.isprintable())
    if description and _writable(description):
        fields.append(f"description: {_scalar(description[:100])}")
    return f"  {option.name}: {{{', '.join(fields)}}}"


def _writable(value: Value) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value.isprintable() and "${{" not in value


def _scalar(value: Value) -> str:
    """A YAML scalar: a word as it is, anything else in JSON's form, which is YAML too."""
    if (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z][\w./-]*", value, re.ASCII)
        and resolve(value) == value
    ):
        return value
    return json.dumps(value, ensure_ascii=False)


def _shares_by(read: Script, notes: list[str]) -> str:
    """The library by which several ranks would share gradients; empty where the script imports none."""
    if "horovod" in read.imports and not read.imports & {"tensorflow", "keras"} and "torch" in read.imports:
        notes.append(
            "Horovod is built for TensorFlow alone: for PyTorch the distribution torch shares gradients "
            "without it"
        )
        return "torch"
    return next((name for name in _DISTRIBUTIONS if name in read.imports), "")


def _environment(folder: Path, read: Script, notes: list[str], *, shares_by: str) -> list[str]:
    head = "environment:    # built once and kept until it changes"
    if (folder / "Dockerfile").is_file():
        notes.append("there is a Dockerfile: to use it, replace base and pip by 'dockerfile: Dockerfile'")
    for name in _CONDA_FILES:
        if (folder / name).is_file():
            return [head, f"  conda: {name}"]
    # Debian 13, on which the others stand, has an Open MPI that cannot be driven.
    debian = f"-{DEBIAN}" if _by_mpi(shares_by) else ""
    base = f'  base: "python:{_python(folder)}-slim{debian}"'
    if (folder / "requirements.txt").is_file():
        return [head, base, "  pip: requirements.txt"]
    packages = _project_packages(folder)
    if packages:
        notes.append("pip lists the dependencies of pyproject.toml")
    else:
        packages = _imported_packages(read, shares_by)
        notes.append(
            "there is no requirements.txt: pip lists what the script was seen to import, if anything"
        )
    return [head, base, f"  pip: [{', '.join(_scalar(package) for package in packages)}]    # or a file"]


def _by_mpi(shares_by: str) -> bool:
    return "type: mpi" in _DISTRIBUTIONS.get(shares_by, "")


def _imported_packages(read: Script, shares_by: str) -> list[str]:
    """What pip calls the libraries that the script imports."""
    named = {name: package for name, (_, package) in _FRAMEWORKS.items()} | {"mpi4py": "mpi4py"}
    if shares_by == "horovod":
        named |= _BESIDE_HOROVOD
    elif "horovod" in read.imports:
        del named["horovod"]
    found = [package for name, package in named.items() if name in read.imports]
    if shares_by == "horovod" and RECOMMENDED not in found:
        found.append(RECOMMENDED)
    return [package for package in found if package]


def _python(folder: Path) -> str:
    """The version of Python that the repository names, or 3.11."""
    version_file = folder / ".python-version"
    text = version_file.read_text(encoding="utf-8", errors="replace") if version_file.is_file() else ""
    match = re.match(r"3\.\d{1,2}", text.strip(), re.ASCII)
    return match[0] if match else "3.11"


def _project_packages(folder: Path) -> list[str]:
    path = folder / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project") if path.is_file() else None
    except ValueError:
        return []
    listed = project.get("dependencies") if isinstance(project, dict) else None
    return list(_lines(listed)) if isinstance(listed, list) else []


def _lines(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str) and value.strip() and _writable(value.strip()):
            yield value.strip()


def _resources(shares_by: str) -> list[str]:
    lines = ["resources:", "  nodes: 1", "  # gpu: 1            # or H100:8", "  # memory: 16GiB"]
    if shares_by:
        lines.append(f"# distribution: {_DISTRIBUTIONS[shares_by]}    # two ranks, set up for {shares_by}")
    return lines


def _results(library: str, entrypoint: str) -> list[str]:
    framework = _FRAMEWORKS[library][0] if library else "FRAMEWORK"
    return [
        f"outputs: {{path: outputs, logs: logs}}    # what {entrypoint} writes there is kept",
        "",
        '# metrics: {primary: accuracy, goal: maximize, fail_if: "< 0.9"}    # lines of logs/metrics.jsonl',
        "# timeout: {run: 24h, silence: 30m}",
        "# secrets: [WANDB_API_KEY]",
        f"# release: {{model: my-model, path: outputs/model, framework: {framework}}}",
    ]
