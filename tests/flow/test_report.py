"""What is printed: the same text for the same run, and text of others shown as it is, never obeyed."""

from __future__ import annotations

import io
from dataclasses import replace as changed
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from runner import gc, metrics, models, runs, source
from runner.follow import Lines, Measured, Moved, Quiet
from runner.manifest import FileEntry
from runner.metrics import Point
from runner.pipeline import Planned
from runner.plan import Plan
from runner.report import comparison, planned, summary, tables
from runner.report.live import Screen
from runner.report.plain import coloured, plain
from runner.runs import Attempt, Run, State
from runner.store import Store
from tests.flow import made

RUN = "20260101-000000-aaaa"
OTHER = "20260102-000000-bbbb"
NOW_S = 1_767_225_600.0
# Clears the screen, writes to the clipboard, sets the title, turns the writing around, rings the bell.
HOSTILE = "[red]\x1b[2J\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x1b\\\u202e\x07[/nothing]"
SHOWN = "[red][/nothing]"


def pipe() -> Console:
    return Console(file=io.StringIO(), width=120, highlight=False)


def terminal() -> Console:
    return Console(
        file=io.StringIO(),
        width=120,
        highlight=False,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
    )


def text(console: Console) -> str:
    """What was printed, without the spaces at the ends of lines."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def succeeded(store: Store) -> Run:
    path = (State.PREPARING, State.RUNNING, State.COLLECTING, State.PUBLISHING, State.SUCCEEDED)
    made.run(store, RUN, *path, at_s=NOW_S)
    return runs.update(
        store,
        RUN,
        lambda run: replace(
            run,
            commit="c" * 40,
            branch="main",
            inputs={"lr": 0.1, "shuffle": True},
            environment="venv eeee",
            attempts=(Attempt(number=1, started_at_s=NOW_S, outcome="succeeded", exit_code=0),),
            metric=("accuracy", 0.97),
            verdict="accuracy is 0.97",
            release="digits@1.0.0",
            exit_code=0,
        ),
    )


def failed(store: Store, *, reason: str, lines: tuple[str, ...]) -> Run:
    made.run(store, RUN, State.PREPARING, State.RUNNING, State.FAILED, at_s=NOW_S)
    attempt = Attempt(number=1, started_at_s=NOW_S, outcome="failed", exit_code=1, last_lines=lines)
    return runs.update(
        store, RUN, lambda run: replace(run, reason=reason, tip="type this", attempts=(attempt,))
    )


def facts(run: Run, *, series: dict[str, list[float]] | None = None) -> summary.Facts:
    points = [
        Point(name=name, step=step, value=value, time_s=0.0)
        for name, values in (series or {}).items()
        for step, value in enumerate(values)
    ]
    return summary.Facts(
        run=run,
        series=metrics.series(points),
        primary="accuracy",
        files=[FileEntry(path="outputs/model/weights", size_bytes=2048, digest="sha256:" + "1" * 64)],
        sealed=True,
        store="/store",
        notes=(),
    )


def test_the_summary_of_a_run_that_succeeded(store: Store) -> None:
    console = pipe()
    summary.show(console, facts(succeeded(store)))
    assert (
        text(console)
        == f"""
✓ example {RUN} succeeded in 5s

  source      cccccccccc on main
  inputs      lr=0.1  shuffle=true
  environment venv eeee
  stages      queued 1.0 s · preparing 1.0 s · running 1.0 s · collecting 1.0 s · publishing 1.0 s
  metric      accuracy is 0.97
  outputs     1 file, 2 KiB
  model       digits@1.0.0 is registered
  store       /store

  pushtrain outputs aaaa get . ./example-aaaa   copy the outputs here
  pushtrain logs aaaa                           all output of all ranks
  pushtrain models show digits@1.0.0            files, digests, lineage
  pushtrain promote digits@1.0.0 production     say which version serves
  pushtrain run -p lr=VALUE                     train with another value; then: pushtrain compare"""
    )


def test_the_summary_draws_the_primary_metric(store: Store) -> None:
    console = pipe()
    summary.show(console, facts(succeeded(store), series={"accuracy": [0.5, 0.9], "loss": [2.0, 1.0]}))
    assert "accuracy" in text(console)
    assert "⠉" in text(console) or "⣀" in text(console) or "⡠" in text(console)
    assert "loss" not in text(console)


def test_a_failed_run_shows_its_last_lines_why_and_what_to_do(store: Store) -> None:
    console = pipe()
    summary.show(console, facts(failed(store, reason="rank 0 ended with exit code 1", lines=("a", "b"))))
    assert text(console).startswith(
        f"\n✗ example {RUN} failed in 3s\n  rank 0 ended with exit code 1\n  | a\n  | b\n  → type this\n"
    )


@pytest.mark.parametrize(
    ("states", "engine", "next_step"),
    [
        ((State.PREPARING, State.FAILED), "slurm", "pushtrain logs aaaa --build"),
        ((State.FAILED,), "slurm", "pushtrain queue"),
        ((State.CANCELLED,), "slurm", ""),
        ((State.FAILED,), "local", ""),
    ],
)
def test_the_log_of_a_build_is_advised_where_there_was_time_for_one(
    store: Store, states: tuple[State, ...], engine: str, next_step: str
) -> None:
    ended = replace(made.run(store, RUN, *states, at_s=NOW_S), engine=engine)
    steps = summary.next_steps(changed(facts(ended), files=()))
    assert [command for command, _ in steps] == [next_step] * bool(next_step)


def test_a_gang_s_attempts_are_told_one_by_one(store: Store) -> None:
    lost = Attempt(
        number=1, started_at_s=NOW_S, outcome="lost", cause="the host process of node 1 died", steps_lost=2
    )
    failed_first = Attempt(
        number=2,
        started_at_s=NOW_S,
        outcome="failed",
        signal="SIGKILL",
        failed_rank=3,
        failed_node=1,
        failed_task="worker 1",
        cause="out of memory:\nthe kernel ended it",
        steps_lost=1,
    )
    last = Attempt(number=3, started_at_s=NOW_S, outcome="succeeded", world_size=3)
    run = replace(
        succeeded(store), attempts=(lost, failed_first, last), world_size=4, warnings=("node 2 was lost",)
    )
    assert [row for row in summary.rows(changed(facts(run), gang="2 to 4 nodes x 1 rank, torch"))][4:9] == [
        ("gang", "2 to 4 nodes x 1 rank, torch, ended with 3 of 4 ranks"),
        ("attempts", "1 lost: the host process of node 1 died; 2 steps done again"),
        (
            "",
            (
                "2 failed: rank 3 (node 1, worker 1) was ended by SIGKILL: out of memory: the kernel ended it; "
                "1 step done again"
            ),
        ),
        ("", "3 succeeded; with 3 of 4 ranks"),
        ("metric", "accuracy is 0.97"),
    ]
    assert ("warning", "node 2 was lost") in summary.rows(facts(run))


def test_hostile_text_in_a_run_is_shown_and_not_obeyed(store: Store) -> None:
    console = terminal()
    run = failed(store, reason=HOSTILE, lines=(HOSTILE,))
    run = replace(
        run, verdict=HOSTILE, environment=HOSTILE, inputs={"x": HOSTILE}, tip=HOSTILE, branch=HOSTILE
    )
    summary.show(console, facts(run, series={HOSTILE: [0.0, 1.0]}))
    tables.runs(console, [run], lost=frozenset(), now_s=NOW_S)
    tables.files(console, [FileEntry(path=HOSTILE, size_bytes=1, digest="sha256:1")], sealed=True, ended=True)
    shown = text(console)
    assert shown.count(SHOWN) >= 7
    for dangerous in ("\x1b[2J", "\x1b]", "\x07", "\u202e", "ZXZpbA"):
        assert dangerous not in shown


def test_plain_text_is_left_as_it_is() -> None:
    assert plain("größe: 1\t2\n[bold]") == "größe: 1\t2\n[bold]"
    assert plain("\x1b[31mred\x1b[0m \x1b[1;2Hmoved \x9b31m") == "red moved 31m"
    assert coloured("\x1b[31mred\x1b[0m\x1b[2J\x07") == "\x1b[31mred\x1b[0m"


# Plans


def planned_of(plan: Plan, *, present: bool | None = True) -> Planned:
    return Planned(plan=plan, source=made.source(dirty=True), environment_present=present)


@pytest.mark.parametrize(
    ("present", "told"),
    [(True, "there already"), (False, "to be made"), (None, "made unless it is there already")],
)
def test_it_is_told_whether_the_environment_is_there(present: bool | None, told: str) -> None:
    rows = dict(planned.rows(planned_of(made.plan(), present=present)))
    assert rows["environment"] == f"venv {'e' * 12}, {told}"


def test_a_plan_is_printed_line_by_line(store: Store) -> None:
    console = pipe()
    plan = made.plan(
        made.TRAIN + "timeout: {run: 1h}\nresources: {nodes: 2, gpu: 'H100:2', memory: 1GiB}\n",
        datasets=(made.DATA,),
        overrides=["lr=0.5"],
    )
    planned.show(console, planned_of(plan), finished=None)
    assert (
        text(console)
        == f"""\
name        example
source      cccccccccc on main, tree aaaaaaaaaa
            with uncommitted changes: train.py
inputs      layers=2
            lr=0.5
            optimizer=adam
command     python train.py --lr 0.5 --data "$PUSHTRAIN_DATASET_MNIST"
environment venv eeeeeeeeeeee, there already
engine      local
gang        2 nodes x 1 rank, each node with 2 H100, 1 GiB
data        mnist: /data/mnist (sha256:{"d" * 64})
time limits run 1h
hash        {plan.hash}"""
    )


GANGS = {
    "distribution: {type: mpi, processes_per_node: 2}\nresources: {nodes: 2}\n": "2 nodes x 2 ranks, mpi",
    "distribution: {type: none, processes_per_node: 3}\n": "3 ranks",
    "distribution: torch\nresources: {nodes: 2..4}\n": "2 to 4 nodes x 1 rank, torch",
    "distribution: {type: tensorflow, workers: 2, parameter_servers: 1, chief: true}\nresources: {nodes: 2}\n": (
        "2 nodes x 2 ranks, tensorflow (1 chief, 2 workers, 1 parameter server)"
    ),
    "": "1 process",
}


@pytest.mark.parametrize(("text", "shape"), GANGS.items(), ids=GANGS.values())
def test_a_plan_says_how_many_ranks_there_are_where_and_who_starts_them(text: str, shape: str) -> None:
    assert dict(planned.rows(planned_of(made.plan(made.TRAIN + text))))["gang"] == shape


def test_a_finished_run_with_the_same_plan_is_told(store: Store) -> None:
    console = pipe()
    planned.show(console, planned_of(made.plan(), present=False), finished=succeeded(store))
    assert "environment venv eeeeeeeeeeee, to be made" in text(console)
    assert text(console).endswith(
        f"{RUN} did just this and succeeded: `pushtrain run` would return its result"
    )


def test_hostile_text_in_a_plan_is_shown_and_not_obeyed() -> None:
    console = terminal()
    text_input = "name: example\nrun: echo ${{ inputs.x }}\ninputs: {x: {type: string, default: a}}\n"
    planned.show(console, planned_of(made.plan(text_input, overrides=[f"x={HOSTILE}"])), finished=None)
    assert SHOWN in text(console)
    assert "\x1b[2J" not in text(console)


# Tables


def test_runs_are_a_table_and_lost_ones_are_marked(store: Store) -> None:
    console = pipe()
    done = succeeded(store)
    lost = made.run(store, OTHER, State.PREPARING, State.RUNNING, at_s=NOW_S)
    tables.runs(console, [lost, done], lost=frozenset([OTHER]), now_s=NOW_S + 90)
    assert (
        text(console)
        == f"""\
run                   name     state      took   metric         branch  model         inputs
{OTHER}  example  gone       1m30s  -              -       -
{RUN}  example  succeeded  5s     accuracy 0.97  main    digits@1.0.0  lr=0.1 shuffle=true
gone: its supervisor died; take it up with: pushtrain resume RUN"""
    )


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_folds_long_cells_and_loses_nothing(store: Store, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    tables.runs(console, [succeeded(store)], lost=frozenset(), now_s=NOW_S)
    assert RUN in text(console)
    assert "…" not in text(console)


def test_empty_tables_say_what_to_do() -> None:
    console = pipe()
    tables.runs(console, [], lost=frozenset(), now_s=0.0)
    tables.files(console, [], sealed=False, ended=False)
    tables.models(console, [])
    tables.datasets(console, [])
    tables.garbage(console, [], now_s=0.0)
    assert (
        text(console)
        == """\
no runs that match; start one with: pushtrain run
no outputs yet
no models yet; a run with `release:` in its train.yml registers one
no data sets yet; register one with: pushtrain data add NAME PATH
there is nothing to remove"""
    )


def test_garbage_is_a_table_with_a_total_and_few_blobs() -> None:
    console = pipe()
    blobs = [
        gc.Found(kind="blob", name=f"sha256:{n}", size_bytes=1024, used_at_s=0.0, rests_s=0.0, needed=False)
        for n in range(12)
    ]
    venv = gc.Found(
        kind="environment", name="eeee", size_bytes=1 << 20, used_at_s=NOW_S, rests_s=0.0, needed=False
    )
    tables.garbage(console, [venv, *blobs], now_s=NOW_S + 86_400)
    lines = text(console).splitlines()
    assert lines[1] == "1 MiB  environment  eeee        1d"
    assert lines[-2:] == ["2 KiB  blob         and 2 more  -", "1 MiB in all"]


def test_a_model_is_printed_with_its_lineage() -> None:
    console = pipe()
    version = models.Version(
        name="digits",
        version="1.0.0",
        framework="sklearn",
        framework_version="1.7",
        resources=models.Resources(cpu=1.0, memory_bytes=512 << 20),
        files=(models.ModelFile(path="weights", size_bytes=2048, digest="sha256:" + "1" * 64),),
        lineage=models.Lineage(
            commit="c" * 40,
            branch="main",
            dirty=True,
            tree="a" * 40,
            plan_hash="h",
            run_id=RUN,
            environment=models.EnvironmentUsed(kind="venv", key="k", digest=None),
            data=(models.DataUsed(name="mnist", digest="sha256:2"),),
            inputs={"lr": 0.1},
            metrics={"accuracy": 0.97},
            started_by="local",
        ),
        created_at_s=NOW_S,
    )
    tables.models(console, [(version, {})])
    tables.model(console, version, stages={}, versions=["1.0.0"])
    assert (
        text(console)
        == f"""\
model   latest  framework    size   run                   stages
digits  1.0.0   sklearn 1.7  2 KiB  {RUN}  -
digits@1.0.0 sklearn 1.7
  made        2026-01-01 00:00 UTC by run {RUN}
  commit      {"c" * 40}, with uncommitted changes
  branch      main
  plan        h
  environment venv k
  inputs      lr=0.1
  metrics     accuracy=0.97
  data        mnist=sha256:2
  needs       1 cores, 512 MiB
  stages      -
  versions    1.0.0
size   path     digest
2 KiB  weights  sha256:{"1" * 64}

get it: pushtrain models download digits@1.0.0"""
    )


# Comparison


def test_runs_are_compared_side_by_side_and_differences_are_marked(store: Store, tmp_path: Path) -> None:
    sides = []
    for run_id, lr in ((RUN, "0.1"), (OTHER, "0.2")):
        run = made.run(store, run_id, State.PREPARING, State.RUNNING, State.SUCCEEDED, at_s=NOW_S)
        plan = made.plan(made.TRAIN, overrides=[f"lr={lr}"], datasets=(made.DATA,))
        point = Point(name="accuracy", step=1, value=float(lr), time_s=0.0)
        sides.append(comparison.Side(run=run, plan=plan, series=metrics.series([point])))
    console = pipe()
    comparison.show(console, sides, store, tmp_path)
    lines = {line[3:].split()[0]: line for line in text(console).splitlines()[1:] if line.strip()}
    assert lines["inputs.lr"].split() == ["≠", "inputs.lr", "0.1", "0.2"]
    assert lines["inputs.layers"].split() == ["inputs.layers", "2", "2"]
    assert lines["accuracy"].split() == ["≠", "accuracy", "0.1", "0.2"]


def test_the_source_of_two_runs_is_compared_line_by_line(store: Store, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for tree, content in (("a" * 40, "lr = 1\n"), ("b" * 40, f"lr = 2 {HOSTILE}\n")):
        folder = cache / "sources" / tree
        folder.mkdir(parents=True)
        (folder / "train.py").write_text(content)
        (folder / "weights").write_bytes(b"\xff" + tree.encode())
    assert [path.name for path in source.cached(cache)]
    sides = [
        comparison.Side(run=made.run(store, run_id), plan=made.plan(of=made.source(tree=tree)), series={})
        for run_id, tree in ((RUN, "a" * 40), (OTHER, "b" * 40))
    ]
    console = terminal()
    comparison.show(console, sides, store, cache)
    shown = text(console)
    assert "-lr = 1" in shown
    assert f"+lr = 2 {SHOWN}" in shown
    assert "bytes, binary" not in shown  # Two binary files of the same size look the same.
    assert "\x1b[2J" not in shown


# Live


def test_a_run_is_shown_as_it_happens(store: Store) -> None:
    console = pipe()
    queued = made.run(store, RUN, at_s=NOW_S)
    preparing = runs.move(store, RUN, State.PREPARING, at_s=NOW_S)
    waiting = runs.move(store, RUN, State.WAITING, at_s=NOW_S, reason="waits for 2 GPUs, none free")
    longer = runs.move(store, RUN, State.WAITING, at_s=NOW_S, reason="waits for 2 GPUs, behind x")
    running = runs.move(store, RUN, State.RUNNING, at_s=NOW_S, environment="venv e", reason="", world_size=2)
    ended = runs.move(store, RUN, State.SUCCEEDED, at_s=NOW_S)
    shown = Screen(console, primary=None).show(
        [
            Moved(run=queued),
            Moved(run=preparing),
            Lines(rank=None, lines=("installing",)),
            Moved(run=waiting),
            Quiet(),
            Moved(run=longer),
            Moved(run=running),
            Lines(rank=1, lines=("hello", HOSTILE)),
            Measured(points=(Point(name="loss", step=1, value=0.5, time_s=0.0),)),
            Moved(run=ended),
        ]
    )
    assert shown == ended
    assert text(console).splitlines()[:5] == [
        "• preparing",
        "• waiting  waits for 2 GPUs, none free",
        "  waits for 2 GPUs, behind x",
        "• running  venv e",
        "[rank 1] hello",
    ]


def test_on_a_terminal_colours_of_the_training_stay_and_nothing_else(store: Store) -> None:
    console = terminal()
    run = made.run(store, RUN, State.PREPARING, State.RUNNING, at_s=NOW_S)
    ended = runs.move(store, RUN, State.SUCCEEDED, at_s=NOW_S)
    Screen(console, primary="loss").show(
        [
            Moved(run=run),
            Lines(rank=0, lines=(f"\x1b[31mred\x1b[0m {HOSTILE}",)),
            Measured(points=(Point(name="loss", step=1, value=0.5, time_s=0.0),)),
            Moved(run=ended),
        ]
    )
    shown = text(console)
    assert "\x1b[31mred\x1b[0m" in shown
    assert SHOWN in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown
