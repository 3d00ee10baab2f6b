"""A host that is cut off from its supervisor and not from the store -> nothing of it in the place of what is newer."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest

from runner import manifest, metrics, runs
from runner.errors import Displaced, NotFound
from runner.host.node import Node
from runner.host.ownership import Ownership
from runner.runs import State
from runner.store import open_store

from .jobs import RUN, job, note_run

LIVE = f"runs/{RUN}/live/node-1/"


def begun(place: Path, *, attempt: int, text: str) -> Node:
    """A node that keeps what its ranks write, on a host of its own."""
    host = place / f"host-{attempt}"
    told = job(
        host,
        attempt=attempt,
        host_network=True,
        store=f"file://{place}/store",
        metrics_key=f"runs/{RUN}/metrics.jsonl",
    )
    for folder in ("outputs", "logs"):
        (told.work / folder).mkdir(parents=True)
    writes(host, text)
    node = Node(told)
    node._open_mirror()
    return node


def writes(host: Path, text: str) -> None:
    """What its training writes: a file anew, more of a log, and a measure."""
    work = host / "scratch" / "work"
    (work / "outputs" / "weights").write_text(text)
    with (work / "logs" / "own.log").open("a") as log:
        log.write(f"{text}\n")
    with (work / "logs" / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 1, "loss": 1.0}) + "\n")


def stored(place: Path) -> dict[str, str]:
    store = open_store(f"file://{place}/store")
    texts = {key: store.tail(key, offset=0).decode() for key in store.keys(LIVE)}
    return {**texts, "metrics": store.tail(f"runs/{RUN}/metrics.jsonl", offset=0).decode()}


def test_once_a_later_attempt_has_begun_an_earlier_one_writes_nothing_any_more(tmp_path: Path) -> None:
    note_run(tmp_path, attempts=1)
    cut = begun(tmp_path, attempt=1, text="old")
    cut.mirror_now()
    assert stored(tmp_path)[f"{LIVE}outputs/weights"] == "old"
    note_run(tmp_path, attempts=2)
    later = begun(tmp_path, attempt=2, text="new")
    later.mirror_now()
    before = stored(tmp_path)
    assert before[f"{LIVE}outputs/weights"] == "new"
    assert before["metrics"].count("loss") == 2

    writes(tmp_path / "host-1", "older than what is stored")
    cut._ownership._asked_at_s = None  # As a second later.
    cut.mirror_now()
    cut.mirror_now()

    assert stored(tmp_path) == before
    assert {each.path for each in manifest.listing(open_store(f"file://{tmp_path}/store"), LIVE)} == {
        "logs/metrics.jsonl",
        "logs/own.log",
        "outputs/weights",
    }


@pytest.mark.parametrize(
    ("state", "attempts", "kept"),
    [
        (State.RUNNING, 2, True),
        (State.PREPARING, 2, True),  # It waits for hosts, and will go on from what is saved now.
        (State.RUNNING, 3, False),
        (State.COLLECTING, 2, False),  # By fewer hosts: another seals what this one had.
        (State.CANCELLED, 2, False),
    ],
)
def test_what_an_attempt_writes_is_kept_until_another_begins_or_the_run_is_sealed(
    tmp_path: Path, state: State, attempts: int, kept: bool
) -> None:
    note_run(tmp_path, attempts=attempts, state=state)
    owned = Ownership(job(tmp_path, host_network=True), open_store(f"file://{tmp_path}/store"))
    if kept:
        owned.check()
        return
    for _ in range(2):
        with pytest.raises(Displaced, match="what attempt 2 writes here is not kept any more"):
            owned.check()


def test_many_files_ask_once(tmp_path: Path) -> None:
    now_s = 0.0
    note_run(tmp_path)
    told = job(tmp_path, host_network=True)
    owned = Ownership(told, open_store(told.store), clock=lambda: now_s)
    owned.check()
    note_run(tmp_path, attempts=3)
    owned.check()
    now_s = 1.0
    with pytest.raises(Displaced):
        owned.check()


def test_a_run_json_of_a_newer_version_is_understood(tmp_path: Path) -> None:
    told = job(tmp_path, host_network=True)
    store = open_store(told.store)
    store.write(
        runs.key(RUN, "run.json"),
        json.dumps({"state": "resting", "attempts": [{"new": 1}], "new": 2}).encode(),
    )
    Ownership(told, store).check()


def test_a_host_with_a_folder_of_its_own_in_the_stores_place_says_so_before_it_brings_anything(
    tmp_path: Path,
) -> None:
    """Its sources may lie in its cache: it would train, and keep what it writes where nobody looks."""
    node = Node(job(tmp_path, host_network=True))
    with pytest.raises(NotFound) as error:
        node.fetch()
    assert str(error.value) == (
        f"{socket.gethostname()} does not reach the run's store: {RUN} is not in file://{tmp_path}/store there"
    )
    assert "s3://" in error.value.tip


def test_on_one_machine_nobody_asks(tmp_path: Path) -> None:
    owned = Ownership(job(tmp_path), open_store(f"file://{tmp_path}/store"))
    owned.check_store()
    owned.check()


def sent(place: Path) -> list[tuple[float, float]]:
    """Steps and values of what the store has of the metrics."""
    points = metrics.decode(open_store(f"file://{place}/store").tail(f"runs/{RUN}/metrics.jsonl", offset=0))
    return [(point.step, point.value) for point in points]


def measures(host: Path, *, step: int, loss: float) -> None:
    with (host / "scratch" / "work" / "logs" / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": step, "loss": loss}) + "\n")


def test_what_was_measured_last_is_sealed_though_the_store_was_away_until_then(tmp_path: Path) -> None:
    """The gate judges by it; from COLLECTING on the keeper itself sends nothing any more."""
    note_run(tmp_path, attempts=1)
    node = begun(tmp_path, attempt=1, text="x")
    node.mirror_now()
    measures(tmp_path / "host-1", step=2, loss=9.0)
    note_run(tmp_path, attempts=1, state=State.COLLECTING)
    node._ownership._asked_at_s = None  # As a second later.
    node.mirror_now()
    assert sent(tmp_path) == [(1, 1.0)]

    node.seal()
    node.seal()

    assert sent(tmp_path) == [(1, 1.0), (2, 9.0)]


def test_what_the_store_did_not_take_of_one_attempt_is_sent_by_the_next_on_that_host(tmp_path: Path) -> None:
    note_run(tmp_path, attempts=1)
    node = begun(tmp_path, attempt=1, text="x")
    key = tmp_path / "store" / f"runs/{RUN}/metrics.jsonl"
    key.mkdir(parents=True)  # A store that takes anything but metrics.
    node.mirror_now()
    node.close()
    key.rmdir()
    note_run(tmp_path, attempts=2)

    later = Node(dataclasses.replace(node.job, attempt=2), before=node)
    later._open_mirror()
    measures(tmp_path / "host-1", step=2, loss=9.0)
    later.mirror_now()

    assert sent(tmp_path) == [(1, 1.0), (2, 9.0)]
