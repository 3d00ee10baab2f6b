"""Features of GitHub that a token does not allow -> a note in place of a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from runner.errors import GitHubDenied

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Features:
    """Remembers which features are off, so that each is tried once and told once."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}

    def use(self, name: str, call: Callable[[], Result]) -> Result | None:
        """Returns what the call returns; None where the feature is off, or turns out to be.

        A token that lacks a permission turns the feature off. A token that is not accepted at all (GitHubDenied
        with an empty `permission`) concerns every feature and is raised, as all other errors are: later it may work.
        """
        if name in self._notes:
            return None
        try:
            return call()
        except GitHubDenied as error:
            if not error.permission:
                raise
            self._notes[name] = f"{name} are off: the token lacks `{error.permission}`"
            logger.warning("%s (%s)", self._notes[name], error)
            return None

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each feature that is off, in the order in which that was found."""
        return tuple(self._notes.values())
