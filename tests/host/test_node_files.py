"""Files that a training may replace by links -> what the host, which may be root, still reads and writes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import EngineError
from runner.host import reports
from runner.host.job import Job
from runner.host.leash import shared_memory
from runner.host.node import Node
from runner.host.processes import LocalRanks
from runner.host.reports import Reports
from runner.store import open_store

from .jobs import RUN, job, launched

CHECKPOINTS = "outputs/checkpoints"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch" / "work"
    (folder / CHECKPOINTS).mkdir(parents=True)
    (folder / "logs").mkdir()
    return folder


def stored_by_the_chief(place: Path, name: str) -> None:
    file = place / "file"
    file.write_text("the chief's")
    open_store(f"file://{place}/store").put_file(f"runs/{RUN}/live/node-0/{CHECKPOINTS}/{name}", file)


def test_the_chiefs_checkpoints_come_first_and_the_nodes_own_beside_them(work: Path, tmp_path: Path) -> None:
    stored_by_the_chief(tmp_path, "step/rank-0")
    own = work / CHECKPOINTS
    (own / "step").mkdir()
    (own / "step" / "rank-0").write_text("mine")
    (own / "step" / "rank-1").write_text("mine")
    (own / "latest").symlink_to("step")
    node = Node(job(tmp_path))

    node._bring_checkpoints()

    brought = node.job.brought / CHECKPOINTS
    assert (brought / "step" / "rank-0").read_text() == "the chief's"
    assert (brought / "step" / "rank-1").read_text() == "mine"
    assert (brought / "latest" / "rank-1").read_text() == "mine"
    assert not any(path.is_symlink() for path in brought.rglob("*"))


def test_all_nodes_go_on_from_what_node_0_has_though_its_host_was_killed_before_it_sent_it(
    work: Path, tmp_path: Path
) -> None:
    stored_by_the_chief(tmp_path, "step")
    (work / CHECKPOINTS / "step").write_text("newer")
    (work / "outputs" / "result").write_text("not sent either")
    stored: list[str] = []
    chief = Node(
        job(
            tmp_path,
            replace(launched(0), node_rank=0),
            node_rank=0,
            live_prefix=f"runs/{RUN}/live/node-0/",
            mark=f"{RUN}:0:2:{tmp_path.name}",
        ),
        on_stored=lambda: stored.append((chief_prefix / "step").read_text()),
    )
    chief_prefix = tmp_path / "store" / chief.job.live_prefix / CHECKPOINTS
    other = Node(job(tmp_path, launched(1), scratch=f"{tmp_path}/other"))

    chief.fetch()
    other._bring_checkpoints()
    chief.close()

    assert stored == ["newer"]
    assert (other.job.brought / CHECKPOINTS / "step").read_text() == "newer"
    assert (work / CHECKPOINTS / "step").read_text() == "newer"
    assert (work / "outputs" / "result").read_text() == "not sent either"


@pytest.mark.parametrize(
    ("here", "attempt", "trains", "kept"),
    [
        ("1", 2, True, True),
        ("2", 2, True, True),
        ("1", 3, True, False),  # The second ran elsewhere.
        (None, 2, True, False),
        ("2", 2, False, True),
        ("1", 2, False, False),  # The second ran elsewhere, and is to be sealed here.
    ],
)
def test_files_that_a_run_left_on_a_host_before_it_went_on_elsewhere_are_not_used(
    work: Path, tmp_path: Path, here: str | None, attempt: int, trains: bool, kept: bool
) -> None:
    """They would be sealed, and sent to the store in the place of the newer ones."""
    if here is not None:
        (work.parent / "attempt").write_text(here)
    processes = (launched(0),) if trains else ()
    node = Node(job(tmp_path, *processes, attempt=attempt, host_network=True))
    node._forget_older()
    assert work.exists() is kept
    assert (work.parent / "attempt").read_text() == str(attempt)
    assert not (work.parent / "older").exists()


def test_on_one_machine_nobody_else_had_the_run(work: Path, tmp_path: Path) -> None:
    Node(job(tmp_path, attempt=7))._forget_older()
    assert work.exists()


def test_a_link_in_a_nodes_checkpoints_leads_the_chiefs_files_nowhere(work: Path, tmp_path: Path) -> None:
    stored_by_the_chief(tmp_path, "d/evil")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (work / CHECKPOINTS / "d").symlink_to(outside)
    (work / CHECKPOINTS / "stolen").symlink_to(outside / "secret")
    node = Node(job(tmp_path))

    node._bring_checkpoints()

    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not (node.job.brought / CHECKPOINTS / "stolen").exists()
    assert (node.job.brought / CHECKPOINTS / "d" / "evil").read_text() == "the chief's"


def test_one_of_the_nodes_files_in_the_place_of_a_folder_is_left_out(work: Path, tmp_path: Path) -> None:
    stored_by_the_chief(tmp_path, "a")
    (work / CHECKPOINTS / "a").mkdir()
    (work / CHECKPOINTS / "a" / "b").write_text("mine")
    node = Node(job(tmp_path))

    node._bring_checkpoints()

    assert (node.job.brought / CHECKPOINTS / "a").read_text() == "the chief's"


class Stacks(LocalRanks):
    """Ranks whose stacks are known."""

    def __init__(self, told: Job) -> None:
        self.job = told

    def stacks(self, ranks: Mapping[int, int | None]) -> dict[int, str]:
        return {rank: f"stack {rank}\n" for rank in ranks}


class Swapped(Stacks):
    """A training that puts a link in the folder's place while its stacks are read."""

    def stacks(self, ranks: Mapping[int, int | None]) -> dict[int, str]:
        folder = self.job.work / "logs" / "stacks"
        folder.rename(folder.with_name("old"))
        folder.symlink_to(self.job.work.parent)
        return super().stacks(ranks)


def test_the_stacks_of_a_rank_that_cannot_be_written_do_not_hinder_others(work: Path, tmp_path: Path) -> None:
    node = Node(job(tmp_path))
    node._ranks = Stacks(node.job)
    (work / "logs" / "stacks" / "rank-1.txt").mkdir(parents=True)

    node.write_stacks({1: None, 2: None})

    assert (work / "logs" / "stacks" / "rank-2.txt").read_text() == "stack 2\n"


def test_stacks_are_not_written_through_a_link_that_came_while_they_were_read(
    work: Path, tmp_path: Path
) -> None:
    node = Node(job(tmp_path))
    node._ranks = Swapped(node.job)
    (work / "logs" / "stacks").mkdir()

    node.write_stacks({1: None})

    assert not (work.parent / "rank-1.txt").exists()


def test_a_rank_that_its_launcher_has_not_begun_is_told_as_such(work: Path, tmp_path: Path) -> None:
    ranks = LocalRanks(job(tmp_path, launched()), {})
    try:
        assert ranks.stacks({1: None}) == {1: "it has not begun: its launcher has not started it\n"}
    finally:
        ranks.close()


def test_a_folder_in_memory_that_is_open_to_others_is_not_used(tmp_path: Path) -> None:
    folder = shared_memory(job(tmp_path).mark)
    folder.mkdir()
    folder.chmod(0o777)
    try:
        with pytest.raises(EngineError) as caught:
            LocalRanks(job(tmp_path), {})
        assert caught.value.tip == f"remove it: rm -r {folder}"
    finally:
        folder.rmdir()


def test_a_link_in_place_of_the_folder_in_memory_is_not_used(tmp_path: Path) -> None:
    folder = shared_memory(job(tmp_path).mark)
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(EngineError, match="is not a folder of this user's alone"):
            LocalRanks(job(tmp_path), {})
    finally:
        folder.unlink()


def told(gang: Path, rank: int, *names: str) -> None:
    place = gang / "ranks" / str(rank)
    place.mkdir(parents=True, exist_ok=True)
    with (place / "written").open("a") as file:
        file.writelines(f"{json.dumps(name)}\n" for name in names)


def test_files_of_two_ranks_are_told_once(tmp_path: Path) -> None:
    given = job(tmp_path, launched(1), launched(2))
    looked = Reports(given)
    assert looked.shared() is None
    for rank in (1, 2):
        told(given.gang_folder, rank, "outputs/a\x1b[2J", f"outputs/{'b' * 500}")

    (sentence,) = looked.shared() or ()

    assert sentence.startswith(
        f"ranks 1 and 2 wrote the same files: outputs/a\\x1b[2J, outputs/{'b' * 192}…; "
    )
    assert looked.shared() is None
    told(given.gang_folder, 1, "outputs/a\x1b[2J")
    assert looked.shared() is None


def test_no_more_files_are_remembered_than_a_rank_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_FILES", 3)
    given = job(tmp_path, launched(1))
    told(given.gang_folder, 1, *"abcde")
    looked = Reports(given)

    looked.shared()
    read = dict(looked._offsets)
    told(given.gang_folder, 1, *"fgh")
    looked.shared()

    assert list(looked._written[1]) == ["a", "b", "c"]
    assert looked._offsets == read


def test_a_line_without_an_end_does_not_hold_up_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "READ_BYTES", 64)
    given = job(tmp_path, launched(1))
    told(given.gang_folder, 1, "x" * 200, "outputs/a")
    looked = Reports(given)

    for _ in range(5):
        looked.shared()

    assert list(looked._written[1]) == ["outputs/a"]


def test_what_ranks_tell_is_not_read_through_links(tmp_path: Path) -> None:
    given = job(tmp_path, launched(1), launched(2), launched(3))
    told(tmp_path / "elsewhere", 1, "outputs/a")
    ranks = given.gang_folder / "ranks"
    ranks.mkdir(parents=True)
    (ranks / "1").symlink_to(tmp_path / "elsewhere" / "ranks" / "1")
    (ranks / "2").mkdir()
    (ranks / "2" / "written").symlink_to(tmp_path / "elsewhere" / "ranks" / "1" / "written")
    (ranks / "3").mkdir()
    os.mkfifo(ranks / "3" / "written")
    looked = Reports(given)

    looked.shared()

    assert not any(looked._written.values())
