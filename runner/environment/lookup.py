"""Images that a plan names -> what they are now: in this machine's Docker, or without one in their registries."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runner.environment import facts, image, verify
from runner.environment.facts import Base, DockerFacts
from runner.environment.harmless import require_harmless
from runner.environment.present import present
from runner.environment.recipe import Recipe
from runner.environment.verify import Demand
from runner.errors import EngineError, EnvironmentFailed

logger = logging.getLogger(__name__)

# What the hosts of a fleet are, unless Docker's own variable for that says otherwise.
_PLATFORM = "linux/amd64"


class Lookup(Protocol):
    """Where images are looked up while a run is planned. Nothing is pulled, built or changed; repeating is safe."""

    def facts(self, references: Iterable[str]) -> DockerFacts:
        """The platform, and each image as it is now. Raises EngineError, EnvironmentFailed."""

    def check_planned(self, recipe: Recipe, demand: Demand) -> tuple[str, ...]:
        """Notes for the plan on what goes together; see `verify.check_planned`."""

    def check_isolated(self, recipe: Recipe) -> None:
        """Raise EnvironmentFailed where no image may be made for a fork's run."""

    def present(self, recipe: Recipe) -> bool | None:
        """Whether nothing would have to be built; None where that cannot be known from here."""


@dataclass(frozen=True, kw_only=True)
class OnMachine:
    """In this machine's Docker and what it reaches; environments without Docker in `home`."""

    registry: str | None
    home: Path

    def facts(self, references: Iterable[str]) -> DockerFacts:
        """See Lookup.facts."""
        return facts.docker_facts(references)

    def check_planned(self, recipe: Recipe, demand: Demand) -> tuple[str, ...]:
        """See Lookup.check_planned; an image that is here is asked what it holds."""
        probes = self.home / "cache" / "probes"
        return verify.check_planned(recipe, demand, registry=self.registry, probes=probes)

    def check_isolated(self, recipe: Recipe) -> None:
        """See Lookup.check_isolated."""
        image.check_isolated(recipe, registry=self.registry)

    def present(self, recipe: Recipe) -> bool | None:
        """See Lookup.present."""
        return present(recipe, root=self.home / "envs", registry=self.registry)


@dataclass(frozen=True, kw_only=True)
class InRegistries:
    """In the registries alone, over HTTP: what the hosts' own Docker has is not known. The digests are the same."""

    registry: str | None

    def facts(self, references: Iterable[str]) -> DockerFacts:
        """See Lookup.facts."""
        said = os.environ.get("DOCKER_DEFAULT_PLATFORM") or _PLATFORM
        platform = "/".join(said.split("/")[:2])  # a daemon does not say the variant either
        return DockerFacts(platform=platform, bases=tuple(self._base(each) for each in references))

    def _base(self, reference: str) -> Base:
        from runner.environment import registry

        digest = registry.digest(reference)
        if digest is None:
            there = self.registry or "REGISTRY"
            raise EnvironmentFailed(
                f"the registry has no image {reference}; one that only the Docker of a host has cannot be named "
                "from a machine without Docker",
                tip=f"correct it in environment, or on that host: docker tag {reference} {there}/NAME && "
                f"docker push {there}/NAME, and name {there}/NAME",
            )
        source = f"{facts.repository(reference)}@{digest}"
        return Base(reference=reference, digest=digest, source=source, content=digest)

    def check_planned(self, recipe: Recipe, demand: Demand) -> tuple[str, ...]:
        """See Lookup.check_planned; by the packages that are named. The hosts ask the image itself."""
        return verify.check_named(recipe, demand)

    def check_isolated(self, recipe: Recipe) -> None:
        """See Lookup.check_isolated."""
        if not self.present(recipe):
            require_harmless(recipe)

    def present(self, recipe: Recipe) -> bool | None:
        """See Lookup.present; a registry that does not answer here may do so on the hosts."""
        if recipe.image is not None:
            return True  # by `facts`
        if self.registry is None:
            return None
        from runner.environment import registry

        try:
            return registry.digest(image.reference(recipe, registry=self.registry)) is not None
        except EnvironmentFailed as error:
            logger.info("whether the environment is there is not known: %s", error)
            return None


def lookup(*, registry: str | None, home: Path, elsewhere: bool) -> Lookup:
    """By this machine's Docker; only where images are used `elsewhere` and no Docker answers here, by registries."""
    if elsewhere and not _docker_answers():
        return InRegistries(registry=registry)
    return OnMachine(registry=registry, home=home)


def _docker_answers() -> bool:
    try:
        facts.platform()
    except (EngineError, EnvironmentFailed) as error:
        logger.info("images are looked up in their registries: %s", error)
        return False
    return True
