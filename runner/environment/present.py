"""Recipe -> is its environment there already?"""

from __future__ import annotations

from pathlib import Path

from runner.environment import image, venv
from runner.environment.recipe import Recipe


def present(recipe: Recipe, *, root: Path, registry: str | None) -> bool:
    """Whether nothing would have to be built: a finished venv below `root`, or an image here or in
    `registry`.

    Changes nothing. Raises as `prepare_image` where Docker does not answer.
    """
    if recipe.kind == "venv":
        return venv.is_complete(recipe, root=root)
    return image.is_there(recipe, registry=registry)
