"""Versions -> stages: who stands in production, since when, and who stood there before."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from runner.errors import Conflict, ModelError
from runner.models.registry import check_name, numbered, require_model, suggestion
from runner.models.shelf import Shelf, option
from runner.models.version import Promotion, Version

logger = logging.getLogger(__name__)


def find(shelf: Shelf, reference: str) -> Version:
    """The version that `NAME`, `NAME@VERSION` or `NAME#STAGE` stands for; bare, it is the latest.

    Raises ModelError where there is none, with the nearest that there is.
    """
    if "#" not in reference:
        return numbered(shelf, reference)
    name, _, stage = reference.partition("#")
    require_model(shelf, name)
    return shelf.version(name, current(shelf, name, stage).version)


def stages(shelf: Shelf, name: str) -> Mapping[str, Promotion]:
    """Who stands in each stage of a model now, by stage, sorted; empty where there is none yet."""
    found = shelf.stages(name)
    return {stage: shelf.promotion(name, stage, numbers[-1]) for stage, numbers in found.items()}


def current(shelf: Shelf, name: str, stage: str) -> Promotion:
    """Who stands in the stage; raises ModelError where nobody ever did."""
    promotion = _latest(shelf, name, stage)
    if promotion is None:
        message = f"no version of {name} stands in {stage!r}{suggestion(stage, shelf.stages(name))}"
        raise ModelError(message, tip=f"pushtrain promote {name}@VERSION STAGE{option(shelf)}")
    return promotion


def promote(
    shelf: Shelf, name: str, version: str, stage: str, *, by: str, at_s: float, expected: int | None
) -> Promotion:
    """Gives the stage to a version.

    `expected` is the `n` of the promotion that the caller saw there (0: none; None: any). A version that
    stands there already stays, under its old promotion, so that repeating is safe. Raises ModelError where
    there is no such version, and where somebody else was first with another version, saying who.
    """
    check_name(stage, "stage")
    found = numbered(shelf, f"{name}@{version}")
    latest = _latest(shelf, name, stage)
    standing = latest.n if latest else 0
    again = f"pushtrain promote {name}@{found.version} {stage}{option(shelf)}"
    if latest is not None and latest.version == found.version:
        return latest
    if latest is not None and expected is not None and expected != standing:
        raise _lost(latest, again)
    wanted = Promotion(n=standing + 1, name=name, version=found.version, stage=stage, by=by, at_s=at_s)
    return _create(shelf, wanted, again)


def rollback(shelf: Shelf, name: str, stage: str, *, by: str, at_s: float) -> Promotion:
    """Gives the stage back to the version that stood there before, as a new promotion.

    Each further rollback goes one version further back. Raises ModelError where nothing is left to go back
    to, and where somebody else promoted another version at the same moment, saying who.
    """
    require_model(shelf, name)
    latest = current(shelf, name, stage)
    target = _before(shelf, latest)
    if target is None:
        raise ModelError(
            f"nothing stood in {name}#{stage} before {latest.version}",
            tip=f"pushtrain promote {name}@VERSION {stage}{option(shelf)}",
        )
    wanted = Promotion(
        n=latest.n + 1, name=name, version=target.version, stage=stage, by=by, at_s=at_s, restores=target.n
    )
    return _create(shelf, wanted, f"pushtrain rollback {name} {stage}{option(shelf)}")


def mirror(shelf: Shelf, promotion: Promotion, version: Version) -> Promotion | None:
    """Gives the stage to the version on another shelf too, so that both agree on who stands there. Safe to repeat.

    None where that shelf does not have this very version of this very run. Its numbers and its history are its own:
    a rollback is a promotion there. Raises ModelError where somebody promotes another one at the same moment.
    """
    if version.version not in shelf.numbers(version.name):
        return None
    if shelf.version(version.name, version.version).lineage.run_id != version.lineage.run_id:
        return None
    name, number, stage = promotion.name, promotion.version, promotion.stage
    return promote(shelf, name, number, stage, by=promotion.by, at_s=promotion.at_s, expected=None)


def _before(shelf: Shelf, promotion: Promotion) -> Promotion | None:
    """The promotion that the one which counts took the stage from; None where that was the first."""
    name, stage = promotion.name, promotion.stage
    counts = promotion.restores or promotion.n
    earlier = [n for n in shelf.stages(name).get(stage, ()) if n < counts]
    if not earlier:
        return None
    before = shelf.promotion(name, stage, earlier[-1])
    return before if before.restores is None else shelf.promotion(name, stage, before.restores)


def _create(shelf: Shelf, promotion: Promotion, again: str) -> Promotion:
    try:
        shelf.add_promotion(promotion)
    except Conflict as error:
        winner = shelf.promotion(promotion.name, promotion.stage, promotion.n)
        if winner.version == promotion.version:  # what was wished for stands there
            return winner
        raise _lost(winner, again) from error
    logger.info("%s stands in %s", promotion.version, promotion.tag)
    return promotion


def _lost(winner: Promotion, again: str) -> ModelError:
    message = f"{winner.by} was first: {winner.version} stands in {winner.name}#{winner.stage} ({winner.tag})"
    return ModelError(message, tip=f"to replace it all the same, type: {again}")


def _latest(shelf: Shelf, name: str, stage: str) -> Promotion | None:
    numbers = shelf.stages(name).get(stage)
    return shelf.promotion(name, stage, numbers[-1]) if numbers else None
