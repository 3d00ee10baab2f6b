"""Plan -> Environment: an image by content key, or a venv where there is no Docker.

spec, files, facts --venv_recipe / image_recipe--> Recipe --prepare_venv / prepare_image--> Venv / Image
"""

from runner.environment.facts import Base, DockerFacts, base_digest, docker_facts
from runner.environment.image import (
    LABEL,
    Image,
    check_isolated,
    isolated_name,
    prepare_image,
    prepare_isolated_image,
    remove_isolated_image,
)
from runner.environment.lookup import Lookup, lookup
from runner.environment.only_here import require_registry, require_shared
from runner.environment.origin import Origin
from runner.environment.present import present
from runner.environment.recipe import Recipe, bases, image_recipe, venv_recipe
from runner.environment.venv import Venv, prepare_venv
from runner.environment.verify import Demand, check_image, check_planned, check_venv
from runner.environment.wheels import folder as wheels_folder

__all__ = [
    "LABEL",
    "Base",
    "Demand",
    "DockerFacts",
    "Image",
    "Lookup",
    "Origin",
    "Recipe",
    "Venv",
    "base_digest",
    "bases",
    "check_image",
    "check_isolated",
    "check_planned",
    "check_venv",
    "docker_facts",
    "image_recipe",
    "isolated_name",
    "lookup",
    "prepare_image",
    "prepare_isolated_image",
    "prepare_venv",
    "present",
    "remove_isolated_image",
    "require_registry",
    "require_shared",
    "venv_recipe",
    "wheels_folder",
]
