"""Plans and runs as the flow makes them, from a few lines of train.yml: no repository, no supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner import plan as plans
from runner import runs, spec
from runner.datasets import Dataset
from runner.environment import Recipe
from runner.plan import Plan
from runner.repository import Objects, Source
from runner.runs import Run, State
from runner.store import Store

TRAIN = """\
name: example
run: python train.py --lr ${{ inputs.lr }} --data ${{ datasets.mnist }}
inputs:
  lr: {type: number, default: 0.1, min: 0, max: 1}
  layers: {type: integer, default: 2}
  optimizer: {type: choice, default: adam, options: [adam, sgd]}
datasets:
  mnist: {source: ./mnist}
"""
PLAIN = "name: example\nrun: python train.py\n"
ENVIRONMENT = Recipe(kind="venv", key="e" * 32, platform="linux-x86_64", python="3.11.2")
DATA = Dataset(
    name="mnist",
    source="/data/mnist",
    kind="path",
    mode="download",
    digest="sha256:" + "d" * 64,
    size_bytes=7,
)


def source(
    *, commit: str | None = "c" * 40, tree: str = "a" * 40, branch: str | None = "main", dirty: bool = False
) -> Source:
    return Source(
        root=Path("/repository"),
        prefix="",
        commit=commit,
        branch=branch,
        tree=tree,
        dirty=dirty,
        remote=None,
        changed=("train.py",) if dirty else (),
        objects=Objects({}, lambda: None),
    )


def plan(
    text: str = PLAIN,
    *,
    of: Source | None = None,
    overrides: Sequence[str] = (),
    engine: str = "local",
    recipe: Recipe = ENVIRONMENT,
    datasets: tuple[Dataset, ...] = (),
) -> Plan:
    return plans.decide(
        spec.parse(text),
        of or source(),
        overrides=overrides,
        engine=engine,
        recipe=recipe,
        datasets=datasets,
    )


def run(store: Store, run_id: str, *states: State, made: Plan | None = None, at_s: float = 0.0) -> Run:
    """A run in the store that went through `states`, a second in each; it has a plan if there is one."""
    if made is not None:
        store.write(runs.key(run_id, "plan.json"), plans.to_json(made).encode())
    created = runs.create(
        store,
        Run(
            id=run_id,
            name="example",
            engine="local",
            plan_hash=made.hash if made else "h",
            state=State.QUEUED,
            created_at_s=at_s,
        ),
    )
    for number, state in enumerate(states, start=1):
        created = runs.move(store, run_id, state, at_s=at_s + number)
    return created
