"""A Python version -> the interpreter of this machine that a venv is made with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass

from runner.errors import EnvironmentFailed

PLATFORM = sysconfig.get_platform()
# uv reads none of pip's variables; people have set pip's.
_PIP_VARIABLES = {
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_EXTRA_INDEX_URL",
    "PIP_CERT": "SSL_CERT_FILE",
}
_INSIDE = ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT", "UV_PYTHON")


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python: full version x.y.z and the command that starts it."""

    version: str
    path: str


def find_python(version: str | None) -> Interpreter:
    """The interpreter for `3`, `3.11` or `3.11.7`; this program's own where it fits or nothing was asked.

    Asks uv otherwise, which takes some 100 ms. Raises EnvironmentFailed where no such Python is installed.
    """
    own = platform.python_version()
    if version is None or f"{own}.".startswith(f"{version}."):
        return Interpreter(version=own, path=sys.executable)
    found = _uv_find(version)
    asked = _output([found, "-c", "import platform; print(platform.python_version())"]) if found else ""
    if not asked:
        raise EnvironmentFailed(
            f"Python {version} is not installed on this machine",
            tip=f"uv python install {version}, or take another version in environment.base or .python",
        )
    return Interpreter(version=asked, path=found)


def uv() -> str:
    """The path of the uv binary that this package brings. Raises EnvironmentFailed where it is missing."""
    import uv as package

    try:
        return os.fspath(package.find_uv_bin())
    except FileNotFoundError as error:
        raise EnvironmentFailed("the uv binary is missing", tip="pip install --force-reinstall uv") from error


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What uv is started with: `environ`, pip's index settings in uv's words, and no Python downloaded."""
    passed = {name: value for name, value in environ.items() if not name.startswith(_INSIDE)}
    for theirs, ours in _PIP_VARIABLES.items():
        if value := environ.get(theirs):
            passed.setdefault(ours, ",".join(value.split()) if ours == "UV_FIND_LINKS" else value)
    return {**passed, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _uv_find(version: str) -> str:
    # From the root folder: a project where the command was typed has no say.
    return _output([uv(), "python", "find", "--no-project", version])


def _output(argv: list[str]) -> str:
    done = subprocess.run(
        argv, env=uv_environment(os.environ), capture_output=True, text=True, check=False, cwd="/"
    )
    return done.stdout.strip() if done.returncode == 0 else ""
