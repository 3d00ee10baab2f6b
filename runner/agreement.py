"""Sketches of the ranks' weights -> the first sign that gradients are not shared between the ranks."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from runner import decoding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOLERANCE = 0.01
"""How far ranks may be apart, as a share of how far their weights have moved. Ranks that share are 0 or 1e-6 apart."""

NOISE = 1e-5
"""Relative difference of weights that rounding may make, where the GPUs of a gang are not of one kind."""

MODELS = 256
"""Models of which reports wait for those of other ranks; the oldest are forgotten."""

PENDING_STEPS = 80
"""Steps of one model that wait for other ranks; reports come at powers of two, so this is never reached in practice."""

PROCESSES = 64
"""Processes of one rank that are told apart; reports of more are left out."""

NAMED_RANKS = 4

Name = Annotated[str, msgspec.Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a rank's `weights`: the sketch of what one model is after so many steps.

    `sketch` is linear in the weights: the distance of two sketches is about that of the weights. `squares` is the sum
    of the weights' squares. `pid` tells processes of one rank apart, `attempt` the restarts by torchrun, after which
    there may be another number of ranks: `world_size`, where it is known.
    """

    attempt: int
    pid: int
    world_size: Annotated[int, msgspec.Meta(ge=2)] | None = None
    framework: Name
    model: Name
    size: int
    step: int
    squares: Annotated[float, msgspec.Meta(ge=0)]
    sketch: Annotated[tuple[float, ...], msgspec.Meta(min_length=64, max_length=64)]


def report(line: str) -> Report | None:
    """A line of `weights`; None for what is no report, such as a line that a dying rank left unfinished."""
    try:
        return decoding.from_objects(
            json.loads(line), Report
        )  # json, since it reads NaN, which Python writes
    except (ValueError, msgspec.ValidationError, RecursionError):  # the last for many nested brackets
        return None


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Ranks whose weights are not those of the first rank. `distance` is relative to the norm of the weights."""

    step: int
    ranks: tuple[int, ...]
    distance: float
    message: str
    tip: str


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """All ranks after one step: the first rank's sketch, the others less it, and who is too far away."""

    step: int
    first: int
    sketch: tuple[float, ...]
    differences: Mapping[int, tuple[float, ...]]
    apart: tuple[int, ...]


@dataclass(kw_only=True)
class _Model:
    """What is known of one model of all ranks."""

    waiting: dict[int, dict[int, Report]]
    first: tuple[float, ...] | None = None
    last: _Comparison | None = None


class Agreement:
    """Compares ranks as their reports come, each model on its own, and only after equal numbers of steps.

    Ranks diverge where they are apart at two comparisons in a row: the first may come before the first weights are
    broadcast. Models that not every rank reports are never compared.
    """

    def __init__(self, world_size: int, tolerance: float = TOLERANCE) -> None:
        self._world_size, self._tolerance = world_size, tolerance
        self._models: dict[tuple[int, int, str], _Model] = {}
        self._pids: dict[tuple[int, int], list[int]] = {}

    def add(self, rank: int, report: Report) -> Divergence | None:
        """The divergence that this report completes, if any. Repeating a report is safe."""
        model = self._model(rank, report)
        if model is None:
            return None
        if model.last is not None and report.step <= model.last.step:
            return None
        ranks = model.waiting.setdefault(report.step, {})
        ranks[rank] = report
        if len(model.waiting) > PENDING_STEPS:
            del model.waiting[min(model.waiting)]
        if len(ranks) < (report.world_size or self._world_size):
            return None
        model.waiting = {step: others for step, others in model.waiting.items() if step > report.step}
        return self._compare(model, dict(sorted(ranks.items())))

    def _model(self, rank: int, report: Report) -> _Model | None:
        pids = self._pids.setdefault((rank, report.attempt), [])
        if report.pid not in pids:
            if len(pids) == PROCESSES:
                return None
            pids.append(report.pid)
        key = (report.attempt, pids.index(report.pid), report.model)
        if key not in self._models:
            self._models[key] = _Model(waiting={})
            if len(self._models) > MODELS:
                del self._models[next(iter(self._models))]
        return self._models[key]

    def _compare(self, model: _Model, reports: Mapping[int, Report]) -> Divergence | None:
        before, here = model.last, self._comparison(model, reports)
        model.first, model.last = model.first or here.sketch, here
        if before is None or not before.apart or not here.apart:
            return None
        return _divergence(before, here, reports[here.first])

    def _comparison(self, model: _Model, reports: Mapping[int, Report]) -> _Comparison:
        (first, own), *others = reports.items()
        scale = math.sqrt(max(each.squares for each in reports.values()))
        moved = _norm(_less(own.sketch, model.first or own.sketch))
        allowed = max(NOISE * scale, self._tolerance * moved)
        differences = {rank: _less(each.sketch, own.sketch) for rank, each in others}
        return _Comparison(
            step=own.step,
            first=first,
            sketch=own.sketch,
            differences=differences,
            apart=tuple(rank for rank, each in differences.items() if _norm(each) > allowed),
        )


def _divergence(before: _Comparison, here: _Comparison, chief: Report) -> Divergence:
    far = max(here.apart, key=lambda rank: _norm(here.differences[rank]))
    distance = _norm(here.differences[far]) / (math.sqrt(chief.squares) or 1.0)
    who = f"the weights of {ranks_named(here.apart)} differ from rank {here.first}'s after step {here.step}"
    how = f" (relative difference {distance:.0e}, {chief.model})"
    if _since_the_start(before, here, far):
        why, tip = "the ranks move alike but started from different weights", _BROADCAST
    else:
        why, tip = "gradients are not shared between the ranks", _SHARE
    return Divergence(
        step=here.step,
        ranks=here.apart,
        distance=distance,
        message=f"{who}{how}: {why}",
        tip=f"{tip.get(chief.framework, '')}; where ranks differ on purpose, set `distribution.divergence: ignore`",
    )


_SHARE = {
    "tensorflow": "Horovod with Keras 3 shares nothing: set `environment.legacy_keras: true`; else train with "
    "hvd.DistributedOptimizer or hvd.DistributedGradientTape",
    "torch": "wrap the model in torch.nn.parallel.DistributedDataParallel, and call that, not the model within",
}
_BROADCAST = {
    "tensorflow": "broadcast the first weights: hvd.callbacks.BroadcastGlobalVariablesCallback(0), or "
    "hvd.broadcast_variables(model.variables, root_rank=0)",
    "torch": "give all ranks the same first weights: DistributedDataParallel does, and so does the same seed",
}


def _since_the_start(before: _Comparison, here: _Comparison, rank: int) -> bool:
    """Whether the rank moved as the first did between two comparisons, and was somewhere else all the time."""
    parted = _norm(_less(here.differences[rank], before.differences[rank]))
    moved = _norm(_less(here.sketch, before.sketch))
    return parted <= 0.1 * _norm(before.differences[rank]) and parted <= 0.05 * moved


def ranks_named(ranks: Sequence[int]) -> str:
    """`rank 1`, `ranks 1 and 3`, `ranks 1, 2, 3, 4 and 59 more`."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    named = [str(rank) for rank in ranks[:NAMED_RANKS]]
    more = len(ranks) - len(named)
    last = f"{more} more" if more else named.pop()
    return f"ranks {', '.join(named)} and {last}"


def _less(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(one, other, strict=True))


def _norm(vector: Sequence[float]) -> float:
    return math.sqrt(sum(number * number for number in vector))
