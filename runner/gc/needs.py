"""A store's runs -> what those that have not ended need, and when an environment was last used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import plan, runs
from runner.errors import Corrupt, NotFound, RunNotFound

if TYPE_CHECKING:
    from runner.plan import Plan
    from runner.runs import Run
    from runner.store import Store


@dataclass(frozen=True, kw_only=True)
class Needs:
    """`ended` tells of every run whether it has; the rest is what the others need: none of it may be touched.

    `environments`, `wheels` and `trees` are keys, `data` digests, `commits` those that runs were planned from, `images`
    digests of images of users' own, and of bases.
    `used_at_s` is when a run last used an image, by its name.
    """

    ended: Mapping[str, bool]
    environments: frozenset[str]
    wheels: frozenset[str]
    trees: frozenset[str]
    data: frozenset[str]
    commits: frozenset[str]
    used_at_s: Mapping[str, float]
    images: frozenset[str] = frozenset()


NONE = Needs(
    ended={}, environments=frozenset(), wheels=frozenset(), trees=frozenset(), data=frozenset(), commits=frozenset(),
    used_at_s={},
)  # fmt: skip


def read(store: Store) -> Needs:
    """Read every run. Raises StoreError; Corrupt where the plan of a run that has not ended cannot be read."""
    found = tuple(_runs(store))
    plans = [_plan(store, run) for run in found if not run.state.ended]
    return _needs(found, [each for each in plans if each is not None])


def readable(store: Store) -> tuple[Needs, tuple[str, ...]]:
    """As `read`, of the runs that can be read, and why others cannot: what those need is not known.

    Raises StoreError.
    """
    found: list[Run] = []
    wanted: list[Plan] = []
    unread: list[str] = []
    for run_id in runs.ids(store):
        try:
            run = runs.load(store, run_id)
            planned = None if run.state.ended else _plan(store, run)
        except RunNotFound:
            continue
        except Corrupt as error:
            unread.append(str(error))
            continue
        found.append(run)
        wanted += [] if planned is None else [planned]
    return _needs(tuple(found), wanted), tuple(unread)


def _needs(found: tuple[Run, ...], wanted: Sequence[Plan]) -> Needs:
    return Needs(
        ended={run.id: run.state.ended for run in found},
        environments=frozenset(each.environment.key for each in wanted),
        wheels=frozenset(
            each.environment.horovod.wheel for each in wanted if each.environment.horovod is not None
        ),
        trees=frozenset(each.tree for each in wanted),
        data=frozenset(data.digest for each in wanted for data in each.datasets),
        commits=frozenset(str(each.asked.commit) for each in wanted),
        used_at_s=_used(found),
        images=frozenset(digest for each in wanted for digest in _images(each) if digest),
    )


def _images(wanted: Plan) -> Iterator[str | None]:
    yield wanted.environment.base_digest
    yield from (digest for _, digest in wanted.environment.stages)


def _runs(store: Store) -> Iterator[Run]:
    """Every run. One that cannot be read may be going on, so that is an error here."""
    for run_id in runs.ids(store):
        with contextlib.suppress(RunNotFound):
            yield runs.load(store, run_id)


def _plan(store: Store, run: Run) -> Plan | None:
    key = runs.key(run.id, "plan.json")
    try:
        return plan.from_json(store.read(key))
    except NotFound:
        return None  # Nobody can take it up.
    except Corrupt as error:
        raise Corrupt(
            f"{key} cannot be read, so nobody knows what the run needs", tip=f"pushtrain cancel {run.id}"
        ) from error


def _used(found: tuple[Run, ...]) -> dict[str, float]:
    used: dict[str, float] = {}
    for run in found:
        last_s = max((s.ended_at_s or s.started_at_s for s in run.stages), default=run.created_at_s)
        used[run.environment] = max(last_s, used.get(run.environment, 0.0))
    return used
