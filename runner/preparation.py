"""The plan's environment made ready on this machine, its build told line by line to the run's log."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner import environment, runs
from runner.environment import client
from runner.errors import DockerAway, EngineError, EnvironmentFailed
from runner.host.output import Mask, OutputStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.environment import Image
    from runner.plan import Plan
    from runner.store import Store

logger = logging.getLogger(__name__)

# As long as a host tries to pull an image, see host/images.py.
TRIED_FOR_S = 60.0
# A Docker that was killed is started again by its machine within seconds, or by nobody.
DOCKER_WITHIN_S = 20.0
LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What ranks start in: a venv's folder or an image's reference, one of the two. `name` is for people."""

    name: str
    digest: str
    venv: str | None
    image: str | None


def prepare(
    plan: Plan,
    *,
    run_id: str,
    folder: Path,
    store: Store,
    home: Path,
    registry: str | None,
    secrets: Mapping[str, str],
    tell: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """Make the environment or find it. Quick where it is there already; safe to repeat.

    `folder` is the run's source as planned, for files that an image build takes in. A registry that does not answer is
    asked again for a minute, and `tell` is told for what is waited then, at last nothing. Raises EnvironmentFailed,
    DockerAway.
    """
    recipe = plan.environment
    demand = environment.Demand(distribution=plan.distribution.type, env=plan.env)

    def image() -> Image:
        if plan.isolated:
            name = environment.isolated_name(run_id)
            return environment.prepare_isolated_image(
                recipe, name=name, folder=folder, registry=registry, log=log, cache=home / "cache"
            )
        return environment.prepare_image(
            recipe,
            folder=folder,
            registry=registry,
            secrets=secrets,
            wheel_cache=environment.wheels_folder(home / "envs"),
            log=log,
            cache=home / "cache",
        )

    with _log(store, run_id, secrets) as log:
        if recipe.kind == "venv":
            venv = environment.prepare_venv(recipe, root=home / "envs", log=log)
            environment.check_venv(recipe, venv, demand, log=log)
            return Prepared(name=f"venv {recipe.key[:12]}", digest="", venv=str(venv.path), image=None)
        made = patiently(image, tell=tell, log=log)
        environment.check_image(recipe, made, demand, probes=home / "cache" / "probes", log=log)
    return Prepared(name=made.reference, digest=made.digest, venv=None, image=made.pinned)


def patiently(
    make: Callable[[], Image],
    *,
    tell: Callable[[str], None],
    log: Callable[[str], None],
    within_s: float = TRIED_FOR_S,
    docker_within_s: float = DOCKER_WITHIN_S,
    pause_s: float = 1.0,
) -> Image:
    """What `make` makes, tried again while a registry or this host's Docker does not answer. Blocks meanwhile.

    `pause_s` is the first pause; each is twice as long as the one before, up to a limit.
    Raises what `make` raises, with this host's name where it was tried in vain.
    """
    since_s = None
    while True:
        try:
            made = make()
        except (DockerAway, client.Refused) as error:
            if isinstance(error, client.Refused) and not client.is_passing(error):
                raise
            most_s = docker_within_s if isinstance(error, DockerAway) else within_s
            since_s = since_s or time.monotonic()  # A long build comes before the first push.
            if time.monotonic() - since_s + pause_s > most_s:
                raise _in_vain(error, most_s=most_s) from error
            what = f"{socket.gethostname()}: {error}"
            log(f"{what}; trying again in {pause_s:.0f} s")
            tell(f"{what}; trying again")
        else:
            tell("")
            return made
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


def _in_vain(error: DockerAway | client.Refused, *, most_s: float) -> DockerAway | EnvironmentFailed:
    host = socket.gethostname()
    if isinstance(error, DockerAway):
        return DockerAway(f"{host}: {error}", tip=error.tip)
    return EnvironmentFailed(
        f"{host}: {error}; the registry did not answer for {most_s:.0f} s",
        tip=f"see that the registry runs and that {host} reaches it; then: pushtrain run",
    )


def forget(plan: Plan, *, run_id: str) -> None:
    """Remove what was made ready for this run alone. Safe to repeat; what Docker refuses is left to `pushtrain gc`."""
    if plan.isolated and plan.environment.kind == "image":
        try:
            environment.remove_isolated_image(run_id)
        except (EngineError, EnvironmentFailed) as error:
            logger.warning("the image of %s is left: %s", run_id, error)


@contextlib.contextmanager
def _log(store: Store, run_id: str, secrets: Mapping[str, str]) -> Iterator[Callable[[str], None]]:
    key = runs.build_log_key(run_id)
    stream = OutputStream(store, key, Mask(secrets.values()), offset=len(store.tail(key, offset=0)))

    def log(line: str) -> None:
        stream.feed(line.encode() + b"\n")
        stream.flush()

    try:
        yield log
    finally:
        stream.flush(last=True)
