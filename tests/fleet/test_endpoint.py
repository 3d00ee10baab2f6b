"""An agent's metrics, over HTTP."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from runner.agent import endpoint, metrics
from runner.agent.layout import About
from runner.fleet import scrape
from tests.fleet.agents import TOKEN, Agent, agent

# Any address of this machine that is not its loopback by the rules would do; 0.0.0.0 is answered by 127.0.0.1.
EVERYWHERE = "0.0.0.0"
ABOUT = About(
    role="head", works=True, name="h0", address="10.0.0.1", cluster="lab", head="h0", head_address="10.0.0.1",
    store=None, registry=None, metrics_port=6820, state="/var/lib/pushtrain", pushtrain="0.0.1", slurm="22.05.8",
    host_conf="", serves_registry=False,
)  # fmt: skip


@pytest.fixture
def guarded() -> Iterator[Agent]:
    with agent(address=EVERYWHERE) as found:
        yield found


def get(url: str, authorization: str | None = None) -> tuple[int, str]:
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_prometheus_is_told_of_gpus_disk_and_daemons(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(
        json.dumps(
            {
                "GPU-fake-1": {
                    "utilization": 97,
                    "temperature": 61,
                    "power": 310,
                    "used": 2**30,
                    "fault": "ecc",
                }
            }
        )
    )
    with agent(state=state) as found:
        status, text = get(found.url)
    assert status == 200
    for line in (
        'pushtrain_agent_info{slurm="22.05.8",version="0.1.0"} 1.0',
        'pushtrain_gpu_info{index="0",mig="false",model="NVIDIA H100 80GB HBM3",slot="1",uuid="GPU-fake-0"} 1.0',
        'pushtrain_gpu_utilization_ratio{uuid="GPU-fake-1"} 0.97',
        'pushtrain_gpu_memory_used_bytes{uuid="GPU-fake-1"} 1.073741824e+09',
        'pushtrain_gpu_temperature_celsius{uuid="GPU-fake-1"} 61.0',
        'pushtrain_gpu_power_watts{uuid="GPU-fake-1"} 310.0',
        'pushtrain_gpu_healthy{uuid="GPU-fake-0"} 1.0',
        'pushtrain_gpu_healthy{uuid="GPU-fake-1"} 0.0',
        'pushtrain_gpu_job{run="mnist-1a2b",uuid="GPU-fake-0"} 1.0',
        "pushtrain_disk_free_bytes 1e+12",
        "pushtrain_cache_bytes 5.0",
        'pushtrain_daemon_up{daemon="slurmd"} 0.0',
        'pushtrain_daemon_restarts_total{daemon="slurmd"} 3.0',
        "pushtrain_strangers_ended_total 2.0",
    ):
        assert line in text.splitlines()


def test_a_host_is_told_the_versions_of_its_head_for_the_token_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    (tmp_path / "agent.json").write_text(json.dumps(dataclasses.asdict(ABOUT)))
    with agent(address=EVERYWHERE) as found:
        place = (found.address, found.port)
        assert scrape.version(place, token=TOKEN) == f"{version('pushtrain')}/22.05.8\n"
        assert scrape.version(place, token="b" * 64) == ""
    assert scrape.version(place, token=TOKEN, within_s=1) == ""


def test_a_process_on_a_gpu_is_told_with_its_run(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"],
        stdin=subprocess.PIPE,
        env={**os.environ, "PUSHTRAIN_MARK": "tiny-7f7f:0:1:"},
    ) as rank:
        state = tmp_path / "state.json"
        state.write_text(json.dumps({"GPU-fake-1": {"processes": {str(rank.pid): 1024}}}))
        with agent(state=state) as found:
            told = scrape.ask({"h": (found.address, found.port)}, token="")["h"]
        rank.kill()
    assert [card.runs for card in told.cards] == [("mnist-1a2b",), ("tiny-7f7f",)]


def test_mig_instances_are_told_one_by_one() -> None:
    with agent(gpus="NVIDIA A100-SXM4-40GB:1/1g.5gb*2") as found:
        _, text = get(found.url)
    assert 'mig="true",model="NVIDIA A100-SXM4-40GB MIG 1g.5gb",slot="",uuid="MIG-fake-0-1"' in text
    assert "utilization_ratio{" not in text


def test_a_driver_that_fails_leaves_the_rest_to_be_told() -> None:
    with agent(gpus="mismatch") as found:
        status, text = get(found.url)
        told = scrape.ask({"h": (found.address, found.port)}, token="")["h"]
    assert status == 200
    assert "pushtrain_gpu_driver_up 0.0" in text
    assert told.trouble == "its NVIDIA driver does not answer: nvidia-smi"
    assert told.daemons_down == ("slurmd",)


def test_nobody_is_told_without_the_token(guarded: Agent) -> None:
    for shown in (None, "", "Bearer", "Bearer b", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xfc"):
        assert get(f"http://127.0.0.1:{guarded.port}/metrics", shown)[0] == 401
    assert get(f"http://127.0.0.1:{guarded.port}/metrics", f"Bearer {TOKEN}")[0] == 200


def test_what_is_not_there_is_told_only_to_who_may_know(guarded: Agent) -> None:
    assert get(f"http://127.0.0.1:{guarded.port}/", None)[0] == 401
    assert get(f"http://127.0.0.1:{guarded.port}/", f"Bearer {TOKEN}")[0] == 404


def test_an_address_that_others_reach_is_refused_without_a_token() -> None:
    with pytest.raises(OSError, match="need a token"):
        endpoint.serve(EVERYWHERE, 0, "")


def test_those_who_say_nothing_keep_nobody_else_from_being_answered(guarded: Agent) -> None:
    silent = [socket.create_connection(("127.0.0.1", guarded.port)) for _ in range(endpoint.MOST_AT_ONCE - 1)]
    try:
        assert get(f"http://127.0.0.1:{guarded.port}/metrics", f"Bearer {TOKEN}")[0] == 200
    finally:
        for line in silent:
            line.close()


def test_a_reader_is_told_why_hosts_do_not_answer(guarded: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
        free.close()
        told = scrape.ask(
            {
                "well": ("127.0.0.1", guarded.port),
                "mute": ("127.0.0.1", mute.getsockname()[1]),
                "gone": ("127.0.0.1", closed),
            },
            token=TOKEN,
            within_s=0.5,
        )
        other = scrape.ask({"well": ("127.0.0.1", guarded.port)}, token="b" * 64)["well"]
    assert told["well"].trouble == ""
    assert told["well"].version == "0.1.0"
    assert [card.slot for card in told["well"].cards] == [1, 0]
    assert told["mute"].trouble == "no answer within 0.5 s"
    assert told["gone"].trouble == "no agent answers there"
    assert other.trouble == "it has another token: is it of another fleet?"


def test_a_process_that_has_ended_is_of_no_run() -> None:
    assert metrics.run_of(2**22 + 1) == ""


def test_labels_may_hold_anything() -> None:
    text = 'pushtrain_gpu_info{uuid="G",model="a\\"b\\n[red]\\\\",index="0",mig="false",slot=""} 1.0\n'
    assert scrape.parse(text).cards[0].model == 'a"b\n[red]\\'
