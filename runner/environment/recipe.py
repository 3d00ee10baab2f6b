"""EnvironmentSpec + the files it names + facts of the machine -> Recipe: all that decides an environment."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runner.environment import context, dockerfile, horovod, mpi
from runner.environment.horovod import Horovod
from runner.environment.origin import Origin, Positions
from runner.environment.python import PLATFORM, find_python
from runner.environment.requirements import Requirements, addresses, read_requirements
from runner.errors import PlanError

if TYPE_CHECKING:
    from runner.environment.facts import Base, DockerFacts
    from runner.spec import EnvironmentSpec

# Raised whenever the same recipe would be made into something else than before.
FORMAT = 1
DEFAULT_BASE = "python:3.11-slim"
_PYTHON_BASE = re.compile(r"(?:.*/)?python:(\d+(?:\.\d+){0,2})(?![\d.])")
# What an engine of this machine alone cannot give: the field and what it describes.
_IMAGE_ONLY = {"dockerfile": "a Dockerfile", "image": "an image", "conda": "a conda environment"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An environment before it is made: plain data, hashable, the same on every machine of one platform.

    `key` is the sha256 (32 hex digits) of all that matters for what is inside: neither the name of the base,
    nor comments, nor the place of a line. `pip` and `constraints` are requirement lines as pip writes them,
    files read and followed. `dockerfile` is the whole text, generated or, with `dockerfile_path`, the user's;
    `context` lists (path, digest) of the files a user's Dockerfile may copy; `stages` holds (reference,
    digest) of its images other than the last stage's `base`. `only_here` lists (reference, id) of those images that
    no registry has: this machine's Docker alone knows them.

    `horovod` is built apart, by `wheel_dockerfile` where the environment is an image, and is none of the `pip` lines.
    `legacy_keras` None and False are the same environment: False says that the user knows what Keras 3 does.
    """

    kind: Literal["venv", "image"]
    key: str = ""
    platform: str
    base: str | None = None
    base_digest: str | None = None
    stages: tuple[tuple[str, str], ...] = ()
    only_here: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    apt: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    legacy_keras: bool | None = None
    horovod: Horovod | None = None
    conda: str | None = None
    dockerfile: str | None = None
    wheel_dockerfile: str | None = None
    dockerfile_path: str | None = None
    image: str | None = None
    build_secrets: tuple[str, ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    origins: tuple[Origin, ...] = ()


def venv_recipe(spec: EnvironmentSpec, folder: Path, *, train_file: str) -> Recipe:
    """The venv for `spec` on this machine; reads the requirement files below `folder` and asks for the
    interpreter, and with Horovod for the machine's Open MPI.

    Raises PlanError for what needs Docker, cannot be read or cannot go together, EnvironmentFailed where that
    Python or an Open MPI is not installed.
    """
    _refuse_image_only(spec, train_file)
    positions = Positions.of(folder, train_file)
    requirements = read_requirements(spec.pip, folder, positions=positions)
    interpreter = find_python(requested_python(spec))
    minor = minor_python(interpreter.version)
    requirements, built = horovod.take_out(requirements, python=minor)
    if built is not None:
        major = mpi.require_machine(needed_by="Horovod").version.split(".")[0]
        built = horovod.for_machine(
            built, python=minor, system=PLATFORM, mpi=major, addresses=addresses(requirements.lines)
        )
    recipe = Recipe(
        kind="venv",
        platform=PLATFORM,
        python=interpreter.version,
        horovod=built,
        apt=tuple(sorted(set(spec.apt))),
        pip=requirements.lines,
        constraints=requirements.constraints,
        legacy_keras=spec.legacy_keras,
        origins=(*requirements.origins, *_apt_origins(spec.apt, positions)),
    )
    return _keyed(recipe, ("kind", "platform", "python", "pip", "constraints", "legacy_keras", "horovod"))


def image_recipe(
    spec: EnvironmentSpec, folder: Path, *, train_file: str, docker: DockerFacts, distribution: str = "none"
) -> Recipe:
    """The image for `spec`, on the daemon and the bases of `docker`; reads the files that `spec` names.

    An image that is generated for `distribution` mpi, or with Horovod, has Debian's Open MPI as well.

    Raises PlanError for what cannot be read or cannot go together.
    """
    positions = Positions.of(folder, train_file)
    if spec.legacy_keras and (spec.image or spec.dockerfile):
        raise PlanError(
            f"{positions.at('legacy_keras')}: legacy_keras is for packages that pushtrain installs",
            tip='install tf_keras in that image and set `env: {TF_USE_LEGACY_KERAS: "1"}`',
        )
    if spec.image is not None:
        recipe = _given_image(spec.image, docker)
    elif spec.dockerfile is not None:
        recipe = _own_dockerfile(spec, folder, docker, positions)
    else:
        recipe = _generated(spec, folder, docker, positions, distribution=distribution)
    return replace(recipe, only_here=docker.only_here)


def bases(
    spec: EnvironmentSpec, folder: Path, *, train_file: str, distribution: str = "none"
) -> tuple[str, ...]:
    """The images that `spec` starts from, in their order: what `docker_facts` has to look up."""
    if spec.image is not None:
        return (spec.image,)
    if spec.dockerfile is not None:
        text = context.read_text(
            folder, spec.dockerfile, where=Positions.of(folder, train_file).at("dockerfile")
        )
        return dockerfile.bases(text)
    return (_base(spec, distribution),)


def python_of(recipe: Recipe) -> str:
    """The Python x.y of the environment as far as its recipe tells; else this program's own."""
    match = _PYTHON_BASE.match(recipe.base or "")
    return minor_python(recipe.python or (match.group(1) if match else None))


def minor_python(version: str | None) -> str:
    """`3.11` of `3.11.7`; this program's own where nothing is known."""
    parts = (version or "").split(".")
    return ".".join((parts if len(parts) > 1 else platform.python_version().split("."))[:2])


def requested_python(spec: EnvironmentSpec) -> str | None:
    """The Python version asked for: `python:`, else that of a `base:` such as python:3.11-slim."""
    if spec.python is not None:
        return spec.python
    match = _PYTHON_BASE.match(spec.base or "")
    return match.group(1) if match else None


def _base(spec: EnvironmentSpec, distribution: str) -> str:
    if spec.base is not None:
        return spec.base
    base = f"python:{spec.python}-slim" if spec.python else DEFAULT_BASE
    return f"{base}-{mpi.DEBIAN}" if distribution == "mpi" else base


def _given_image(image: str, docker: DockerFacts) -> Recipe:
    recipe = Recipe(
        kind="image", platform=docker.platform, image=image, base=image, base_digest=docker.base(image).digest
    )
    return _keyed(recipe, ("kind", "platform", "base_digest"))


def _own_dockerfile(spec: EnvironmentSpec, folder: Path, docker: DockerFacts, positions: Positions) -> Recipe:
    assert spec.dockerfile is not None
    text = context.read_text(folder, spec.dockerfile, where=positions.at("dockerfile"))
    found = tuple((name, docker.base(name).digest) for name in dockerfile.bases(text))
    base, digest = found[-1] if found else (None, None)
    recipe = Recipe(
        kind="image",
        platform=docker.platform,
        base=base,
        base_digest=digest,
        stages=found[:-1],
        dockerfile=text,
        dockerfile_path=spec.dockerfile,
        build_secrets=tuple(sorted(spec.build_secrets)),
        context=context.files(folder),
    )
    keys = ("kind", "platform", "base_digest", "stages", "dockerfile", "build_secrets", "context")
    return _keyed(recipe, keys)


def _generated(
    spec: EnvironmentSpec, folder: Path, docker: DockerFacts, positions: Positions, *, distribution: str
) -> Recipe:
    requirements = read_requirements(spec.pip, folder, positions=positions)
    python = minor_python(requested_python(spec))
    requirements, built = horovod.take_out(requirements, python=python)
    if built is not None and spec.conda is not None:
        raise PlanError(
            f"{positions.at('conda')}: Horovod is built for the Python of the base, not for that of conda",
            tip="describe the packages by environment.pip alone, or build the image by environment.dockerfile",
        )
    with_mpi = (mpi.PACKAGE,) if built is not None or distribution == "mpi" else ()
    base = docker.base(_base(spec, distribution))
    recipe = Recipe(
        kind="image",
        platform=docker.platform,
        base=base.reference,
        base_digest=base.digest,
        python=spec.python,
        apt=tuple(sorted({*spec.apt, *with_mpi})),
        pip=requirements.lines,
        constraints=requirements.constraints,
        legacy_keras=spec.legacy_keras,
        horovod=built,
        conda=_conda(spec, folder, positions),
        build_secrets=tuple(sorted(spec.build_secrets)),
        origins=_origins(spec, requirements, positions),
    )
    recipe = _with_wheel(recipe, base)
    keys = ("base_digest", "apt", "pip", "constraints", "legacy_keras", "conda", "build_secrets", "horovod")
    recipe = _keyed(recipe, ("kind", "platform", *keys))
    return replace(recipe, dockerfile=dockerfile.generate(_ingredients(recipe, base.source)))


def _with_wheel(recipe: Recipe, base: Base) -> Recipe:
    """`recipe` with how its Horovod is built, and under which key that is kept: by the base's files, not its name."""
    if recipe.horovod is None:
        return recipe
    text = dockerfile.generate_wheel(_ingredients(recipe, base.source), tensorflow=recipe.horovod.tensorflow)
    steps = dockerfile.without_caches(text).partition("USER root")[2]
    built = horovod.for_image(
        recipe.horovod,
        system=recipe.platform,
        base=base.content or base.digest,
        dockerfile=steps,
        addresses=addresses(recipe.pip),
    )
    return replace(recipe, horovod=built, wheel_dockerfile=text)


def _ingredients(recipe: Recipe, source: str) -> dockerfile.Ingredients:
    return dockerfile.Ingredients(
        base=recipe.base or source,
        source=source,
        base_digest=recipe.base_digest or "",
        apt=recipe.apt,
        pip=bool(recipe.pip),
        constraints=bool(recipe.constraints),
        legacy_keras=bool(recipe.legacy_keras),
        horovod=recipe.horovod is not None,
        conda=recipe.conda is not None,
        build_secrets=recipe.build_secrets,
    )


def _conda(spec: EnvironmentSpec, folder: Path, positions: Positions) -> str | None:
    if spec.conda is None or isinstance(spec.conda, str):
        return spec.conda and context.read_text(folder, spec.conda, where=positions.at("conda"))
    lines = "".join(f"  - {json.dumps(package)}\n" for package in spec.conda)
    return f"channels:\n  - conda-forge\ndependencies:\n{lines}"


def _origins(spec: EnvironmentSpec, requirements: Requirements, positions: Positions) -> tuple[Origin, ...]:
    conda: tuple[Origin, ...] = ()
    if isinstance(spec.conda, tuple):
        conda = tuple(
            Origin(line=package, where=positions.at(f"conda.{n}")) for n, package in enumerate(spec.conda)
        )
    return (*requirements.origins, *_apt_origins(spec.apt, positions), *conda)


def _apt_origins(apt: Iterable[str], positions: Positions) -> tuple[Origin, ...]:
    return tuple(Origin(line=package, where=positions.at(f"apt.{n}")) for n, package in enumerate(apt))


def _refuse_image_only(spec: EnvironmentSpec, train_file: str) -> None:
    for field, thing in _IMAGE_ONLY.items():
        if getattr(spec, field) is not None:
            raise PlanError(
                f"{train_file}: environment.{field} is {thing}, which needs the engine docker or slurm",
                tip="pushtrain run --engine docker, or --engine slurm on a fleet's machine; "
                "or describe the packages by environment.pip",
            )


def _keyed(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    everything = {**asdict(recipe), "legacy_keras": bool(recipe.legacy_keras)}
    content = {"format": FORMAT, **{name: everything[name] for name in names}}
    if recipe.horovod is None:
        content.pop("horovod", None)  # so that keys from before it was built here stay what they were
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return replace(recipe, key=digest[:32])
