"""Versions -> stages: who stands in production, since when, and who stood there before."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from runner.errors import Conflict, ModelError
from runner.models.registry import check_name, numbered, read, require_model, suggestion
from runner.models.version import Promotion, Version, valid_name
from runner.store import Store

logger = logging.getLogger(__name__)


def find(store: Store, reference: str) -> Version:
    """The version that `NAME`, `NAME@VERSION` or `NAME#STAGE` stands for; bare, it is the latest.

    Raises ModelError where there is none, with the nearest that there is.
    """
    if "#" not in reference:
        return numbered(store, reference)
    name, _, stage = reference.partition("#")
    require_model(store, name)
    return read(store, name, current(store, name, stage).version)


def stages(store: Store, name: str) -> Mapping[str, Promotion]:
    """Who stands in each stage of a model now, by stage, sorted; empty where there is none yet."""
    found = {stage: _latest(store, name, stage) for stage in store.children(f"models/{name}/stages")}
    return {stage: promotion for stage, promotion in found.items() if promotion is not None}


def current(store: Store, name: str, stage: str) -> Promotion:
    """Who stands in the stage; raises ModelError where nobody ever did."""
    promotion = _latest(store, name, stage)
    if promotion is None:
        message = f"no version of {name} stands in {stage!r}{suggestion(stage, stages(store, name))}"
        raise ModelError(message, tip=f"pushtrain promote {name}@VERSION STAGE")
    return promotion


def promote(
    store: Store, name: str, version: str, stage: str, *, by: str, at_s: float, expected: int | None
) -> Promotion:
    """Gives the stage to a version.

    `expected` is the `n` of the promotion that the caller saw there (0: none; None: any). A version that
    stands there already stays, under its old promotion, so that repeating is safe. Raises ModelError where
    there is no such version, and where somebody else was first with another version, saying who.
    """
    check_name(stage, "stage")
    found = numbered(store, f"{name}@{version}")
    latest = _latest(store, name, stage)
    standing = latest.n if latest else 0
    if latest is not None and latest.version == found.version:
        return latest
    if latest is not None and expected is not None and expected != standing:
        raise _lost(latest, f"pushtrain promote {name}@{found.version} {stage}")
    wanted = Promotion(n=standing + 1, name=name, version=found.version, stage=stage, by=by, at_s=at_s)
    return _create(store, wanted, f"pushtrain promote {name}@{found.version} {stage}")


def rollback(store: Store, name: str, stage: str, *, by: str, at_s: float) -> Promotion:
    """Gives the stage back to the version that stood there before, as a new promotion.

    Each further rollback goes one version further back. Raises ModelError where nothing is left to go back
    to, and where somebody else promoted another version at the same moment, saying who.
    """
    require_model(store, name)
    latest = current(store, name, stage)
    target = _before(store, latest)
    if target is None:
        raise ModelError(
            f"nothing stood in {name}#{stage} before {latest.version}",
            tip=f"pushtrain promote {name}@VERSION {stage}",
        )
    wanted = Promotion(
        n=latest.n + 1, name=name, version=target.version, stage=stage, by=by, at_s=at_s, restores=target.n
    )
    return _create(store, wanted, f"pushtrain rollback {name} {stage}")


def _before(store: Store, promotion: Promotion) -> Promotion | None:
    """The promotion that the one which counts took the stage from; None where that was the first."""
    n = promotion.restores or promotion.n
    if n == 1:
        return None
    before = _read(store, promotion, n - 1)
    return before if before.restores is None else _read(store, promotion, before.restores)


def _create(store: Store, promotion: Promotion, again: str) -> Promotion:
    from runner.models.saved import PROMOTION, dump

    try:
        store.create(_key(promotion, promotion.n), dump(PROMOTION, promotion))
    except Conflict as error:
        winner = _read(store, promotion, promotion.n)
        if winner.version == promotion.version:  # what was wished for stands there
            return winner
        raise _lost(winner, again) from error
    logger.info("%s stands in %s", promotion.version, promotion.tag)
    return promotion


def _lost(winner: Promotion, again: str) -> ModelError:
    message = f"{winner.by} was first: {winner.version} stands in {winner.name}#{winner.stage} ({winner.tag})"
    return ModelError(message, tip=f"to replace it all the same, type: {again}")


def _latest(store: Store, name: str, stage: str) -> Promotion | None:
    if not valid_name(stage):
        return None
    folder = f"models/{name}/stages/{stage}"
    numbers = (child.removesuffix(".json") for child in store.children(folder))
    n = max((int(number) for number in numbers if number.isdecimal()), default=0)
    return _load(store, f"{folder}/{n}.json") if n else None


def _key(promotion: Promotion, n: int) -> str:
    return f"models/{promotion.name}/stages/{promotion.stage}/{n}.json"


def _read(store: Store, promotion: Promotion, n: int) -> Promotion:
    return _load(store, _key(promotion, n))


def _load(store: Store, key: str) -> Promotion:
    from runner.models.saved import PROMOTION, load

    return load(PROMOTION, store.read(key), key)
