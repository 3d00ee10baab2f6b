"""The plan's environment made ready on this machine, its build told line by line to the run's log."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner import environment, runs
from runner.errors import EngineError, EnvironmentFailed
from runner.host.output import Mask, OutputStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.plan import Plan
    from runner.store import Store

logger = logging.getLogger(__name__)


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
) -> Prepared:
    """Make the environment or find it. Quick where it is there already; safe to repeat.

    `folder` is the run's source as planned, for files that an image build takes in. Raises EnvironmentFailed.
    """
    recipe = plan.environment
    demand = environment.Demand(distribution=plan.distribution.type, env=plan.env)
    with _log(store, run_id, secrets) as log:
        if recipe.kind == "venv":
            venv = environment.prepare_venv(recipe, root=home / "envs", log=log)
            environment.check_venv(recipe, venv, demand, log=log)
            return Prepared(name=f"venv {recipe.key[:12]}", digest="", venv=str(venv.path), image=None)
        if plan.isolated:
            name = environment.isolated_name(run_id)
            image = environment.prepare_isolated_image(
                recipe, name=name, folder=folder, registry=registry, log=log
            )
        else:
            image = environment.prepare_image(
                recipe,
                folder=folder,
                registry=registry,
                secrets=secrets,
                wheel_cache=environment.wheels_folder(home / "envs"),
                log=log,
            )
        environment.check_image(recipe, image, demand, probes=home / "cache" / "probes", log=log)
    return Prepared(name=image.reference, digest=image.digest, venv=None, image=image.pinned)


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
