"""For what a job waits, and behind whom: pure, on what Slurm printed."""

from __future__ import annotations

import dataclasses

import pytest

from runner.fleet import standing
from runner.fleet.rows import queue
from runner.slurm.hostlist import expand
from runner.slurm.nodes import Node
from runner.slurm.nodes import read as read_nodes
from runner.slurm.queue import Job
from runner.slurm.waiting import (
    LEAVES_NOW,
    Waiting,
    explain,
    fits,
    in_order,
    label,
    taken_by,
    wants,
    why_away,
)
from tests.fleet import recordings


def told(moment: str, name: str) -> Waiting:
    return explain(recordings.job(moment, name), recordings.jobs(moment), recordings.nodes(moment))


def test_names_of_jobs_may_hold_line_breaks_colours_and_letters_of_two_bytes() -> None:
    names = [job.name for job in recordings.jobs("full")]
    assert len(names) == 10
    assert {"two\nlines", "trainé-übung", "evil\x1b[31m[bold]name", "small-7a8b"} <= set(names)


def test_a_name_that_is_cut_within_a_letter_moves_no_other_field() -> None:
    text = (recordings.FOLDER / "full.squeue").read_bytes()
    cut = text.replace("trainé".encode(), b"train\xff\xff")
    from runner.slurm.queue import read

    job = next(each for each in read(cut.decode("utf-8", "surrogateescape")) if each.id == "7")
    assert (job.name, job.partition, job.gpus_per_node) == ("train\ufffd\ufffd-übung", "p20", 4)


def test_gpus_that_are_asked_for_as_a_whole_are_counted_for_each_host() -> None:
    assert next(job for job in recordings.jobs("preempt") if job.id == "6").gpus_per_node == 1


def test_the_first_in_the_queue_waits_for_whoever_holds_its_gpus() -> None:
    waiting = told("full", "big-5e6f")
    assert waiting.why == "it waits for 3 hosts with 4 GPUs each; none of 3 has them free"
    assert waiting.behind == ("mnist-1a2b", "other-3c4d", "job 6 of root")
    assert waiting.starts_at_s == 1795333531.0


def test_a_later_one_waits_for_those_before_it_as_well() -> None:
    assert told("full", "small-7a8b").behind == (
        "mnist-1a2b",
        "other-3c4d",
        "job 6 of root",
        "big-5e6f",
        "job 8 of root",
    )


def test_one_whose_gpu_is_free_waits_for_its_turn() -> None:
    waiting = told("full", "low-9c0d")
    assert waiting.why == "it waits for 1 host with 1 GPU, and it is not its turn yet"
    assert "mnist-1a2b" not in waiting.behind
    assert "big-5e6f" in waiting.behind


def test_a_run_of_a_higher_ten_waits_for_those_that_give_way() -> None:
    assert told("preempt", "urgent-3333").behind == ("mnist-1a2b", "job 6 of root", "other-3c4d")
    assert "mnist-1a2b gives way to it: a lower priority" in told("lost", "urgent-3333").why


def test_hosts_that_take_no_job_are_named_with_the_reason() -> None:
    assert told("lost", "big-5e6f").why == (
        "it waits for 3 hosts with 4 GPUs each; 1 of 3 can be had: h1 is drained (GPU 2 has memory errors: reseat it), "
        "h2 does not respond"
    )


def test_more_than_the_fleet_has_is_told_with_what_it_has() -> None:
    assert told("preempt", "never-4444").why == (
        "it waits for 4 hosts with 4 GPUs each, and the fleet has 3 of that kind"
    )


def test_nobody_waits_behind_a_job_that_cannot_start_for_other_reasons() -> None:
    behind = told("preempt", "low-9c0d").behind
    assert not {"never-4444", "later-2222", "big-5e6f", "held-1111"} & set(behind)


def test_what_somebody_holds_tells_how_it_is_released() -> None:
    waiting = told("full", "held-1111")
    assert waiting.why.endswith("it never starts until: scontrol release 9")
    assert waiting.starts_at_s is None


def test_what_slurm_holds_by_itself_is_told_with_its_reason() -> None:
    job = dataclasses.replace(
        recordings.job("full", "held-1111"), reason="launch failed requeued held", restarts=2
    )
    assert explain(job, (), ()).why == (
        "Slurm holds it by itself (launch failed requeued held, after 2 restarts)"
    )


def test_a_run_that_was_put_back_waits_two_minutes() -> None:
    job = recordings.job("full", "later-2222")
    assert "not to start earlier" in explain(job, (), ()).why
    assert "two minutes" in explain(dataclasses.replace(job, restarts=1), (), ()).why


FAILED = "start 1 of 2 failed (next try after 11:03:52Z): /nope: No such file or directory"


def cloud(states: str, reason: str = "") -> Node:
    said = f" Reason={reason} [root@2026-11-22T11:02:52]" if reason else ""
    return read_nodes(f"NodeName=a-1 CPUTot=2 State={states} AvailableFeatures=pushtrain,elastic{said}")[0]


@pytest.mark.parametrize(
    ("states", "reason", "word"),
    [
        ("IDLE+CLOUD+POWERED_DOWN", "", "switched off"),
        ("IDLE+CLOUD+POWERING_DOWN", FAILED, "being switched off"),
        ("MIXED+CLOUD+NOT_RESPONDING+POWERING_UP", "", "being started"),
        ("DOWN+CLOUD+NOT_RESPONDING+POWERING_UP", FAILED, "down"),
    ],
)
def test_a_host_that_comes_and_goes_is_told_in_one_word_and_with_its_failed_start(
    states: str, reason: str, word: str
) -> None:
    host = cloud(states, reason)
    waits = dataclasses.replace(recordings.job("full", "big-5e6f"), nodes=1, gpus_per_node=0, features="")
    why = explain(waits, (waits,), (host,)).why
    assert f"a-1 is {word}" in why
    row = standing.state(host, ())
    assert row.startswith(word)
    assert (FAILED in why) == (FAILED in row) == bool(reason)
    assert standing.is_well(host) is not bool(reason)


@pytest.mark.parametrize(
    ("reason", "then"),
    [
        (
            "pushtrain: not of a job, and on its GPUs: process 7 (x) of root",
            "resumed by itself when that is over",
        ),
        ("new disk", "when done: pushtrain agent resume a-1"),
    ],
)
def test_a_drained_host_tells_who_resumes_it(reason: str, then: str) -> None:
    host = dataclasses.replace(cloud("IDLE+DRAIN", reason), comment='{"pushtrain":"0.1.0"}')
    assert standing.state(host, ()).endswith(then)


def test_a_job_whose_hosts_are_being_started_waits_for_them() -> None:
    waits = recordings.job("full", "big-5e6f")
    starts = dataclasses.replace(waits, state="CONFIGURING", hosts="a-1", nodes=1)
    host = cloud("MIXED+CLOUD+NOT_RESPONDING+POWERING_UP")
    (row,) = queue((starts,), (host,))
    assert (row.position, row.starting, row.held) == (1, True, False)
    assert row.why == "it waits for its host to start: a-1 is being started"
    assert explain(starts, (starts,), (cloud("MIXED+CLOUD"),)).why == "its hosts are being made ready"


def test_one_that_was_put_back_tells_the_failed_start_too() -> None:
    job = dataclasses.replace(recordings.job("full", "later-2222"), restarts=1, features="", gpus_per_node=0)
    assert f"; a-1: {FAILED}" in explain(job, (job,), (cloud("DOWN+POWERING_UP", FAILED),)).why


@pytest.mark.parametrize("reason", ["QOSMaxGRESPerUser", "AssocGrpGRES"])
def test_a_limit_of_an_account_is_told_as_such(reason: str) -> None:
    job = dataclasses.replace(recordings.job("full", "big-5e6f"), reason=reason)
    assert explain(job, (), ()).why == f"a limit of its account is reached ({reason})"


def test_hosts_that_are_free_are_about_to_be_given() -> None:
    job = dataclasses.replace(recordings.job("full", "big-5e6f"), reason="None")
    free = [dataclasses.replace(node, gpus_used=0, cpus_used=0) for node in recordings.nodes("full")]
    assert explain(job, (job,), free) == Waiting(
        why="hosts are free: Slurm is about to start it", starts_at_s=job.starts_at_s
    )


def test_a_label_that_no_host_has_is_named() -> None:
    job = dataclasses.replace(recordings.job("full", "small-7a8b"), features="pushtrain&pool_other")
    assert explain(job, (), recordings.nodes("full")).why == (
        "it waits for 1 host with 4 GPUs, pool: other, and the fleet has none of that kind"
    )


def test_the_queue_is_in_the_order_in_which_slurm_looks_at_it() -> None:
    assert [job.id for job in in_order(recordings.jobs("preempt"))] == [
        "11",
        "3",
        "8",
        "10",
        "12",
        "4",
        "7",
        "5",
    ]


def test_what_a_job_wants_is_told_in_words() -> None:
    job = dataclasses.replace(recordings.job("full", "other-3c4d"), state="PENDING", gpus_per_node=1, nodes=2)
    assert wants(job) == "2 hosts with 1 GPU (nvidia_h100_80gb_hbm3) each, pool: lab"


def test_a_job_that_is_no_run_is_named_by_its_number() -> None:
    assert label(recordings.job("full", "two\nlines")) == "job 8 of root"


def test_a_constraint_that_is_no_plain_list_is_left_to_slurm() -> None:
    job = dataclasses.replace(recordings.job("full", "small-7a8b"), features="a|b")
    assert fits(job, recordings.nodes("full")[0])


def test_the_reason_of_a_host_is_told_without_slurms_signature() -> None:
    reason = why_away(recordings.nodes("preempt")[1])
    assert (reason.text, reason.by, reason.since) == (
        "GPU 2 has memory errors: reseat it",
        "root",
        "2026-11-22T06:46:17",
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("(null)", ()),
        ("h1", ("h1",)),
        ("gpu[08-10],head", ("gpu08", "gpu09", "gpu10", "head")),
        ("r[1-2]n[3,5]", ("r1n3", "r1n5", "r2n3", "r2n5")),
    ],
)
def test_a_list_of_hosts_is_read(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    ("moment", "host", "partition", "why"),
    [
        ("preempt", "h2", "p50", "urgent-3333 has a higher priority"),
        ("preempt", "h2", "p90", ""),
        ("preempt", "h2", "other", ""),
        ("full", "h2", "p50", ""),
        ("lost", "h2", "p50", "h2 does not respond"),
    ],
)
def test_who_takes_a_runs_hosts_away_is_told_where_slurm_knows(
    moment: str, host: str, partition: str, why: str
) -> None:
    said = taken_by([host], partition, recordings.jobs(moment), recordings.nodes(moment), now_s=2e9)
    assert said == why


@pytest.mark.parametrize("partition", ["p50", "other"])
def test_a_host_that_leaves_at_once_took_its_runs_from_itself(partition: str) -> None:
    def left(reason: str) -> str:
        said = f"NodeName=h1 State=MIXED+DRAIN CPUTot=8 Reason={reason} [root@2026-11-22T06:46:17]"
        return taken_by(["h1", "h2"], partition, (), read_nodes(said), now_s=2e9)

    assert left(LEAVES_NOW) == "h1 leaves the fleet"
    assert left("leaves the fleet") == left("drained by hand") == ""


def test_one_of_a_higher_priority_that_has_a_host_for_long_took_none_away() -> None:
    jobs, nodes = recordings.jobs("full"), recordings.nodes("full")
    started_s = recordings.job("full", "other-3c4d").starts_at_s
    assert started_s is not None
    assert "other-3c4d" in taken_by(["h2"], "p20", jobs, nodes, now_s=started_s + 5)
    assert "other-3c4d" not in taken_by(["h2"], "p20", jobs, nodes, now_s=started_s + 3600)


def kind(name: str, kind: str, *, used: int = 0, states: str = "IDLE") -> Node:
    said = f"NodeName={name} CPUTot=8 CPUAlloc={used} State={states} Gres=gpu:{kind}:2 GresUsed=gpu:{kind}:{used} "
    return read_nodes(f"{said}AvailableFeatures=pushtrain,gpu__{kind}")[0]


ALIKE = "it waits for 2 hosts with 2 GPUs each, a40 or a80, all of one type"


@pytest.mark.parametrize(
    ("hosts", "why"),
    [
        ((kind("h0", "a40"), kind("h1", "a80")), f"{ALIKE}, and the fleet has 1 of that kind"),
        (
            (kind("h0", "a40"), kind("h1", "a40", used=2), kind("h2", "a80")),
            f"{ALIKE}; 1 of 2 has them free",
        ),
        (
            (kind("h0", "a40"), kind("h1", "a40", states="DOWN"), kind("h2", "a80")),
            f"{ALIKE}; 1 of 2 can be had: h1 is down",
        ),
        (
            (kind("h0", "a40"), kind("h1", "a40", used=2), kind("h2", "a80"), kind("h3", "a80")),
            "hosts are free: Slurm is about to start it",
        ),
    ],
)
def test_hosts_are_counted_by_type_for_a_job_whose_hosts_have_to_be_of_one(
    hosts: tuple[Node, ...], why: str
) -> None:
    job = _alike()
    holder = dataclasses.replace(job, id="8", state="RUNNING", hosts="h1", comment="", user="alice")
    waiting = explain(job, (job, holder), hosts)
    assert waiting.why == why
    assert waiting.behind == (("job 8 of alice",) if "free" in why and len(hosts) == 3 else ())


def test_nobody_waits_behind_a_job_that_has_not_enough_hosts_of_one_type() -> None:
    ahead = dataclasses.replace(_alike(), id="6", comment="", user="alice", priority=9)
    job = dataclasses.replace(_alike(), nodes=1)
    hosts = (kind("h0", "a40"), kind("h1", "a80"))
    assert explain(job, (ahead, job), hosts).behind == ()
    assert explain(job, (ahead, job), (*hosts, kind("h2", "a80"))).behind == ("job 6 of alice",)


def _alike() -> Job:
    return dataclasses.replace(
        recordings.job("full", "big-5e6f"), id="7", reason="", nodes=2, gpus_per_node=2, gpu_type="",
        features="[gpu__a40|gpu__a80]", starts_at_s=None, priority=1, partition="",
    )  # fmt: skip
