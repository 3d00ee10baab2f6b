"""What `runners`, `queue` and `top` show of a fleet, on what Slurm printed and what agents would say."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from runner.fleet import cluster, render, rows, standing
from runner.fleet.cluster import Fleet
from runner.fleet.scrape import Answer, Card
from runner.slurm.allocated import read as read_allocated
from tests.fleet import recordings

GOLDEN = Path(__file__).parent / "golden"
# Half past seven of the day on which the queue was recorded.
NOW_S = 1795332600.0
HOSTILE = "\x1b]0;x\x07[red]h\x1b[31m100\r\n\u202e"


def card(index: int, **changes: object) -> Card:
    made = Card(
        uuid=f"GPU-{index}",
        model="NVIDIA H100 80GB HBM3",
        index=index,
        slot=index,
        memory_bytes=80 << 30,
        used_bytes=index << 33,
        utilization=index / 4,
        temperature_c=30.0 + index,
        power_w=70.0,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # fields of Card


def fleet(moment: str = "lost") -> Fleet:
    comment = '{"pushtrain":"0.1.0","metrics":6820}'
    nodes = tuple(
        dataclasses.replace(node, comment=comment if node.name != "h1" else node.comment)
        for node in recordings.nodes(moment)
    )
    ill = card(3, fault="3 uncorrectable memory errors; reboot the host")
    return Fleet(
        nodes=nodes,
        jobs=recordings.jobs(moment),
        answers={
            "h0": Answer(cards=(card(0), card(1), card(2), ill), version="0.1.0"),
            "h2": Answer(trouble="no answer within 2 s"),
        },
        given={("h0", slot): "1" for slot in range(4)},
    )


def printed(what: str, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    found = fleet()
    if what == "runners":
        render.hosts(console, rows.hosts(found), note=found.note)
    elif what == "queue":
        running = sum(not job.waits for job in found.jobs)
        render.queue(console, rows.queue(found.jobs, found.nodes), running=running, now_s=NOW_S)
    else:
        console.print(render.top(rows.places(found), width=width, at_s=NOW_S))
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


@pytest.mark.parametrize(
    ("what", "width"),
    [*itertools.product(("runners", "queue", "top"), (80, 200)), ("top", 60), ("top", 40)],
)
def test_it_looks_as_it_did(what: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To renew the texts: WRITE_GOLDEN=1."""
    monkeypatch.setenv("TZ", "UTC")
    text = printed(what, width)
    path = GOLDEN / f"{what}-{width}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_line_is_as_narrow_as_the_terminal() -> None:
    for what in ("runners", "queue", "top"):
        assert max(len(line) for line in printed(what, 80).splitlines()) <= 80


@pytest.mark.parametrize("width", [40, 60, 120])
@pytest.mark.parametrize("height", [6, 9, 50])
def test_top_says_what_does_not_fit_on_the_screen(width: int, height: int) -> None:
    console = Console(width=width, file=io.StringIO())
    shown = rows.places(fleet())
    table = render.top(shown, width=width, height=height, at_s=NOW_S)
    assert len(console.render_lines(table)) <= height
    assert (table.caption is None) is (table.row_count == len(shown))
    if table.caption is not None:
        assert str(table.caption) == f"{len(shown) - table.row_count} more: pushtrain top --once"


def test_names_that_others_chose_are_shown_and_not_obeyed() -> None:
    found = fleet()
    evil = Card(uuid=HOSTILE, model=HOSTILE, index=0, runs=(HOSTILE,), fault=HOSTILE, memory_bytes=1)
    node = dataclasses.replace(found.nodes[0], name=HOSTILE, reason=HOSTILE, features=(HOSTILE,))
    job = dataclasses.replace(found.jobs[1], name=HOSTILE, comment=f"pushtrain {HOSTILE}", user=HOSTILE)
    hostile = Fleet(
        nodes=(node,),
        jobs=(job,),
        answers={HOSTILE: Answer(cards=(evil,), version=HOSTILE, trouble=HOSTILE)},
        note=HOSTILE,
    )
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    render.hosts(console, rows.hosts(hostile), note=HOSTILE)
    render.queue(console, rows.queue(hostile.jobs, hostile.nodes), running=0, now_s=NOW_S)
    console.print(render.top(rows.places(hostile), width=200, at_s=NOW_S, note=HOSTILE))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "[red]h100" in text
    for each in ("\x1b]", "\x07", "\r", "\u202e"):
        assert each not in text


def test_the_rows_are_json() -> None:
    found = fleet()
    told = json.loads(json.dumps([dataclasses.asdict(host) for host in rows.hosts(found)]))
    assert told[0]["gpus_free"] == 0
    assert told[0]["runs"] == ["mnist-1a2b"]
    assert told[0]["labels"] == ["pool: lab"]
    waiting = json.loads(
        json.dumps([dataclasses.asdict(each) for each in rows.queue(found.jobs, found.nodes)])
    )
    assert (waiting[0]["position"], waiting[0]["run"]) == (1, "urgent-3333")
    assert waiting[-1]["held"]


def test_a_gpu_is_told_with_the_run_that_slurm_gave_it_to() -> None:
    places = [place for place in rows.places(fleet()) if place.host == "h0"]
    assert [place.runs for place in places] == [("mnist-1a2b",)] * 4
    assert {place.users for place in places} == {("root",)}


def test_slurm_tells_which_job_has_which_gpu() -> None:
    text = (
        "JobId=7 JobName=a b UserId=root(0)   Nodes=h[0-1] CPU_IDs=0-1 Mem=0 GRES=gpu:v100:2(IDX:0,2) \n"
        "JobId=8 JobName=two\nlines UserId=root(0)   Nodes=h2 CPU_IDs=0 Mem=0 GRES=gpu:a:2(IDX:0-1),gpu:b:1(IDX:2) \n"
        "JobId=9 JobName=none   Nodes=h2 CPU_IDs=0 Mem=0 GRES= \n"
    )
    assert read_allocated(text) == {
        ("h0", 0): "7",
        ("h0", 2): "7",
        ("h1", 0): "7",
        ("h1", 2): "7",
        ("h2", 0): "8",
        ("h2", 1): "8",
        ("h2", 2): "8",
    }


@pytest.mark.parametrize(
    ("states", "reason", "words"),
    [
        ({"IDLE"}, "", "idle"),
        ({"IDLE", "COMPLETING"}, "", "clearing up after a run"),
        ({"IDLE", "POWERED_DOWN"}, "", "switched off; started when a run needs it"),
        ({"IDLE", "DRAIN"}, "", "drained; when done: scontrol update nodename=h0 state=resume"),
        (
            {"IDLE", "NOT_RESPONDING"},
            "",
            "not responding; is it on, and reachable? there: pushtrain agent status",
        ),
        (
            {"DOWN", "NOT_RESPONDING"},
            "Not responding [slurm@2026-11-22T06:46:45]",
            "down since 2026-11-22 06:46:45 UTC: Not responding; is it on, and reachable? there: pushtrain agent",
        ),
        (
            {"DOWN"},
            "Node unexpectedly rebooted [slurm@2026-11-22T06:46:45]",
            "it rebooted by itself: scontrol update nodename=h0 state=resume",
        ),
    ],
)
def test_a_host_is_told_in_plain_words(states: set[str], reason: str, words: str) -> None:
    node = dataclasses.replace(
        recordings.nodes("full")[0], states=frozenset(states), reason=reason, gpus_used=0, cpus_used=0
    )
    assert words in standing.state(node, ())


def test_of_an_agents_host_that_went_down_it_is_told_how_to_forget_it() -> None:
    silent = dataclasses.replace(
        fleet().nodes[0], states=frozenset({"DOWN", "NOT_RESPONDING"}), reason="Not responding"
    )
    assert "gone for good: pushtrain agent leave h0" in standing.state(silent, ())
    for other in (
        dataclasses.replace(silent, states=frozenset({"IDLE", "NOT_RESPONDING"})),
        dataclasses.replace(silent, comment=""),
    ):
        assert "gone for good" not in standing.state(other, ())


def without_gpus(*cards: Card) -> Fleet:
    node = dataclasses.replace(
        fleet().nodes[0], gpus={}, gpus_used=0, cpus_used=0, states=frozenset({"IDLE"})
    )
    return Fleet(nodes=(node,), jobs=(), answers={node.name: Answer(cards=cards, version="0.1.0")}, given={})


def test_gpus_that_a_host_does_not_offer_are_not_the_fleets() -> None:
    found = without_gpus(card(0, slot=None), card(1, slot=None, fault="GPU is lost; reboot the host"))
    [host] = rows.hosts(found)
    assert (host.gpus, host.state, host.well) == ("none", "idle", True)
    [place] = rows.places(found)
    assert (place.card, place.trouble, place.state) == (None, "", "idle")


def test_a_gpu_that_is_lost_is_told_of_a_host_that_offers_some() -> None:
    lost = card(1, slot=None, fault="GPU is lost; reboot the host")
    node = dataclasses.replace(without_gpus().nodes[0], gpus={"h100": 2})
    found = Fleet(nodes=(node,), jobs=(), answers={node.name: Answer(cards=(card(0), lost))}, given={})
    assert [place.trouble for place in rows.places(found)] == ["", "GPU is lost; reboot the host"]
    assert not rows.hosts(found)[0].well


def test_a_host_without_gpus_is_seen_and_nothing_is_wrong_with_it() -> None:
    console = Console(file=io.StringIO(), width=100, color_system="truecolor", force_terminal=True)
    console.print(render.top(rows.places(without_gpus()), width=100, at_s=NOW_S))
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "not seen" not in told
    assert "idle" in told
    assert "\x1b[31m" not in told


def test_a_daemon_that_does_not_run_is_told() -> None:
    node = dataclasses.replace(
        recordings.nodes("full")[0], gpus_used=0, cpus_used=0, states=frozenset({"IDLE"})
    )
    answer = Answer(daemons_down=("munged",))
    assert standing.state(node, (), answer) == "idle; munged does not run there"
    assert not standing.is_well(node, answer)


@pytest.mark.parametrize("comment", ["", "(null)", "[1]", "pushtrain", '{"metrics": "x"}', '{"metrics": -1}'])
def test_a_host_without_an_agent_is_not_asked(comment: str) -> None:
    node = dataclasses.replace(recordings.nodes("full")[0], comment=comment)
    assert cluster.agent_of(node) is None


def test_a_year_of_waiting_is_no_estimate() -> None:
    job = recordings.job("full", "big-5e6f")
    far = dataclasses.replace(job, starts_at_s=job.submitted_at_s + 365 * 86_400)
    assert rows.queue((far,), recordings.nodes("full"))[0].starts_at_s is None


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [
        (7500, "in 2 h 5 min"),
        (59, "in 1 min"),
        (36, "in 36s"),
        (100_000, "in 1 d 3 h"),
        (-5, "Slurm expects it to start now"),
    ],
)
def test_the_start_is_told_as_people_say_it(ahead_s: float, words: str) -> None:
    job = dataclasses.replace(recordings.job("full", "big-5e6f"), starts_at_s=NOW_S + ahead_s)
    console = Console(file=io.StringIO(), width=200)
    render.queue(console, rows.queue((job,), recordings.nodes("full")), running=0, now_s=NOW_S)
    assert isinstance(console.file, io.StringIO)
    assert words in console.file.getvalue()


def test_a_thousand_that_wait_are_told_without_naming_all_before_each() -> None:
    found = recordings.job("full", "big-5e6f")
    many = tuple(
        dataclasses.replace(found, id=str(1000 + number), name=f"run-{number}") for number in range(1000)
    )
    shown = rows.queue(many, recordings.nodes("full"))
    assert len(json.dumps([dataclasses.asdict(each) for each in shown], indent=2)) < 1_000_000
    last = shown[-1]
    assert (last.behind_count, last.behind) == (999, tuple(f"run-{number}" for number in range(8)))
    console = Console(file=io.StringIO(), width=200)
    render.queue(console, [last], running=0, now_s=NOW_S)
    assert isinstance(console.file, io.StringIO)
    assert "behind run-0, run-1, run-2 and 996 more" in console.file.getvalue()


def test_an_empty_queue_says_so() -> None:
    console = Console(file=io.StringIO(), width=80)
    render.queue(console, (), running=2, now_s=NOW_S)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "nothing waits; 2 jobs run\n"
