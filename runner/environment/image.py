"""Recipe -> an image in Docker, from here, from the registry, or built and pushed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runner.environment import blame, client, context, dockerfile, facts, keras, only_here, pulled, wheels
from runner.environment.builder import Builder, find_builder
from runner.environment.harmless import require_harmless
from runner.environment.python import uv
from runner.environment.recipe import Recipe
from runner.environment.stream import Ended, Log, stream
from runner.errors import EnvironmentFailed, PushtrainError

logger = logging.getLogger(__name__)

LOCAL = "pushtrain/env"
IN_REGISTRY = "pushtrain-env"
ISOLATED = "pushtrain/isolated"
# By this label `pushtrain gc` finds what it may remove.
LABEL = "pushtrain.environment"

_STEP_ERROR = re.compile(r"#(\d+) ERROR")
_STEP = re.compile(r"#\d+ \[[^\]]*\] (.*)")
# What BuildKit does before any instruction of ours.
_LOADING = ("load metadata for", "FROM ")
_PRINTED = re.compile(r"#\d+ \d+\.\d+ ")


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that is in this machine's Docker. `reference` is its name; `digest` is the registry's where it has one,
    else the image's id. `pinned` starts containers: by digest where a registry has it, so that any host may pull it;
    a user's own that no registry has by its id, so that no host takes another of that name.
    """

    key: str
    reference: str
    digest: str
    pinned: str


@dataclass(frozen=True, kw_only=True)
class _Building:
    """What a build reads and where it is told of. `folder` is the source; without a `wheel_cache` no wheel is built.

    In `cache` is noted what was pulled for it.
    """

    folder: Path
    secrets: Mapping[str, str]
    wheel_cache: Path | None
    log: Log
    cache: Path | None = None


def reference(recipe: Recipe, *, registry: str | None) -> str:
    """What the image of `recipe` is called; with a registry it is its name there."""
    if recipe.image is not None:
        return recipe.image
    return f"{registry.rstrip('/')}/{IN_REGISTRY}:{recipe.key}" if registry else f"{LOCAL}:{recipe.key}"


def names(recipe: Recipe, *, registry: str | None) -> tuple[str, ...]:
    """All that the image of `recipe` may be called on this machine."""
    if recipe.image is not None and recipe.only_here:
        return (recipe.image,)
    if recipe.image is not None:
        return (recipe.image, f"{facts.repository(recipe.image)}@{recipe.base_digest}")
    return tuple(dict.fromkeys((reference(recipe, registry=registry), f"{LOCAL}:{recipe.key}")))


def is_there(recipe: Recipe, *, registry: str | None) -> bool:
    """Whether the image is here or in the registry; pulls nothing. Raises as `prepare_image`."""
    name = reference(recipe, registry=registry)
    here = facts.local(name) or facts.local(f"{LOCAL}:{recipe.key}")
    return here is not None or (registry is not None and facts.registry_digest(name) is not None)


def prepare_image(
    recipe: Recipe,
    *,
    folder: Path,
    registry: str | None,
    secrets: Mapping[str, str],
    wheel_cache: Path,
    log: Log,
    cache: Path | None = None,
) -> Image:
    """The image of `recipe`: as it is here, else from `registry` (`HOST[/PATH]`), else built, and pushed
    there.

    Blocks while it is pulled or built; every line of Docker goes to `log`, secrets blotted out. `folder` is the source
    folder, read for a user's Dockerfile only; `wheel_cache` is where wheels of Horovod are kept on this machine,
    `cache` where is noted which images were pulled for runs. Repeating is safe. Raises EngineError where Docker does
    not answer or cannot build, EnvironmentFailed with the package and the line to change; a failed build leaves no
    image.
    """
    name = reference(recipe, registry=registry)
    if recipe.image is not None:
        return _given(recipe, recipe.image, log, cache)
    here = facts.local(name)
    if here is not None and (registry is None or here.digest is not None):
        return _image(recipe, name, here)
    building = _Building(folder=folder, secrets=secrets, wheel_cache=wheel_cache, log=log, cache=cache)
    if registry is None:
        _build(recipe, name, building)
    else:
        _share(recipe, name, building)
    return _here(recipe, name)


def prepare_isolated_image(
    recipe: Recipe, *, name: str, folder: Path, registry: str | None, log: Log, cache: Path | None = None
) -> Image:
    """The image of `recipe` for a fork's run: the team's own of the same key, else one built for this run alone.

    What is built is called `name` (see `isolated_name`), is never pushed, shares no cache and has no secrets. Raises as
    `prepare_image`, and EnvironmentFailed for what cannot be built without running the fork's code on the way, or
    opening an address that the fork names.
    """
    if recipe.image is not None:
        return _given(recipe, recipe.image, log, cache)
    for shared in names(recipe, registry=registry):
        if (here := facts.local(shared)) is not None:
            return _image(recipe, shared, here)
    if registry is not None and facts.registry_digest(reference(recipe, registry=registry)) is not None:
        _run(("pull", reference(recipe, registry=registry)), log)
        return _here(recipe, reference(recipe, registry=registry))
    if (here := facts.local(name)) is not None:
        return _image(recipe, name, here)
    require_harmless(recipe)
    alone = replace(recipe, dockerfile=dockerfile.without_caches(recipe.dockerfile or ""))
    _build(alone, name, _Building(folder=folder, secrets={}, wheel_cache=None, log=log, cache=cache))
    return _here(recipe, name)


def check_isolated(recipe: Recipe, *, registry: str | None) -> None:
    """Raise EnvironmentFailed where `prepare_isolated_image` would refuse to build. Builds nothing."""
    if recipe.image is None and not is_there(recipe, registry=registry):
        require_harmless(recipe)


def isolated_name(run_id: str) -> str:
    """What the image of a fork's run is called, where it has one of its own."""
    return f"{ISOLATED}:{run_id}"


def remove_isolated_image(run_id: str) -> None:
    """Remove the image of a fork's run. Safe to repeat. Raises EngineError, EnvironmentFailed where Docker refuses."""
    if facts.local(isolated_name(run_id)) is not None:
        client.ask("image", "rm", isolated_name(run_id))


def _given(recipe: Recipe, name: str, log: Log, cache: Path | None) -> Image:
    """The user's own image at the digest that was planned; a tag that has moved since does not count."""
    if recipe.only_here:
        only_here.require_same(recipe)
        made = _here(recipe, name)
        return replace(made, pinned=made.digest)
    here = facts.local(name)
    if here is not None and recipe.base_digest in (here.digest, here.id):
        return _image(recipe, name, here)
    pinned = names(recipe, registry=None)[-1]
    _pull_once(pinned, log, cache)
    return _here(recipe, pinned)


def _here(recipe: Recipe, name: str) -> Image:
    here = facts.local(name)
    if here is None:
        raise EnvironmentFailed(f"the image {name} vanished from Docker", tip="run the command again")
    return _image(recipe, name, here)


def _image(recipe: Recipe, name: str, here: facts.Local) -> Image:
    pinned = f"{facts.repository(name)}@{here.digest}" if here.digest else name
    return Image(key=recipe.key, reference=name, digest=here.digest or here.id, pinned=pinned)


def _share(recipe: Recipe, name: str, building: _Building) -> None:
    """Have the image here and in the registry under `name`."""
    local = f"{LOCAL}:{recipe.key}"
    if facts.local(local) is None:
        if facts.registry_digest(name) is not None:
            _run(("pull", name), building.log)
            return
        _build(recipe, local, building)
    client.ask("tag", local, name)
    _run(("push", name), building.log)


def _pull_once(name: str, log: Log, cache: Path | None) -> None:
    """Pull what is not here; what is pulled by its digest, nobody else has named, so that we may remove it."""
    is_new = facts.local(name) is None
    _run(("pull", name), log)
    if cache is not None and is_new and "@" in name:
        pulled.note(cache, name, pulled=True)


def _run(arguments: tuple[str, ...], log: Log) -> None:
    ended = stream([client.executable(), *arguments], env=os.environ, log=log)
    if ended.code:
        raise client.refusal(" ".join(arguments), "\n".join(ended.lines[-5:]))


def _build(recipe: Recipe, tag: str, building: _Building) -> None:
    _require_secrets(recipe, building.secrets)
    only_here.require_same(recipe)
    builder = find_builder(os.environ)
    _fetch_bases(recipe, building.log, building.cache)
    wheel = None
    if building.wheel_cache is not None:
        wheel = wheels.for_image(
            recipe, root=building.wheel_cache, secrets=building.secrets, log=building.log
        )
    started_s = time.monotonic()
    logger.info("building the image %s", tag)
    with tempfile.TemporaryDirectory(prefix="pushtrain-build-") as temporary:
        stage = Path(temporary)
        (stage / "Dockerfile").write_text(recipe.dockerfile or "")
        (stage / "context").mkdir()
        _stage(recipe, building.folder, stage / "context", wheel=wheel)
        ended = _docker_build(recipe, builder, tag, stage, building)
    if ended.code:
        raise _failure(recipe, ended)
    logger.info("built the image in %.1f s", time.monotonic() - started_s)


def _fetch_bases(recipe: Recipe, log: Log, cache: Path | None) -> None:
    """BuildKit may want TLS of a registry that Docker is told to trust without; what is here it does not ask for."""
    from runner.environment import registry

    last = ((recipe.base, recipe.base_digest),) if recipe.base and recipe.base_digest else ()
    for name, digest in dict.fromkeys((*recipe.stages, *last)):
        source = name if recipe.dockerfile_path else f"{facts.repository(name)}@{digest}"
        if (name, digest) in recipe.only_here or facts.local(source) is not None:
            continue
        where = registry.address(name)
        if where.registry != registry.HUB and registry.is_near(where):
            _pull_once(source, log, cache)


def _docker_build(recipe: Recipe, builder: Builder, tag: str, stage: Path, building: _Building) -> Ended:
    """Secrets travel in the environment of the command: never in its arguments, a file or a layer."""
    options = ["--progress", "plain", "--label", f"{LABEL}={recipe.key}", "--tag", tag]
    for name in recipe.build_secrets:
        options += ["--secret", f"id={name},env={name}"]
    values = {name: building.secrets[name] for name in recipe.build_secrets}
    return stream(
        [*builder.command, *options, "--file", str(stage / "Dockerfile"), str(stage / "context")],
        env={**os.environ, **dict(builder.env), **values},
        log=building.log,
        secrets=[line for value in values.values() for line in value.splitlines()],
    )


def _stage(recipe: Recipe, folder: Path, to: Path, *, wheel: Path | None) -> None:
    """What the build may see. A generated Dockerfile mounts uv from here: a base needs Python, not pip."""
    if recipe.dockerfile_path is not None:
        context.stage(folder, recipe.context, to=to)
        return
    if recipe.pip or recipe.legacy_keras:
        shutil.copy2(uv(), to / "uv")
    _write(to / "requirements.txt", "".join(f"{line}\n" for line in recipe.pip))
    _write(to / "constraints.txt", "".join(f"{line}\n" for line in recipe.constraints))
    _write(to / "environment.yml", recipe.conda or "")
    if recipe.legacy_keras:
        shutil.copyfile(keras.__file__, to / "legacy_keras.py")
    if wheel is not None:
        shutil.copyfile(wheel, to / wheel.name)
        _write(to / wheels.REQUIREMENTS, wheels.requirement_lines(recipe, f"{dockerfile.MOUNT}/{wheel.name}"))


def _write(path: Path, text: str) -> None:
    if text:
        path.write_text(text)


def _require_secrets(recipe: Recipe, secrets: Mapping[str, str]) -> None:
    missing = [name for name in recipe.build_secrets if not secrets.get(name)]
    if missing:
        raise EnvironmentFailed(
            f"build secrets without a value: {', '.join(missing)}",
            tip=f"export {missing[0]}=… and run the command again",
        )


def _failure(recipe: Recipe, ended: Ended) -> PushtrainError:
    text = "\n".join(ended.lines)
    if "no space left on device" in text.lower() or "daemon running" in text.lower():
        return client.refusal("build", text)
    command, output = failed_step(ended.lines)
    away = command.startswith(_LOADING) or not command
    if client.is_away(text) or (away and client.is_passing(client.Refused("", said=text))):
        return client.refusal(f"build: {command}", text)
    if refused := blame.apt_failure(output, recipe.origins):
        return refused
    for words, message, tip in _KNOWN:
        if words in "\n".join(output):
            return EnvironmentFailed(message.format(base=recipe.base), tip=tip)
    if "uv pip install" in command and recipe.dockerfile_path is None:
        return blame.pip_failure(output, recipe.origins)
    return _unknown(recipe, command, output or ended.lines)


_KNOWN = (
    (
        "No system Python installation found",
        "the base {base} has no Python",
        "take a base with Python such as python:3.11-slim, or add python3 to environment.apt",
    ),
    ("apt-get: not found", "the base {base} has no apt-get", "take a base on Debian or Ubuntu"),
    (
        "uv: not found",
        "the base {base} cannot run uv, which is made for glibc",
        "take a base on Debian or Ubuntu, or a dockerfile: of your own",
    ),
)


def failed_step(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The instruction that failed and what it printed; both empty where BuildKit names none."""
    failed = next((match[1] for line in lines if (match := _STEP_ERROR.match(line))), None)
    if failed is None:
        return "", []
    mine = [line for line in lines if line.startswith(f"#{failed} ")]
    command = next((match[1] for line in mine if (match := _STEP.match(line))), "")
    return command, [_PRINTED.sub("", line) for line in mine if _PRINTED.match(line)]


def _unknown(recipe: Recipe, command: str, output: Sequence[str]) -> EnvironmentFailed:
    said = [line.strip() for line in output if line.strip() and not line.startswith("----")][-3:]
    where = recipe.dockerfile_path or "the image's build"
    step = f": {command[:100]}" if command else ""
    return EnvironmentFailed(
        "\n".join([f"{where} failed{step}", *(f"  {line}" for line in said)]),
        tip="correct that line of the Dockerfile"
        if recipe.dockerfile_path
        else "the build's log has the whole output",
    )
