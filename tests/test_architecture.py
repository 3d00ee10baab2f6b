"""The code reads in one direction: a module imports only those before it in the flow from train.yml to release."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "runner"

# The modules and packages of `runner` in the order of the flow: each may import those before it.
ORDER = (
    # words
    "errors", "decoding", "quantities", "quoting", "document", "placeholders", "spec", "schema", "script", "trigger",
    # what is trained, and where things are kept
    "git", "repository", "archive", "store", "source", "scan", "manifest", "sync",
    # what it is trained on and with
    "homes", "inherit", "gpus", "place", "launch", "metrics", "charts", "models", "environment", "datasets", "starter",
    # a run
    "lock", "removal", "runs", "parameters", "remarks", "plan", "entry", "agreement", "idle", "writers", "host",
    "collect", "slurm", "engines", "jobs", "causes", "blame", "switchboard", "gang", "hosts", "again", "record",
    "turns", "waits", "progress", "release", "finish", "preparation", "interrupts", "trust", "checkout", "supervision",
    "supervise",
    # who looks at it
    "follow", "pipeline", "github", "report", "publish", "workflows", "gc", "answer",
    # the fleet
    "fleet", "providers", "agent", "watcher", "commands", "arguments_agent", "cli",
)  # fmt: skip

# Loaded by name, so that only those who use them import what they need.
BY_NAME = (
    "runner.engines.local",
    "runner.engines.docker",
    "runner.engines.slurm",
    "runner.store.directory",
    "runner.store.s3",
    "runner.datasets.paths",
    "runner.datasets.web",
    "runner.datasets.objects",
    "runner.providers.command",
    "runner.providers.ec2",
)
# Modules that are both: a back-end by name, and a collection that commands list and add to.
ALSO_BY_IMPORT = {"runner.datasets.registered": {"runner.commands.setup", "runner.gc.blobs"}}

HEAVY = {
    # facts.py asks a registry for one digest, which the command line of Docker cannot say; registry.py reads
    # Docker's passwords.
    "docker": {"runner.host.docker_host", "runner.environment.facts", "runner.environment.registry"},
    "boto3": {"runner.store.s3", "runner.store.s3_bucket", "runner.providers.ec2"},
    "plotext": {"runner.charts"},
    "pynvml": {"runner.gpus"},
    "github": {"runner.github.line", "runner.github.bearer", "runner.github.retries"},
}
LATE = (
    "boto3", "docker", "httpx", "rich", "tensorboard", "plotext", "pynvml", "github", "requests", "cachecontrol",
    "sigstore", "securesystemslib", "cryptography", "prometheus_client", "bcrypt",
)  # fmt: skip
# Modules that are themselves imported late, or by name, or by another of these.
LATE_THEMSELVES = {
    "runner.environment.registry",
    "runner.store.s3",
    "runner.store.s3_bucket",
    "runner.store.s3_streams",
    "runner.store.s3_transfer",
    "runner.datasets.objects",
    "runner.datasets.web",
    "runner.metrics.mlflow_server",
    "runner.providers.ec2",
    "runner.github.line",
    "runner.github.bearer",
    "runner.github.retries",
    "runner.github.answers",
}

MODULE_LINES = 400
FUNCTION_LINES = 60


@dataclass(frozen=True, kw_only=True)
class Import:
    """`module` as it stands in `where`; `late` where it is within a function."""

    where: str
    module: str
    late: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


class Imports(ast.NodeVisitor):
    """All imports of a module, but those for the type checker alone."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[Import] = []
        self._depth = 0

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self._add(name.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert not node.level, f"{self.where}: relative imports hide the order"
        for name in node.names:
            self._add(f"{node.module}.{name.name}")

    def _add(self, name: str) -> None:
        while name.startswith("runner.") and name not in MODULES:
            name = name.rpartition(".")[0]
        if name != self.where:
            self.found.append(Import(where=self.where, module=name, late=self._depth > 0))


def imports() -> Iterator[Import]:
    for name, tree in MODULES.items():
        visitor = Imports(name)
        visitor.visit(tree)
        yield from visitor.found


EVERY = tuple(imports())
OWN = tuple(each for each in EVERY if each.module.startswith("runner."))


def unit(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_its_place_in_the_order() -> None:
    assert {unit(name) for name in MODULES if "." in name} == set(ORDER)


def test_a_module_imports_only_what_comes_before_it() -> None:
    upward = [
        f"{each.where} imports {each.module}"
        for each in OWN
        if ORDER.index(unit(each.module)) > ORDER.index(unit(each.where))
    ]
    assert upward == []


def test_the_flow_of_the_design_has_every_module() -> None:
    flow = (ROOT.parent / "docs" / "design.md").read_text().split("```")[1]
    told = {word.rstrip("/").removesuffix(".py") for word in flow.split() if word.endswith(("/", ".py"))}
    assert set(ORDER) <= told


def test_no_module_imports_one_that_imports_it() -> None:
    """Also within a package, and also where an import stands in a function. Raises CycleError with the cycle."""
    graph: dict[str, set[str]] = {}
    for each in OWN:
        graph.setdefault(each.where, set()).add(each.module)
    TopologicalSorter(graph).prepare()


def test_back_ends_are_loaded_by_name_only() -> None:
    assert [f"{each.where} imports {each.module}" for each in OWN if each.module in BY_NAME] == []


def test_commands_are_loaded_by_name_by_all_but_commands() -> None:
    users = {unit(each.where) for each in OWN if each.module.startswith("runner.commands.")}
    assert users == {"commands"}


@pytest.mark.parametrize("module", ALSO_BY_IMPORT)
def test_a_collection_is_imported_by_those_that_list_it_alone(module: str) -> None:
    assert {each.where for each in OWN if each.module == module} == ALSO_BY_IMPORT[module]


@pytest.mark.parametrize("library", HEAVY)
def test_an_sdk_has_one_owner(library: str) -> None:
    users = {each.where for each in EVERY if each.module.split(".")[0] == library}
    assert users <= HEAVY[library]


@pytest.mark.parametrize("library", LATE)
def test_a_heavy_library_is_imported_where_it_is_used(library: str) -> None:
    early = {each.where for each in EVERY if each.module.split(".")[0] == library and not each.late}
    assert early <= LATE_THEMSELVES


def test_what_imports_a_heavy_library_at_once_is_itself_imported_late() -> None:
    assert {each.where for each in OWN if each.module in LATE_THEMSELVES and not each.late} <= LATE_THEMSELVES


def test_only_commands_print_and_only_the_command_line_exits() -> None:
    printing = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {unit(name) for name in printing} <= {"commands", "cli"}


def test_no_module_is_too_long() -> None:
    lengths = {name: path_lines(name) for name in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def path_lines(name: str) -> int:
    base = ROOT.parent.joinpath(*name.split("."))
    path = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
    return len(path.read_text().splitlines())


def test_no_function_is_too_long() -> None:
    too_long = {
        f"{name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    }
    assert too_long == {}


def test_nothing_catches_everything_but_the_outermost_of_the_host_process() -> None:
    broad = [
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    ]
    # The threads of a daemon: what one of them did not expect is logged and told, or the run would wait for ever.
    # What runs inside a training's Python must never break it.
    inside = "runner.host.inside."
    assert {name for name in broad if not name.startswith(inside)} <= {
        "runner.host.attempt",
        "runner.host.node",
        # What a look ended with is raised by whoever waits for it.
        "runner.fleet.looks",
        # The threads of the agent.
        "runner.agent.lasting",
        # One thing of many that the watcher does; see there.
        "runner.watcher.guard",
    }
