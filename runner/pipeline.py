"""The whole flow: a folder with a train.yml -> a plan -> a run that goes on by itself."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from runner import datasets, engines, environment, jobs, plan, repository, runs, source, spec
from runner.errors import Corrupt, EngineError, Fault, NotFound, RunNotFound, SpecError, UsageError
from runner.store import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner import git
    from runner.engines import Engine
    from runner.environment import Lookup, Recipe
    from runner.place import Gang
    from runner.plan import Asked, Plan
    from runner.repository import Source
    from runner.runs import Run
    from runner.spec import Spec
    from runner.store import Store

START_WITHIN_S = 15.0
LOG_TAIL = 2000


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where this machine keeps its things, where runs are kept, and which engine starts them."""

    home: Path
    store_uri: str
    engine_name: str
    registry: str | None
    store_named: bool = True
    """False where nobody said where runs are kept, so that it is a folder of this machine."""

    @property
    def store(self) -> Store:
        """The store of runs."""
        return open_store(self.store_uri)

    @property
    def engine(self) -> Engine:
        """The engine that starts runs."""
        return engines.load(self.engine_name, home=self.home, store=self.store_uri)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan, with the source that it was made of and whether its environment is there already, None if unknown."""

    plan: Plan
    source: Source
    environment_present: bool | None


def make_plan(
    shop: Workshop,
    folder: Path,
    look: git.Look | None = None,
    *,
    train_file: str,
    overrides: Sequence[str],
    asked: Asked | None = None,
    trusted: Spec | None = None,
) -> Planned:
    """Decide everything, touch nothing. Raises SpecError, SourceError, PlanError, DatasetError or NoCapacity.

    `asked` says who asked through GitHub, and `trusted` is the base branch's train.yml: what may be done with
    secrets, releases and machines is read from there.
    """
    looking = repository.begin(folder, look)  # Git works while train.yml is read.
    found = _load(folder / train_file, folder)
    notes: tuple[str, ...] = ()
    if asked is not None and trusted is not None:
        from runner import trust

        found, notes = trust.apply(found, trusted, fork=asked.fork)
    here = looking.finish() if found.source == "." else repository.inspect(folder / found.source)
    engine = shop.engine
    _check_store(shop, engine)
    if asked is not None and asked.fork:
        engines.check_isolation(engine)
    _check_entrypoint(found, folder, train_file=train_file)
    look_up = environment.lookup(registry=shop.registry, home=shop.home, elsewhere=engine.allocated)
    recipe = _recipe(found, folder / found.source, engine, look_up, train_file=train_file)
    made = plan.decide(
        found,
        here,
        overrides=overrides,
        engine=engine.name,
        recipe=recipe,
        datasets=_datasets(
            shop, found, folder, plan.known_text(found, here, overrides=overrides, asked=asked)
        ),
        asked=asked,
    )
    if recipe.only_here:
        environment.require_shared(recipe, others=engine.others(made.gang), registry=shop.registry)
    demand = environment.Demand(distribution=made.distribution.type, env=made.env)
    suits = look_up.check_planned(recipe, demand)
    made = replace(made, notes=(*notes, *made.notes, *suits))
    engine.check(made.gang)
    _require_registry(shop, made.gang, recipe)
    if made.isolated:
        engines.check_network(made.gang, allocated=engine.allocated)
        look_up.check_isolated(recipe)
    return Planned(plan=made, source=here, environment_present=look_up.present(recipe))


def _check_store(shop: Workshop, engine: Engine) -> None:
    if engine.allocated and not shop.store_named:
        raise UsageError(
            f"the engine {engine.name} needs a store that all hosts reach",
            tip="PUSHTRAIN_STORE=s3://… or a folder that is mounted on all of them",
        )


def _require_registry(shop: Workshop, gang: Gang, recipe: Recipe) -> None:
    if gang.nodes > 1 and not shop.registry:
        others = shop.engine.others(gang)
        environment.require_registry(recipe, nodes=gang.nodes, others=others, registry=shop.registry)


def _load(path: Path, folder: Path) -> Spec:
    if not path.is_file():
        others = sorted(p.name for p in folder.glob("*.y*ml"))
        raise UsageError(
            f"there is no {path.name} in {folder}"
            + (f"; there is {', '.join(others[:5])}" if others else ""),
            tip=f"pushtrain init {folder}",
        )
    return spec.load(path)


def _recipe(found: Spec, folder: Path, engine: Engine, look_up: Lookup, *, train_file: str) -> Recipe:
    if engine.environment == "venv":
        return environment.venv_recipe(found.environment, folder, train_file=train_file)
    wanted, kind = found.environment, found.distribution.type
    bases = environment.bases(wanted, folder, train_file=train_file, distribution=kind)
    facts = look_up.facts(bases)
    return environment.image_recipe(wanted, folder, train_file=train_file, docker=facts, distribution=kind)


def _check_entrypoint(found: Spec, folder: Path, *, train_file: str) -> None:
    if found.entrypoint is None or (folder / found.source / found.entrypoint).is_file():
        return
    line, column = found.position("entrypoint")
    there = sorted(p.name for p in (folder / found.source).glob("*.py"))
    fault = Fault(
        path=str(folder / train_file),
        line=line,
        column=column,
        key="entrypoint",
        message=f"there is no file {found.entrypoint} in the source",
        suggestion=(get_close_matches(found.entrypoint, there, n=1) or [""])[0],
    )
    raise SpecError((fault,), tip=f"there is {', '.join(there[:5]) or 'no Python file'}")


def _datasets(
    shop: Workshop, found: Spec, folder: Path, known: Callable[[str], str]
) -> tuple[datasets.Dataset, ...]:
    return tuple(
        datasets.resolve(
            name,
            known(wanted.source),
            wanted.mode,
            wanted.digest,
            folder=folder,
            store=shop.store,
            cache=shop.home / "cache",
        )
        for name, wanted in sorted(found.datasets.items())
    )


def finished(store: Store, made: Plan) -> Run | None:
    """The run that already did just this and succeeded, or None."""
    try:
        run = runs.load(store, store.read(f"results/{made.hash}").decode())
    except (Corrupt, NotFound, RunNotFound):
        return None
    return run if run.state is runs.State.SUCCEEDED else None


def submit(shop: Workshop, planned: Planned, *, run_id: str | None = None) -> str:
    """Put the run's folder into the store and start its supervisor; returns the run's id, `run_id` if that is given.

    The folder is whole before the supervisor starts, and the run exists only once the supervisor made it: a caller
    that dies in between leaves no run that nobody moves on.
    """
    jobs.secrets_of(planned.plan)
    jobs.build_secrets_of(planned.plan)
    store, run_id = shop.store, run_id or runs.new_id(now_s=time.time())
    source.pack(planned.source, store)
    if planned.source.dirty:
        store.write(runs.key(run_id, "source.diff"), repository.diff(planned.source))
    store.write(runs.key(run_id, "plan.json"), plan.to_json(planned.plan).encode())
    shop.engine.submit(run_id)
    return run_id


def resume(shop: Workshop, run: Run) -> None:
    """Start a supervisor that takes the run up from its folder. Raises RunNotFound when there is nothing to take up."""
    if run.state.ended:
        raise RunNotFound(f"{run.id} {run.state}: there is nothing to take up", tip="pushtrain run --fresh")
    if supervised(shop, run):
        return
    jobs.secrets_of(plan_of(shop.store, run.id))
    take_up(shop, run)


def take_up(shop: Workshop, run: Run) -> None:
    """Start a supervisor for a run that has none; returns once it is there. Raises EngineError when none comes."""
    engines.load(run.engine, home=shop.home, store=shop.store_uri).submit(run.id)
    _wait_for_supervisor(shop, run)


def give_up(shop: Workshop, run: Run) -> Run:
    """Cancel a run whose supervisors die before they can end it; what was synced and its working folder stay."""
    engines.load(run.engine, home=shop.home, store=shop.store_uri).sweep(run.id)
    why = run.reason or "its supervisors died"
    return runs.move(
        shop.store,
        run.id,
        runs.State.CANCELLED,
        at_s=time.time(),
        reason=f"cancelled; its outputs were not sealed: {why}",
        tip=f"what was synced is kept, the rest lies in {shop.home / 'scratch' / run.id} until pushtrain gc",
        exit_code=130,
    )


def _wait_for_supervisor(shop: Workshop, run: Run) -> None:
    """A follower that came first would take the run for one that nobody supervises."""
    deadline_s = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline_s:
        if supervised(shop, run) or runs.load(shop.store, run.id).state.ended:
            return
        time.sleep(0.05)
    said = supervisor_log(shop, run.id)
    raise EngineError(f"the supervisor of {run.id} did not start:\n{said}", tip=f"pushtrain show {run.id}")


def supervisor_log(shop: Workshop, run_id: str) -> str:
    """The end of what the run's supervisor said on this machine, empty once the run ended."""
    try:
        return (shop.home / "scratch" / run_id / "supervisor.log").read_text()[-LOG_TAIL:]
    except FileNotFoundError:
        return ""


def plan_of(store: Store, run_id: str) -> Plan:
    """The plan of a run."""
    return plan.from_json(store.read(runs.key(run_id, "plan.json")))


def supervised(shop: Workshop, run: Run) -> bool:
    """Whether the run has a supervisor, or will get one by itself."""
    return _engine(run.engine, shop.home, shop.store_uri).lives(run)


@functools.cache
def _engine(name: str, home: Path, store: str) -> Engine:
    """An engine to ask again and again: it may remember for a moment what it was told."""
    return engines.load(name, home=home, store=store)


def to_json(planned: Planned) -> str:
    """What `pushtrain plan --json` prints: the plan, and whether the environment is there."""
    decided = json.loads(plan.to_json(planned.plan))
    document = {**decided, "environment_present": planned.environment_present}
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False)


__all__ = [
    "Planned",
    "SpecError",
    "Workshop",
    "finished",
    "make_plan",
    "plan_of",
    "resume",
    "submit",
    "supervised",
]
