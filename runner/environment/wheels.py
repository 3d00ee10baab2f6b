"""Recipe with Horovod -> its wheel, built once on this machine or in an image of its base, and kept."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from runner.environment import blame, requirements
from runner.environment.builder import find_builder
from runner.environment.combinations import RECOMMENDED
from runner.environment.horovod import SCRIPT, Horovod
from runner.environment.python import find_python, uv, uv_environment
from runner.environment.recipe import Recipe
from runner.environment.stream import Ended, Log, stream
from runner.environment.turns import alone
from runner.errors import EnvironmentFailed

logger = logging.getLogger(__name__)

# What the script calls, and the Debian package that has it.
_TOOLS = {"g++": "g++", "make": "make", "mpicxx": "libopenmpi-dev"}
# The file of requirements that installs a wheel: where packages are found, and the wheel's path.
REQUIREMENTS = "horovod.txt"
LINKS = "links.txt"
# What is to be built, a folder to work in, the folder for the wheel.
_Build = Callable[[Horovod, Path, Path], Ended]


def folder(envs: Path) -> Path:
    """Where the wheels of this machine are kept: beside the venvs in `envs`, wherever that really lies."""
    return envs.resolve().parent / "wheels"


def for_venv(recipe: Recipe, *, root: Path, log: Log) -> Path | None:
    """The wheel for the venv of `recipe`, None where it has no Horovod. `root` is the folder of wheels.

    Takes some minutes the first time, milliseconds later. Blocks while it is built, here or by another process; safe
    to repeat. Raises EnvironmentFailed with what to install or to change; nothing is left of a failed build.
    """

    def build(horovod: Horovod, work: Path, out: Path) -> Ended:
        _require_tools()
        python = find_python(recipe.python).path
        links = _links(recipe, work)
        argv = [
            "/bin/sh",
            str(SCRIPT),
            uv(),
            python,
            horovod.tensorflow,
            links,
            str(work / "build"),
            str(out),
        ]
        return stream(argv, env=uv_environment(os.environ), log=log, cwd=str(work))

    return _kept(recipe, root, log, build)


def for_image(recipe: Recipe, *, root: Path, secrets: Mapping[str, str], log: Log) -> Path | None:
    """The same for an image: built by Docker on the image's base, and brought here. Raises EngineError as well."""

    def build(_horovod: Horovod, work: Path, out: Path) -> Ended:
        context = work / "context"
        context.mkdir()
        (work / "Dockerfile").write_text(recipe.wheel_dockerfile or "")
        shutil.copy2(uv(), context / "uv")
        shutil.copy2(SCRIPT, context / SCRIPT.name)
        _links(recipe, context)
        return _docker_build(recipe, work, out, secrets, log)

    return _kept(recipe, root, log, build)


def requirement_lines(recipe: Recipe, wheel: str) -> str:
    """The text of REQUIREMENTS: uv installs the wheel at that path, and what it requires from the user's indexes."""
    return "".join(f"{line}\n" for line in (*requirements.addresses(recipe.pip), wheel))


def _kept(recipe: Recipe, root: Path, log: Log, build: _Build) -> Path | None:
    horovod = recipe.horovod
    if horovod is None:
        return None
    root.mkdir(parents=True, exist_ok=True)
    place = root / horovod.wheel
    with alone(root / f"{horovod.wheel}.lock", log, making="wheel of Horovod"):
        if not _wheels(place):
            _make(recipe, horovod, place, log, build)
        os.utime(place)  # when it was last used
    return _wheels(place)[0]


def _make(recipe: Recipe, horovod: Horovod, place: Path, log: Log, build: _Build) -> None:
    log(f"building Horovod {horovod.version} for {horovod.tensorflow}: some minutes, once")
    started_s = time.monotonic()
    with _work(place) as work:
        out = work / "out"
        out.mkdir()
        ended = build(horovod, work, out)
        if ended.code or len(_wheels(out)) != 1:
            raise _failure(recipe, horovod, ended)
        shutil.rmtree(place, ignore_errors=True)
        out.rename(place)
    logger.info("built Horovod in %.1f s", time.monotonic() - started_s)


@contextlib.contextmanager
def _work(place: Path) -> Iterator[Path]:
    """A folder that goes with the block. What a killed build left goes first: its compilers end for want of files."""
    for left in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _wheels(place: Path) -> list[Path]:
    return sorted(place.glob("*.whl"))


def _links(recipe: Recipe, to: Path) -> str:
    path = to / LINKS
    path.write_text("".join(f"{line}\n" for line in requirements.addresses(recipe.pip)))
    return str(path)


def _docker_build(recipe: Recipe, work: Path, out: Path, secrets: Mapping[str, str], log: Log) -> Ended:
    """BuildKit's own export: no image is left, and the wheel's files come to `out`."""
    builder = find_builder(os.environ)
    command = [word for word in builder.command if word != "--load"]
    options = ["--progress", "plain", "--output", f"type=local,dest={out}"]
    for name in recipe.build_secrets:
        options += ["--secret", f"id={name},env={name}"]
    values = {name: secrets[name] for name in recipe.build_secrets}
    return stream(
        [*command, *options, "--file", str(work / "Dockerfile"), str(work / "context")],
        env={**os.environ, **dict(builder.env), **values},
        log=log,
        secrets=[line for value in values.values() for line in value.splitlines()],
    )


def _require_tools() -> None:
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise EnvironmentFailed(
            f"Horovod is built on this machine, which needs {', '.join(missing)}",
            tip=f"sudo apt-get install -y {' '.join(_TOOLS[tool] for tool in missing)}",
        )


def _failure(recipe: Recipe, horovod: Horovod, ended: Ended) -> EnvironmentFailed:
    if refused := blame.apt_failure(ended.lines, recipe.origins):
        return refused
    if any("No solution found" in line for line in ended.lines):
        return blame.pip_failure(ended.lines, recipe.origins)
    said = _said(ended.lines)
    return EnvironmentFailed(
        "\n".join(
            [
                f"Horovod {horovod.version} was not built for {horovod.tensorflow}",
                *(f"  {line}" for line in said),
            ]
        ),
        tip=f"the build's log has the whole output; known to build: {RECOMMENDED}",
    )


def _said(lines: Sequence[str]) -> list[str]:
    """The first errors of compilers and tools, else the last words."""
    errors = [line.strip()[:200] for line in lines if "error:" in line.lower()]
    return errors[:3] or [line.strip()[:200] for line in lines if line.strip()][-3:]
