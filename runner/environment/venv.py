"""Recipe -> a venv of its own, kept between runs."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.environment import blame, keras, wheels
from runner.environment.python import find_python, uv, uv_environment
from runner.environment.recipe import Recipe
from runner.environment.stream import Ended, Log, stream
from runner.environment.turns import alone
from runner.errors import EnvironmentFailed

logger = logging.getLogger(__name__)

# Written last: a folder without it is what a killed build left. Its time is that of the last use.
COMPLETE = "pushtrain-complete"
_LEGACY_KERAS = "import os; os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')\n"


@dataclass(frozen=True, kw_only=True)
class Venv:
    """A venv that is there: its folder, named by its key, and its interpreter."""

    key: str
    path: Path
    python: Path


def is_complete(recipe: Recipe, *, root: Path) -> bool:
    """Whether `root` holds the finished venv of `recipe` and its interpreter still exists."""
    venv = _venv(recipe, root)
    return (venv.path / COMPLETE).is_file() and venv.python.exists()


def prepare_venv(recipe: Recipe, *, root: Path, log: Log) -> Venv:
    """The venv of `recipe` below `root`, made by uv unless it is there (which takes a millisecond).

    Blocks while it is made, here or by another process. Repeating is safe, at the same time too. Every line
    of uv goes to `log`. Raises EnvironmentFailed with the package and the line to change; nothing is left of
    a failed build.
    """
    _require_apt(recipe)
    venv = _venv(recipe, root)
    root.mkdir(parents=True, exist_ok=True)
    # Also where it is there already: `pushtrain gc` removes under this lock what was not used for long.
    with alone(root / f"{recipe.key}.lock", log, making="environment"):
        if not is_complete(recipe, root=root):
            _make(recipe, venv, log)
        os.utime(venv.path / COMPLETE)
    return venv


def _venv(recipe: Recipe, root: Path) -> Venv:
    path = root.resolve() / recipe.key  # Its scripts name it in their first lines, and a link may go.
    return Venv(key=recipe.key, path=path, python=path / "bin" / "python")


def _make(recipe: Recipe, venv: Venv, log: Log) -> None:
    started_s = time.monotonic()
    logger.info("making the venv %s", venv.path)
    # In its final place, since scripts in a venv name their interpreter by its full path.
    shutil.rmtree(venv.path, ignore_errors=True)
    try:
        _create(recipe, venv, log)
        _install(recipe, venv, log)
        _install_horovod(recipe, venv, log)
        if recipe.legacy_keras:
            _install_legacy_keras(venv, log)
        (venv.path / COMPLETE).write_text("")
    finally:
        if not (venv.path / COMPLETE).exists():
            shutil.rmtree(venv.path, ignore_errors=True)
    logger.info("made the venv in %.1f s", time.monotonic() - started_s)


def _create(recipe: Recipe, venv: Venv, log: Log) -> None:
    python = find_python(recipe.python).path
    ended = _uv(("venv", "--no-project", "--python", python, str(venv.path)), venv, log)
    if ended.code:
        raise EnvironmentFailed(f"uv could not make a venv: {_last(ended)}", tip=f"df -h {venv.path.parent}")


def _install(recipe: Recipe, venv: Venv, log: Log) -> None:
    if not recipe.pip:
        return
    _uv_install(recipe, venv, log, file=_written(venv.path / "requirements.txt", recipe.pip))


def _install_horovod(recipe: Recipe, venv: Venv, log: Log) -> None:
    """After the rest, whose TensorFlow it was built for; what it requires is taken as it is there."""
    wheel = wheels.for_venv(recipe, root=wheels.folder(venv.path.parent), log=log)
    if wheel is not None:
        lines = wheels.requirement_lines(recipe, str(wheel)).splitlines()
        _uv_install(recipe, venv, log, file=_written(venv.path / wheels.REQUIREMENTS, lines))


def _uv_install(recipe: Recipe, venv: Venv, log: Log, *, file: str) -> None:
    arguments = ["-r", file]
    if recipe.constraints:
        arguments += ["-c", _written(venv.path / "constraints.txt", recipe.constraints)]
    ended = _uv(("pip", "install", "--python", str(venv.python), *arguments), venv, log)
    if ended.code:
        raise blame.pip_failure(ended.lines, recipe.origins)


def _install_legacy_keras(venv: Venv, log: Log) -> None:
    argv = [str(venv.python), keras.__file__]
    asked = subprocess.run(argv, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise EnvironmentFailed(
            "environment.legacy_keras is set, and there is no TensorFlow among the packages",
            tip="add tensorflow to environment.pip, or take legacy_keras out",
        )
    ended = _uv(("pip", "install", "--python", str(venv.python), "--no-deps", asked.stdout), venv, log)
    if ended.code:
        raise blame.pip_failure(ended.lines, ())
    site = next((venv.path / "lib").glob("python*/site-packages"))
    (site / "pushtrain-legacy-keras.pth").write_text(_LEGACY_KERAS)


def _written(path: Path, lines: Sequence[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def _uv(arguments: Sequence[str], venv: Venv, log: Log) -> Ended:
    # From the folder of the venvs: a uv.toml of the project where the command was typed has no say.
    return stream([uv(), *arguments], env=uv_environment(os.environ), log=log, cwd=str(venv.path.parent))


def _last(ended: Ended) -> str:
    return next((line.strip() for line in reversed(ended.lines) if line.strip()), f"exit code {ended.code}")


def _require_apt(recipe: Recipe) -> None:
    missing = missing_apt(recipe.apt) if recipe.apt else ()
    if missing:
        places = {origin.line: origin.where for origin in recipe.origins}
        lines = [f"{places.get(name, 'environment.apt')}: {name} is not installed here" for name in missing]
        raise EnvironmentFailed("\n".join(lines), tip=f"sudo apt-get install -y {' '.join(missing)}")


def missing_apt(packages: Sequence[str]) -> tuple[str, ...]:
    """Those of `packages` that are neither installed nor provided by another; none without dpkg."""
    installed = _installed()
    return tuple(
        name for name in packages if installed is not None and re.split("[=/:]", name)[0] not in installed
    )


def _installed() -> frozenset[str] | None:
    if shutil.which("dpkg-query") is None:
        return None
    form = "${db:Status-Status} ${Package}, ${Provides}\n"
    done = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=False)
    rows = (
        row.removeprefix("installed ") for row in done.stdout.splitlines() if row.startswith("installed ")
    )
    return frozenset(item.split()[0] for row in rows for item in row.split(",") if item.strip())
