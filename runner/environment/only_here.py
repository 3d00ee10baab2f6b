"""Recipe + the other hosts that may have its run -> refused where its images are in this machine's Docker alone."""

from __future__ import annotations

import os
from collections.abc import Sequence

from runner.environment import facts
from runner.environment.recipe import Recipe
from runner.errors import EnvironmentFailed

# A fleet may have thousands of hosts.
_NAMED = 3
HOW_TO_SHARE = (
    "export PUSHTRAIN_REGISTRY=HOST[/PATH], one that all hosts reach; or give the fleet one, on its head: "
    "pushtrain agent stop; pushtrain agent start --head … --serve-registry (or --registry HOST[/PATH]); "
    "then the new token to each host"
)
"""What to type for hosts to have a registry."""


def require_shared(recipe: Recipe, *, others: Sequence[str], registry: str | None) -> None:
    """Raise EnvironmentFailed, with the commands that push it, for an image that the `others` cannot have.

    Whether they have one of that name does not count: it may be another.
    """
    if not recipe.only_here or not others:
        return
    name = recipe.only_here[0][0]
    more = f" and {len(others) - _NAMED} more hosts" if len(others) > _NAMED else ""
    raise EnvironmentFailed(
        f"the image {name} is only in this machine's Docker, and {', '.join(others[:_NAMED])}{more} may have the run",
        tip=pushed(name, registry=registry),
    )


def require_registry(recipe: Recipe, *, nodes: int, others: Sequence[str], registry: str | None) -> None:
    """Raise EnvironmentFailed, with how to have a registry, for an image that one host builds and others cannot have.

    Whether they have it from an earlier run does not count: the hosts are chosen later.
    """
    if recipe.kind != "image" or recipe.image is not None or registry or nodes < 2 or not others:
        return
    raise EnvironmentFailed(
        f"one host builds the image of the environment, and the other {nodes - 1} cannot have it: "
        "no registry is configured",
        tip=HOW_TO_SHARE,
    )


def require_same(recipe: Recipe) -> None:
    """Raise EnvironmentFailed where an image that was planned by its id is not here, or is another by now."""
    for name, planned in recipe.only_here:
        here = facts.local(name)
        if here is None or here.id != planned:
            found = "there is none here" if here is None else f"here it is {_short(here.id)}"
            raise EnvironmentFailed(
                f"the image {name} was {_short(planned)} in the Docker of the machine that submitted the run, "
                f"which no registry knows; {found}",
                tip=f"on that machine: {pushed(name, registry=None)}; then: pushtrain run --fresh",
            )


def pushed(name: str, *, registry: str | None) -> str:
    """What to type for a registry to have an image that is only here."""
    last = name.rpartition("/")[2]
    there = f"{(registry or 'REGISTRY').rstrip('/')}/{last if ':' in last else f'{last}:latest'}"
    # Also the login that an agent made, which a shell does not have by itself.
    login = f"DOCKER_CONFIG={os.environ['DOCKER_CONFIG']} " if os.environ.get("DOCKER_CONFIG") else ""
    return f"docker tag {name} {there} && {login}docker push {there}, and name {there} in environment"


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]
