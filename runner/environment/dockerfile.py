"""Ingredients -> the text of a Dockerfile; a user's Dockerfile -> the images it starts from. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

# Conda's own channels are fetched inside the build, so it needs a network that reaches them. Only the text of
# this part and the build with a stand-in for micromamba are tested.
MICROMAMBA = "mambaorg/micromamba:2.3.0"
# A folder, since a mount point stays in the image: an empty folder there hurts nobody, an empty `uv` would.
MOUNT = "/run/pushtrain"
_UV_CACHE = "/root/.cache/pushtrain-uv"
_CONDA = "/opt/conda"
_CONDA_CACHE = "/root/.cache/pushtrain-conda"
# Re-signed HTTPS works where the base trusts the signer; uv alone would ask its own list of authorities.
_CERTIFICATES = (
    "if [ -f /etc/ssl/certs/ca-certificates.crt ]; then "
    "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt; fi"
)
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<bare>\w+))")
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*$", re.IGNORECASE)
_ARG = re.compile(r"ARG\s+(?P<name>\w+)=(?P<value>\S+)\s*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What goes into a generated Dockerfile; `source` is the base as FROM names it, by digest if it can."""

    base: str
    source: str
    base_digest: str
    apt: tuple[str, ...] = ()
    pip: bool = False
    constraints: bool = False
    legacy_keras: bool = False
    horovod: bool = False
    conda: bool = False
    build_secrets: tuple[str, ...] = ()


def generate(ingredients: Ingredients) -> str:
    """A Dockerfile for Docker 20.10 and later: no `# syntax=` line (it would be fetched), no heredocs."""
    steps = [f"# {ingredients.base}\nFROM {ingredients.source}\nUSER root"]
    if ingredients.apt:
        steps.append(_apt(ingredients))
    if ingredients.conda:
        steps.append(_conda(ingredients))
    else:
        steps.append(
            "RUN if command -v python3 >/dev/null && ! command -v python >/dev/null; then \\\n"
            '    ln -s "$(command -v python3)" /usr/local/bin/python; fi'
        )
    if ingredients.pip:
        steps.append(_pip(ingredients))
    if ingredients.horovod:
        steps.append(f"{_uv(ingredients)} \\\n    -r {MOUNT}/horovod.txt{_constraints(ingredients)}")
    if ingredients.legacy_keras:
        steps.append(_legacy_keras(ingredients))
    return "\n".join(steps) + "\n"


# What builds Horovod, and what its Python comes from where the base has none.
_BUILD_TOOLS = ("g++", "libopenmpi-dev", "make", "openmpi-bin")
_WHEEL = "/pushtrain-wheel"


def generate_wheel(ingredients: Ingredients, *, tensorflow: str) -> str:
    """A Dockerfile whose whole result is one file: the wheel of Horovod for the base and that TensorFlow."""
    pythons = tuple(name for name in ingredients.apt if name.startswith("python"))
    tools = replace(ingredients, apt=tuple(sorted({*_BUILD_TOOLS, *pythons})))
    build = (
        f"{_uv_run(ingredients)} \\\n"
        f'    /bin/sh {MOUNT}/horovod-wheel {MOUNT}/uv "$(command -v python3)" {shlex.quote(tensorflow)} \\\n'
        f"    {MOUNT}/links.txt /tmp/horovod {_WHEEL} && rm -rf /tmp/horovod"
    )
    return "\n".join(
        [
            f"# {ingredients.base}\nFROM {ingredients.source} AS build\nUSER root",
            _apt(tools),
            build,
            f"FROM scratch\nCOPY --from=build {_WHEEL} /",
            "",
        ]
    )


_CACHE_MOUNT = re.compile(r"--mount=type=cache,id=pushtrain-\S+ \\\n\s*")


def without_caches(text: str) -> str:
    """A generated Dockerfile for packages that nobody vouches for.

    It mounts no cache, which others would read from, and takes only wheels, so that no code of a package is run while
    the image is made.
    """
    settings = f"UV_CACHE_DIR={_UV_CACHE} UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1"
    alone = _CACHE_MOUNT.sub("", text).replace(settings, "UV_NO_CACHE=1")
    return alone.replace("/uv pip install ", "/uv pip install --no-build ")


def _apt(ingredients: Ingredients) -> str:
    # Lists and packages of one base do not fit another, so each base has a cache of its own.
    base = ingredients.base_digest.rpartition(":")[2][:12]
    return (
        f"RUN {_cache('/var/cache/apt', f'pushtrain-apt-{base}')} \\\n"
        f"    {_cache('/var/lib/apt', f'pushtrain-lists-{base}')} \\\n"
        "    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update \\\n"
        "    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\\n"
        f"    {' '.join(shlex.quote(package) for package in ingredients.apt)}"
    )


def _conda(ingredients: Ingredients) -> str:
    secrets = _secret_mounts(ingredients)
    return (
        f"RUN {_context()} \\\n"
        f"    --mount=type=bind,from={MICROMAMBA},source=/bin,target={MOUNT}-micromamba \\\n"
        f"    {_cache(_CONDA_CACHE, 'pushtrain-conda')}{secrets} \\\n"
        f"    {_exports(ingredients)}MAMBA_ROOT_PREFIX={_CONDA}-root CONDA_PKGS_DIRS={_CONDA_CACHE} \\\n"
        f"    {MOUNT}-micromamba/micromamba create --yes --always-copy --prefix {_CONDA} \\\n"
        f"    --file {MOUNT}/environment.yml\n"
        f"ENV PATH={_CONDA}/bin:$PATH"
    )


def _pip(ingredients: Ingredients) -> str:
    return f"{_uv(ingredients)} \\\n    -r {MOUNT}/requirements.txt{_constraints(ingredients)}"


def _constraints(ingredients: Ingredients) -> str:
    return f" -c {MOUNT}/constraints.txt" if ingredients.constraints else ""


def _legacy_keras(ingredients: Ingredients) -> str:
    return (
        f'{_uv(ingredients)} \\\n    --no-deps "$(python {MOUNT}/legacy_keras.py)"\nENV TF_USE_LEGACY_KERAS=1'
    )


def _uv(ingredients: Ingredients) -> str:
    where = f"--python {_CONDA}/bin/python" if ingredients.conda else "--system"
    # Bytecode is written now: the training's user may not write it, and would compile anew in every
    # container.
    settings = f"UV_CACHE_DIR={_UV_CACHE} UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never"
    return (
        f"{_uv_mounts(ingredients)} \\\n"
        f"    && {settings} \\\n"
        f"    {MOUNT}/uv pip install --no-progress {where} --break-system-packages"
    )


def _uv_run(ingredients: Ingredients) -> str:
    """The start of a step whose command calls uv by itself."""
    settings = f"UV_CACHE_DIR={_UV_CACHE} UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1"
    return f"{_uv_mounts(ingredients)} \\\n    && {settings}"


def _uv_mounts(ingredients: Ingredients) -> str:
    return (
        f"RUN {_context()} \\\n"
        f"    {_cache(_UV_CACHE, 'pushtrain-uv', sharing='shared')}{_secret_mounts(ingredients)} \\\n"
        f"    {_exports(ingredients)}{_CERTIFICATES}"
    )


def _context() -> str:
    return f"--mount=type=bind,target={MOUNT}"


def _cache(folder: str, name: str, *, sharing: str = "locked") -> str:
    return f"--mount=type=cache,id={name},target={folder},sharing={sharing}"


def _secret_mounts(ingredients: Ingredients) -> str:
    return "".join(f" \\\n    --mount=type=secret,id={name},required" for name in ingredients.build_secrets)


def _exports(ingredients: Ingredients) -> str:
    """Secrets as variables of this one step: requirement lines may name them as ${NAME}."""
    return "".join(
        f'{name}="$(cat /run/secrets/{name})" && export {name} \\\n    && '
        for name in ingredients.build_secrets
    )


def bases(text: str) -> tuple[str, ...]:
    """The images that a Dockerfile starts from, in its order; its own stages and `scratch` are none.

    Global ARGs stand for their defaults. What only the build could know (an ARG without one) is left out.
    """
    arguments: dict[str, str] = {}
    stages: set[str] = {"scratch"}
    found: list[str] = []
    for row in _instructions(text):
        if not stages - {"scratch"} and not found and (argument := _ARG.fullmatch(row)):
            arguments[argument["name"]] = argument["value"].strip("\"'")
        elif match := _FROM.fullmatch(row):
            image = _filled(match["image"], arguments)
            if image is not None and image.lower() not in stages:
                found.append(image)
            stages.add((match["name"] or "scratch").lower())
    return tuple(found)


def _instructions(text: str) -> list[str]:
    rows = [row for row in text.splitlines() if not row.lstrip().startswith("#")]
    return [row.strip() for row in re.sub(r"\\\s*\n", " ", "\n".join(rows)).splitlines()]


def _filled(image: str, arguments: dict[str, str]) -> str | None:
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["bare"]
        known = arguments.get(name, match["default"])
        if known is None:
            missing.append(name)
        return known or ""

    filled = _VARIABLE.sub(value, image)
    return None if missing else filled
