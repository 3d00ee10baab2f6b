"""How far the hosts are with what they fetch, in one sentence."""

from __future__ import annotations

from runner.progress import Progress

MIB = 2**20


def test_hosts_that_still_fetch_are_named_with_what_and_how_much() -> None:
    said: list[str] = []
    progress = Progress({0: "gpu1", 1: "gpu2"}, say=said.append)
    progress.note(1, {"event": "progress", "what": "image", "bytes": 340 * MIB, "total": 900 * MIB})
    assert said == ["fetching: gpu2 image 340 MiB of 900 MiB"]


def test_not_every_step_is_told_and_the_end_clears_the_sentence() -> None:
    said: list[str] = []
    progress = Progress({0: "gpu1"}, say=said.append)
    for done in range(1, 100):
        progress.note(0, {"event": "progress", "what": "data set mnist", "bytes": done * MIB, "total": None})
    assert len(said) == 1
    progress.end()
    assert said[-1] == ""


def test_who_has_nothing_to_fetch_says_nothing() -> None:
    said: list[str] = []
    Progress({0: "gpu1"}, say=said.append).end()
    assert said == []


def test_what_a_host_waits_for_is_told_at_once_and_forgotten_when_it_comes() -> None:
    said: list[str] = []
    progress = Progress({0: "gpu1", 1: "gpu2"}, say=said.append)
    told = {"event": "progress", "what": "image", "bytes": 0, "total": None}
    progress.note(0, told)
    for _ in range(2):
        progress.note(1, {**told, "waits": "the registry h0:5000 does not answer; trying again"})
    last = "fetching: gpu1 image 0 B, gpu2 image: the registry h0:5000 does not answer; trying again"
    assert said == ["fetching: gpu1 image 0 B", last]
    progress.note(1, {**told, "waits": ""})
    progress.note(0, {**told, "waits": "Docker does not answer any more"})
    assert said[2:] == ["fetching: gpu1 image: Docker does not answer any more"]
