"""What a job on GitHub costs: the way to the training's first line, the calls to GitHub, the action's environment.

python -m bench.github [--pairs 7] [--minutes 10] [--latency-ms 0] [--checkout FOLDER] [--files 50] [--lines 40]

Workflows run in act, on a Docker daemon and a stand-in for GitHub of their own, so this needs root and what
tests/services/packages installs. `--latency-ms` is what each request to GitHub, git's too, takes longer than on
loopback, in the first of these:

- First line: the shipped train-on-push.yml on the engine docker, against a workflow that checks out, builds by
  BuildKit and runs the image, each after a push that changes one line. act serves `actions/checkout` from a folder
  in no time, while we fetch the commit by git; with `--checkout`, a clone of that action, it is really run.
- Calls: one run of `--minutes` for a comment on a pull request, with a line and a metric every 5 s. Beside the rest.
- The action's environment, found warm.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from bench.pairs import report, seconds
from runner.environment.builder import find_builder
from tests.fixtures.act import cache, prepared
from tests.fixtures.docker import cache_folder, load_base_image
from tests.fixtures.github import install_node_modules
from tests.services.act import ROOT, Act, Running, copy_action, make_upload_action
from tests.services.dockerd import DockerEngine, docker_daemon
from tests.services.events import Webhooks
from tests.services.github import GitHub, Repository

WANTED_CALLS, WANTED_ENVIRONMENT_S = 60, 2
STEP_S = 5
FIRST = "the first line of"

TRAIN_YML = """\
name: digits
on: {{push: {{branches: [main]}}, comment: {{roles: [write]}}}}
environment: {environment}
run: python3 train.py
metrics: {{primary: accuracy, goal: maximize}}
"""
TRAIN_PY = """\
import json, os
print("{first} {number}", flush=True)
with open(os.path.join(os.environ.get("PUSHTRAIN_LOGS", "."), "metrics.jsonl"), "w") as log:
    print(json.dumps({{"accuracy": 0.9}}), file=log)
"""
LONG_PY = """\
import json, os, time
with open(os.path.join(os.environ["PUSHTRAIN_LOGS"], "metrics.jsonl"), "a") as log:
    for step in range({steps}):
        print("step", step, flush=True)
        print(json.dumps({{"step": step, "accuracy": step / {steps}}}), file=log, flush=True)
        time.sleep({step_s})
"""
BY_HAND = """\
on: push
jobs:
  train:
    runs-on: [self-hosted]
    steps:
      - uses: {checkout}
      - run: |
          {build} -q -t bench-by-hand .
          docker run --rm bench-by-hand
"""
DOCKERFILE = """\
FROM {image}
WORKDIR /w
COPY . .
CMD ["python3", "train.py"]
"""


def package(*, files: int, lines: int) -> dict[str, str]:
    """Modules beside the training, which no push changes."""
    random = Random(files)
    return {
        f"package_{number % 20}/module_{number}.py": "".join(
            f"x{random.random()} = {random.random()}\n" for _ in range(lines)
        )
        for number in range(files)
    }


@dataclass(frozen=True, kw_only=True)
class Way:
    """A workflow, the environment of its runner, and whether act puts the files there."""

    name: str
    workflow: Path
    env: Mapping[str, str]
    copied: bool = False
    options: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Desk:
    """A repository on a GitHub of its own, and a runner with a state of its own."""

    act: Act
    folder: Path
    node_modules: Path
    environment: str
    beside: Mapping[str, str]
    latency_s: float = 0.0
    github: GitHub = field(init=False)
    repository: Repository = field(init=False)
    files: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.github = GitHub(self.folder / "github", description=None)
        if self.latency_s:
            self.github.fault(times=None, delay_s=self.latency_s)
        self.files = {
            **self.beside,
            "train.yml": TRAIN_YML.format(environment=self.environment),
            "train.py": "",
        }
        self.repository = self.github.repository("ada/digits", self.files)
        self.repository.grant("ada", "admin")

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(
            node_modules=self.node_modules,
            head=self.repository.head(),
            server_url=self.github.url,
            api_url=self.github.url,
        )

    def push(self, way: Way, *, train_py: str, number: int) -> Running:
        """Somebody pushes train.py, and the workflow begins."""
        self.files["train.py"] = train_py
        commit = self.repository.push("main", {"train.py": train_py}, by="ada")
        return self.act.start(
            way.workflow,
            self.webhooks.push(commit),
            token=self.github.token,
            home=self.home,
            env=way.env,
            run_id=number,
            files=self.files if way.copied else None,
            options=way.options,
        )

    def comment(self, *, train_py: str) -> Running:
        """Somebody comments on a pull request, and the shipped workflow begins."""
        self.repository.push("try", {"train.py": train_py}, by="ada", at_s=time.time() - 60)
        pull = self.repository.pull("try", by="ada")
        said = self.repository.comment(pull.number, "/train", by="ada")
        event = self.webhooks.issue_comment(
            said.body, pull=pull.number, id=said.id, at_s=said.created_at_s, by="ada"
        )
        workflow = ROOT / "workflows" / "train-on-comment.yml"
        return self.act.start(workflow, event, token=self.github.token, home=self.home)


def first_line(begin: Callable[[], Running], number: int) -> tuple[float, float]:
    """Seconds from the start of act to the training's first line in the job's log, and to the end of act."""
    start = time.perf_counter()
    running = begin()
    try:
        running.wait_for(f"{FIRST} {number}")
        first_s = time.perf_counter() - start
        result = running.wait()
    finally:
        running.stop()
    if result.jobs != {"train": "success"}:
        raise SystemExit(repr(result))
    return first_s, time.perf_counter() - start


def ways(folder: Path, engine: DockerEngine, checkout: Path | None) -> list[Way]:
    """Ours, and the workflow that a user would write: with act's checkout, and with GitHub's where it is given."""
    builder = find_builder(os.environ)
    reached = {"DOCKER_HOST": engine.host}
    env = reached | dict(builder.env)
    names = ("actions/checkout@v4", "actions/checkout@given")
    by_hand = {name: folder / f"{name.rpartition('@')[2]}.yml" for name in names}
    for name, path in by_hand.items():
        path.write_text(BY_HAND.format(build=" ".join(builder.command), checkout=name))
    copied, real = by_hand.values()
    found = [
        Way(
            name="ours",
            workflow=ROOT / "workflows" / "train-on-push.yml",
            env=reached | {"PUSHTRAIN_ENGINE": "docker"},
        ),
        Way(name="docker build and run, checkout for nothing", workflow=copied, env=env, copied=True),
    ]
    if checkout is not None:
        options = ("--no-skip-checkout", f"--local-repository={names[1]}={checkout.resolve()}")
        found.append(
            Way(name="docker build and run after actions/checkout", workflow=real, env=env, options=options)
        )
    return found


def bench_first_line(
    desk: Desk, engine: DockerEngine, image: str, *, pairs: int, checkout: Path | None
) -> None:
    """From the start of act to the training's first line, after a change of one line."""
    desk.files["Dockerfile"] = DOCKERFILE.format(image=image)
    desk.repository.push("main", {"Dockerfile": desk.files["Dockerfile"]}, by="ada")
    all_ways = ways(desk.folder, engine, checkout)
    took: dict[str, list[tuple[float, float]]] = {way.name: [] for way in all_ways}
    number = 1000
    for turn in range(pairs + 1):
        # In turns; each has a line of its own, so that none finds another's work.
        for way in all_ways if turn % 2 else reversed(all_ways):
            number += 1
            train_py = TRAIN_PY.format(first=FIRST, number=number)
            begin = partial(desk.push, way, train_py=train_py, number=number)
            took[way.name].append(first_line(begin, number))
    ours, *others = [(name, *zip(*rounds[1:], strict=True)) for name, rounds in took.items()]
    for name, first_s, end_s in others:
        report(f"first line, against {name}", ours[1], first_s, wanted="ratio at most 1")
        print(f"  spread: {spread(ours[1])} against {spread(first_s)}", flush=True)
        report(f"end of the job, against {name}", ours[2], end_s, wanted="nothing")
        print(f"  spread: {spread(ours[2])} against {spread(end_s)}", flush=True)


def spread(values: Sequence[float]) -> str:
    return f"{min(values) * 1000:.0f} to {max(values) * 1000:.0f} ms"


def bench_environment(action: Path, pairs: int) -> None:
    """What the action does before it is Pushtrain, once that has been done on this machine."""
    tools = {"RUNNER_TOOL_CACHE": str(cache() / "tool_cache")}
    script = str(action / "scripts" / "action" / "environment")
    took = [seconds(("bash", script), env=tools) for _ in range(pairs + 1)][1:]
    print(
        f"the action's environment, found warm: {statistics.median(took) * 1000:.0f} ms "
        f"({spread(took)}, {pairs} times; wanted under {WANTED_ENVIRONMENT_S * 1000} ms)",
        flush=True,
    )


@contextmanager
def long_run(desk: Desk, minutes: float) -> Iterator[Callable[[], None]]:
    """A run of that length goes on; what is given waits for its end and tells its calls."""
    train_py = LONG_PY.format(steps=round(minutes * 60 / STEP_S), step_s=STEP_S)
    running = desk.comment(train_py=train_py)

    def tell() -> None:
        result = running.wait(timeout_s=minutes * 60 + 300)
        if result.jobs != {"train": "success"}:
            raise SystemExit(repr(result))
        calls = desk.github.api_calls()
        print(
            f"API calls of an attached run of {minutes:g} min: {len(calls)} (wanted under {WANTED_CALLS}); "
            f"{sum(call.kind == 'git' for call in desk.github.calls)} requests of git besides"
        )
        for (method, path, status), count in sorted(counted(desk)):
            print(f"  {count:3} {method} {path} ({status})")

    try:
        yield tell
    finally:
        running.stop()


def counted(desk: Desk) -> list[tuple[tuple[str, str, int], int]]:
    """How often each method and path was asked; numbers and commits in a path are `*`."""
    found = Counter(
        (call.method, re.sub(r"/([0-9a-f]{40}|\d+)(?=/|$)", "/*", call.path), call.status)
        for call in desk.github.api_calls()
    )
    return list(found.items())


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7, help="0: the long run alone")
    parser.add_argument("--minutes", type=float, default=10, help="0: no long run")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--files", type=int, default=50, help="beside the training")
    parser.add_argument("--lines", type=int, default=40, help="of each of them")
    parser.add_argument("--checkout", type=Path, help="a clone of github.com/actions/checkout")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench.github starts a Docker daemon of its own, which needs root")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        modules = install_node_modules()
        (folder / "act").mkdir()
        action = prepared(copy_action(folder / "action"))
        upload = make_upload_action(folder / "upload", modules)
        act = Act(folder=folder / "act", cache=cache(), action=action, upload=upload)

        beside = package(files=chosen.files, lines=chosen.lines)

        def desk(name: str, environment: str, latency_s: float = 0.0) -> Desk:
            made = Desk(
                act=act,
                folder=folder / name,
                node_modules=modules,
                environment=environment,
                latency_s=latency_s,
                beside=beside,
            )
            stack.callback(made.github.close)
            return made

        tell = None
        if chosen.minutes:
            tell = stack.enter_context(long_run(desk("long", "{}"), chosen.minutes))
        if chosen.pairs:
            bench_environment(action, chosen.pairs)
            engine = stack.enter_context(docker_daemon(cache_folder()))
            os.environ["DOCKER_HOST"] = engine.host
            image = load_base_image(engine)
            short = desk("short", f'{{image: "{image}"}}', chosen.latency_ms / 1000)
            bench_first_line(short, engine, image, pairs=chosen.pairs, checkout=chosen.checkout)
        if tell is not None:
            tell()


if __name__ == "__main__":
    main()
