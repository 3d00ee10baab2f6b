"""Which run a run is compared with."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from runner import collect, runs
from runner.collect import OfRanks
from runner.plan import Gate
from runner.runs import Run, State
from runner.store import Store
from tests.flow import made

A, B, C = (f"2026010{n}-000000-aaaa" for n in (1, 2, 3))
METRIC = ("accuracy", 0.9)
ONE_EACH = OfRanks(folder="outputs", per_node=1)


def trained(store: Store, run_id: str, *, state: State = State.SUCCEEDED, **facts: object) -> Run:
    made.run(store, run_id, state)
    facts = {"branch": "main", "metric": METRIC, **facts}
    return runs.update(store, run_id, lambda run: replace(run, **facts))


def test_a_run_is_compared_with_the_newest_good_one_of_the_base_branch(store: Store) -> None:
    trained(store, A)
    newest = trained(store, B)
    here = trained(store, C, branch="feature")
    assert (
        collect.base_run(store, name=here.name, before=here.id, metric="accuracy", branches=("main",))
        == newest
    )
    assert (
        collect.base_run(store, name=newest.name, before=newest.id, metric="accuracy", branches=("main",))
        != newest
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"isolated": True},
        {"branch": "ann:main"},
        {"branch": None},
        {"metric": None},
        {"metric": ("loss", 0.1)},
        {"name": "other"},
        {"state": State.FAILED},
    ],
)
def test_a_forks_run_one_of_another_kind_and_one_that_failed_are_no_base(
    store: Store, facts: dict[str, object]
) -> None:
    state = facts.pop("state", State.SUCCEEDED)
    trained(store, A, state=State(str(state)), **facts)
    here = trained(store, B)
    assert (
        collect.base_run(
            store, name=here.name, before=here.id, metric="accuracy", branches=("main", "master")
        )
        is None
    )


def test_a_run_on_a_branch_that_is_the_base_in_its_repository_counts(store: Store) -> None:
    trained(store, A, branch="develop")
    trained(store, B, branch="feature", metric=None)
    store.append(runs.metrics_key(B), b'{"name":"accuracy","step":1,"value":0.5,"time_s":1.0}\n', offset=0)
    gate = Gate(primary="accuracy", goal="maximize", operator="<", relative=True, offset=0.0)
    strict = collect.judge(store, B, gate, branches=collect.base_branches("develop"))
    lenient = collect.judge(store, B, gate, branches=collect.base_branches(None))
    assert strict is not None
    assert not strict.passed
    assert lenient is not None
    assert lenient.passed


def sealed(**nodes: dict[str, str]) -> dict[int, dict[str, object]]:
    """By node: path -> digest."""
    return {
        int(node.removeprefix("node_")): {
            "manifest": [
                {"path": path, "digest": digest, "size_bytes": 1, "executable": False}
                for path, digest in files.items()
            ],
            "skipped": {},
        }
        for node, files in nodes.items()
    }


def test_the_files_of_other_nodes_are_kept_beside_those_of_the_first() -> None:
    both = sealed(node_0={"outputs/a": "sha256:1"}, node_1={"outputs/a": "sha256:2"})
    assert [file.path for file in collect.manifest(both).files] == ["node-1/outputs/a", "outputs/a"]


def test_what_two_nodes_wrote_differently_is_said_and_what_is_equal_is_not() -> None:
    both = sealed(
        node_0={"outputs/a": "sha256:1", "outputs/b": "sha256:1", "logs/c": "sha256:1"},
        node_1={"outputs/a": "sha256:2", "outputs/b": "sha256:1", "logs/c": "sha256:2"},
    )
    (told,) = collect.written_twice(both, "outputs")
    assert told.startswith("node 1 wrote outputs/a too: that of rank 0's node is the run's")
    assert "kept as node-1/outputs/a" in told


def test_folders_of_ranks_stand_side_by_side_whichever_node_they_are_of() -> None:
    both = sealed(node_0={"outputs/rank-0/a": "sha256:1"}, node_1={"outputs/rank-1/a": "sha256:2"})
    paths = [file.path for file in collect.manifest(both, of_ranks=ONE_EACH).files]
    assert paths == ["outputs/rank-0/a", "outputs/rank-1/a"]
    assert collect.written_twice(both, "outputs", of_ranks=ONE_EACH) == ()


def test_the_folder_of_a_rank_is_that_of_its_own_node() -> None:
    paths = ("outputs/rank-0/a", "outputs/rank-1/a", "outputs/rank-3/a", "outputs/rank-30/a", "outputs/b")
    both = sealed(**{f"node_{node}": {path: f"sha256:{node}" for path in paths} for node in (0, 1)})
    of_ranks = OfRanks(folder="outputs", per_node=2)

    kept = {file.path: file.digest[-1] for file in collect.manifest(both, of_ranks=of_ranks).files}

    assert len(kept) == 2 * len(paths)
    assert {path: kept[path] for path in kept if not path.startswith("node-")} == {
        "outputs/b": "0",
        "outputs/rank-0/a": "0",
        "outputs/rank-1/a": "0",
        "outputs/rank-3/a": "1",
    }
    told = collect.written_twice(both, "outputs", of_ranks=of_ranks)
    assert len(told) == 4
    assert told[0].startswith(
        "node 0 wrote outputs/rank-3/a too: that of node 1 is the run's, "
        "the other is kept as node-0/outputs/rank-3/a; write into"
    )


def test_what_is_not_kept_is_named_where_it_would_be() -> None:
    both = sealed(node_0={}, node_1={})
    both[1]["skipped"] = {"outputs/rank-1/pipe": "a pipe", "outputs/rank-0/pipe": "a pipe"}
    assert collect.warnings(both, of_ranks=ONE_EACH) == (
        "outputs/rank-1/pipe is not kept: a pipe",
        "node-1/outputs/rank-0/pipe is not kept: a pipe",
    )
