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
from runner.environment.origin import Origin
from runner.environment.present import present
from runner.environment.recipe import Recipe, bases, image_recipe, venv_recipe
from runner.environment.venv import Venv, prepare_venv

__all__ = [
    "LABEL",
    "Base",
    "DockerFacts",
    "Image",
    "Origin",
    "Recipe",
    "Venv",
    "base_digest",
    "bases",
    "check_isolated",
    "docker_facts",
    "image_recipe",
    "isolated_name",
    "prepare_image",
    "prepare_isolated_image",
    "prepare_venv",
    "present",
    "remove_isolated_image",
    "venv_recipe",
]
