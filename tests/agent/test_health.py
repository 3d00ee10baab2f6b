"""A host that is not well takes no jobs and says why; well again, it takes them again, unless a person drained it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.agent import clock, needs
from runner.agent.health import decide
from tests.agent.scene import NODE, Host, heads_clock

FAULT = "pushtrain: GPU-fake-1: broken"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    made = Host.made(tmp_path)
    yield made
    made.close()


@pytest.fixture
def docker(host: Host) -> Iterator[None]:
    """Something that answers as Docker does, and knows nothing."""
    path = host.environ["DOCKER_HOST"].removeprefix("unix://")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        thread = threading.Thread(target=_answer, args=(listening,))
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _answer(listening: socket.socket) -> None:
    while True:
        try:
            asked, _ = listening.accept()
        except OSError:
            return
        with asked:
            body = b"[]" if b"/containers" in asked.recv(4096) else b"{}"
            asked.sendall(
                b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )


def check(host: Host) -> None:
    done = host.program("health", SLURMD_NODENAME=NODE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("reason", "drained", "said", "todo"),
    [
        ("", False, "", "leave"),
        ("", True, FAULT, "resume"),
        ("", True, "Epilog error", "resume"),
        ("", True, "new cooler [anna@2026-11-22]", "leave"),
        (FAULT, False, "", "drain"),
        (FAULT, True, f"{FAULT} [root@2026-11-22]", "leave"),
        (FAULT, True, "pushtrain: something else", "drain"),
        (FAULT, True, "new cooler", "leave"),
    ],
)
def test_only_what_pushtrain_drained_is_changed(reason: str, drained: bool, said: str, todo: str) -> None:
    assert decide(reason, drained=drained, said=said) == todo


@pytest.mark.usefixtures("docker")
def test_a_host_that_is_well_is_left_alone(host: Host) -> None:
    check(host)
    assert host.node["state"] == "IDLE"
    assert "updates" not in host.node


@pytest.mark.usefixtures("docker")
@pytest.mark.parametrize(
    ("fault", "said"),
    [("ecc", "uncorrectable memory errors; nvidia-smi --gpu-reset"), ("lost", "GPU is lost; reboot")],
)
def test_a_broken_gpu_drains_its_host_and_a_mended_one_resumes_it(host: Host, fault: str, said: str) -> None:
    host.gpus({"GPU-fake-1": {"fault": fault}})
    check(host)
    assert host.node["state"] == "IDLE+DRAIN"
    assert host.node["reason"].startswith("pushtrain: ")
    assert said in host.node["reason"]
    check(host)
    assert host.node["updates"] == 1
    host.gpus({})
    check(host)
    assert host.node["state"] == "IDLE"


@pytest.mark.usefixtures("docker")
def test_a_gpu_that_is_gone_drains_its_host(host: Host) -> None:
    host.environ["FAKE_GPUS"] = "NVIDIA H100 80GB HBM3:1"
    check(host)
    assert "gone: GPU-fake-1" in host.node["reason"]


@pytest.mark.usefixtures("docker")
def test_a_driver_that_fails_drains_its_host(host: Host) -> None:
    host.environ["FAKE_GPUS"] = "mismatch"
    check(host)
    assert "mismatch" in host.node["reason"]


@pytest.mark.usefixtures("docker")
def test_a_clock_that_is_not_the_heads_drains_its_host_until_it_is_right_again(host: Host) -> None:
    with heads_clock() as (port, head):
        host.is_member(head_port=port)
        check(host)
        assert host.node["state"] == "IDLE"
        for late_s, side in ((10.0, "ahead of"), (-10.0, "behind")):
            head.late_s = late_s
            check(host)
            assert host.node["state"] == "IDLE+DRAIN"
            assert f"this clock is more than 3 s {side} the head's" in host.node["reason"]
            assert "timedatectl set-ntp true, or install chrony" in host.node["reason"]
            updates = host.node["updates"]
            head.late_s = late_s * 1.5
            check(host)
            assert host.node["updates"] == updates, "it was drained anew for other seconds"
            head.late_s = 0.0
            check(host)
            assert host.node["state"] == "IDLE"
    # A head that does not answer says nothing of a clock.
    check(host)
    assert host.node["state"] == "IDLE"


def test_a_clock_that_was_off_has_to_be_clearly_right() -> None:
    assert (
        clock.fault(None, was_off=True)
        == clock.fault(2.9, was_off=False)
        == clock.fault(1.9, was_off=True)
        == ""
    )
    assert clock.fault(3.1, was_off=False) == clock.fault(2.1, was_off=True) != ""
    assert "behind" in clock.fault(-3.1, was_off=False)


@pytest.mark.usefixtures("docker")
def test_a_full_disk_drains_its_host_until_there_is_room_to_begin_with(host: Host) -> None:
    home = host.folder / "home"
    host.shell(f"mount -t tmpfs -o size=20m tmpfs {home}; head -c 20000000 /dev/zero >{home}/a")
    check(host)
    assert host.node["state"] == "IDLE"
    host.shell(f"head -c 900000 /dev/zero >{home}/b")
    check(host)
    assert "is nearly full; pushtrain gc --yes" in host.node["reason"]
    host.shell(f"head -c 300000 /dev/zero >{home}/b")
    check(host)
    assert host.node["state"] == "IDLE+DRAIN"
    host.shell(f"rm {home}/a")
    check(host)
    assert host.node["state"] == "IDLE"


def test_docker_may_be_silent_once_and_no_more(host: Host) -> None:
    check(host)
    assert host.node["state"] == "IDLE"
    check(host)
    assert "Docker does not answer" in host.node["reason"]
    assert "systemctl restart docker" in host.node["reason"]


@pytest.mark.usefixtures("docker")
def test_a_stranger_on_an_idle_host_drains_it_until_it_has_ended(host: Host) -> None:
    check(host)
    stranger = host.process()
    host.gpus({"GPU-fake-1": {"processes": {stranger.pid: 1}}})
    check(host)
    assert host.node["state"] == "IDLE+DRAIN"
    assert f"process {stranger.pid} (" in host.node["reason"]
    assert stranger.runs
    stranger.end()
    host.gpus({})
    check(host)
    assert host.node["state"] == "IDLE"


@pytest.mark.usefixtures("docker")
def test_a_process_on_a_gpu_that_a_job_holds_drains_no_host(host: Host) -> None:
    host.cluster(("7", "a-run", "gpu:x:1(IDX:1)"))
    theirs = host.process()
    host.gpus({"GPU-fake-1": {"processes": {theirs.pid: 1}}})
    check(host)
    assert host.node["state"] == "IDLE"


@pytest.mark.usefixtures("docker")
def test_what_a_person_drained_is_neither_resumed_nor_said_otherwise(host: Host) -> None:
    host.cluster(state="IDLE+DRAIN", reason="new cooler [anna@2026-11-22T06:00:00]")
    check(host)
    host.gpus({"GPU-fake-1": {"fault": "ecc"}})
    check(host)
    host.gpus({})
    check(host)
    assert host.node["reason"].startswith("new cooler")


@pytest.mark.usefixtures("docker")
def test_a_host_that_rebooted_forgets_nothing_that_slurm_knows(host: Host) -> None:
    host.cluster(state="IDLE+DRAIN", reason=f"{FAULT} [root@2026-11-22T06:00:00]")
    check(host)
    assert host.node["state"] == "IDLE"


@pytest.mark.usefixtures("docker")
def test_what_cannot_be_told_now_is_told_by_a_later_check(host: Host) -> None:
    host.gpus({"GPU-fake-1": {"fault": "ecc"}})
    host.slurmctld_dies()
    check(host)
    host.cluster()
    check(host)
    assert host.node["state"] == "IDLE+DRAIN"


@pytest.mark.usefixtures("docker")
def test_a_host_that_is_well_again_is_not_resumed_while_strangers_are_on_its_gpus(host: Host) -> None:
    foreign = host.process()
    host.gpus({"GPU-fake-1": {"fault": "ecc", "processes": {foreign.pid: 1}}})
    check(host)
    host.gpus({"GPU-fake-1": {"processes": {foreign.pid: 1}}})
    check(host)
    assert host.node["state"] == "IDLE+DRAIN"
    assert f"process {foreign.pid}" in host.node["reason"]
    foreign.end()
    host.gpus({})
    check(host)
    assert host.node["state"] == "IDLE"


@pytest.mark.usefixtures("docker")
def test_a_foreign_process_on_a_gpu_of_no_job_keeps_the_host_from_being_offered(host: Host) -> None:
    check(host)
    foreign = host.process()
    host.gpus({"GPU-fake-1": {"processes": {foreign.pid: 1}}})
    assert host.program("strangers", NODE).returncode == 1
    assert foreign.runs
    assert host.node["state"] == "IDLE+DRAIN"
    assert f"process {foreign.pid} (python" in host.node["reason"]
    assert "of root on GPU-fake-1" in host.node["reason"]

    foreign.end()
    host.gpus({})
    check(host)
    assert host.node["state"] == "IDLE"


@pytest.mark.usefixtures("docker")
def test_a_host_that_joins_with_strangers_on_its_gpus_is_drained_as_soon_as_it_is_known(host: Host) -> None:
    host.cluster(state="")
    foreign = host.process()
    host.gpus({"GPU-fake-1": {"processes": {foreign.pid: 1}}})
    done = host.program("strangers", NODE)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert foreign.runs
    check(host)
    host.cluster()
    check(host)
    assert host.node["state"] == "IDLE+DRAIN"
    assert f"process {foreign.pid} (python" in host.node["reason"]


@pytest.mark.usefixtures("docker")
def test_a_host_that_strangers_kept_out_is_offered_again_by_the_next_check(host: Host) -> None:
    check(host)
    foreign = host.process()
    host.gpus({"GPU-fake-1": {"processes": {foreign.pid: 1}}})
    assert host.program("strangers", NODE).returncode == 1
    assert host.program("strangers", NODE, "--evict").returncode == 0
    assert host.node["state"] == "IDLE+DRAIN"
    host.gpus({})
    check(host)
    assert host.node["state"] == "IDLE"


def test_a_check_of_a_host_that_is_well_costs_little(host: Host, docker: None) -> None:
    check(host)
    imported = host.program("health", SLURMD_NODENAME=NODE, PYTHONPROFILEIMPORTTIME="1").stderr
    for heavy in ("docker.client", "requests", "boto3", "httpx", "prometheus_client"):
        assert f" {heavy}\n" not in imported


def test_of_a_small_disk_a_twentieth_has_to_be_free() -> None:
    assert needs.spare_bytes(2**30) == 2**30 // 20
    assert needs.spare_bytes(2**42) == 5 * 2**30


def test_the_reason_is_remembered_as_json(host: Host) -> None:
    check(host)
    assert json.loads((host.run / "health.json").read_text()) == {"docker_failures": 1, "drained": ""}


def test_a_machine_that_has_just_booted_is_given_time_to_set_its_clock() -> None:
    with heads_clock() as (port, head):
        head.late_s = 10.0
        assert clock.settled_ahead_s("127.0.0.1", port, up_s=1000.0) == pytest.approx(10.0, abs=1.5)
        head.right_after = 2
        found = clock.settled_ahead_s("127.0.0.1", port, up_s=20.0, within_s=60.0, pause_s=0.01)
        assert found == pytest.approx(0.0, abs=1.5)
        head.late_s = 10.0
        found = clock.settled_ahead_s("127.0.0.1", port, up_s=20.0, within_s=0.1, pause_s=0.01)
        assert found == pytest.approx(10.0, abs=1.5)
