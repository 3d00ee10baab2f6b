"""Recipe of a fork -> whether an image may be made of it here: no code of the fork runs, no address is the fork's."""

from __future__ import annotations

import re

from runner.environment.recipe import Recipe
from runner.errors import EnvironmentFailed

_HASHES = re.compile(r"(?:\s+--hash[= ][a-z0-9]+:[0-9a-f]+)+$")
# What else a requirements file may say: none of it names an address, or lets a package be built from its source.
_OPTION = re.compile(
    r"--pre|--prefer-binary|--require-hashes|--no-index|--only-binary(?:\s+|=)[A-Za-z0-9._,:-]+"
)
_SOURCE_BUILD = "--no-binary"


def require_harmless(recipe: Recipe) -> None:
    """Raises EnvironmentFailed, with the line, where making the image would do what the fork's author says."""
    lines = (*recipe.pip, *recipe.constraints)
    made_of = {
        f"the Dockerfile {recipe.dockerfile_path}": recipe.dockerfile_path is not None,
        "environment.conda": recipe.conda is not None,
        "environment.legacy_keras": bool(recipe.legacy_keras),
        "horovod, which is built from source": recipe.horovod is not None,
        # uv lets `--no-binary` of a requirements file go before its own `--no-build`.
        "packages with --no-binary": any(_SOURCE_BUILD in line for line in lines),
    }
    for what, there in made_of.items():
        if there:
            raise EnvironmentFailed(
                f"no image is made of {what} for a fork: that would run the fork's code with the network",
                tip="train once on the base branch with the same environment, and the fork's run takes that image",
            )
    refused = [line for line in lines if not _is_plain(line)]
    if refused:
        raise _refusal(recipe, refused)


def _is_plain(line: str) -> bool:
    """Whether it asks this machine's package index alone: a list of what may be said, since uv knows more each year."""
    from packaging.requirements import InvalidRequirement, Requirement

    if line.startswith("-"):
        return _OPTION.fullmatch(line) is not None
    try:
        return Requirement(_HASHES.sub("", line)).url is None
    except InvalidRequirement:
        return False


def _refusal(recipe: Recipe, refused: list[str]) -> EnvironmentFailed:
    places = {origin.line: origin.where for origin in recipe.origins}
    named = [f"  {places.get(line, 'environment.pip')}: {line}" for line in dict.fromkeys(refused)]
    return EnvironmentFailed(
        "no image is made for a fork of lines that are more than a package of the index and its versions: "
        "this machine would open the addresses that the fork names\n" + "\n".join(named),
        tip="name published packages, such as six==1.17.0; or train once on the base branch with the same "
        "environment, and the fork's run takes that image",
    )
