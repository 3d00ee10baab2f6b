"""A host process that ends while Docker makes its containers leaves none, whenever Docker is done with them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.host.docker_host import LABEL, SEEN_LABEL, connect, remove_ended
from runner.host.held import GUARDIAN
from runner.launch import Process
from tests.engines.project import wait_for
from tests.fakes.slow_docker import SlowDocker, slow_docker
from tests.services.dockerd import DockerEngine

from .hosting import Hosted, direct, job, local_host, under_launcher

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

KINDS = {
    "one rank": direct("sleep 60"),
    "two ranks": direct("sleep 60", "sleep 60"),
    "under a launcher": under_launcher("sleep 60"),
}
CREATE, WITHIN_S = "/containers/create", 90.0


@pytest.fixture
def docker(docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """A Docker without containers, before the test and after it."""
    yield docker_engine
    if left := docker_engine.docker("ps", "-aq").split():
        docker_engine.docker("rm", "-f", *left)


@pytest.fixture
def slow(docker: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDocker]:
    """The Docker of the host processes; it holds back the making of containers."""
    with slow_docker(docker.socket, tmp_path, holds=CREATE) as slow:
        monkeypatch.setenv("DOCKER_HOST", slow.host)
        yield slow


def names(docker: DockerEngine) -> list[str]:
    return docker.docker("ps", "-a", "--format", "{{.Names}} {{.Status}}").splitlines()


def looked_for(mark: str, slow: SlowDocker) -> bool:
    return any("/containers/json" in line and mark.partition(":")[0] in line for line in slow.asked)


def guardian_of(host: Hosted) -> int:
    (guardian,) = (
        pid for pid in host.children() if GUARDIAN.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    return guardian


def until_made(slow: SlowDocker) -> None:
    slow.go_on()
    assert slow.done.wait(WITHIN_S)


@pytest.mark.parametrize("processes", KINDS.values(), ids=KINDS)
def test_a_host_process_that_is_told_to_end_removes_what_docker_is_making(
    processes: tuple[Process, ...], tmp_path: Path, docker: DockerEngine, slow: SlowDocker, base_image: str
) -> None:
    with local_host(tmp_path) as host:
        host.channel.send("fetch", job=job(tmp_path, *processes, image=base_image).to_json())
        assert slow.held.wait(WITHIN_S)
        host.channel.send("bye")
        until_made(slow)
        wait_for(lambda: not Path(f"/proc/{host.pid}/exe").exists(), what="its end", within_s=WITHIN_S)
        assert names(docker) == []


@pytest.mark.parametrize("processes", KINDS.values(), ids=KINDS)
def test_a_guardian_removes_what_docker_makes_after_the_end_of_the_host_process(
    processes: tuple[Process, ...], tmp_path: Path, docker: DockerEngine, slow: SlowDocker, base_image: str
) -> None:
    told = job(tmp_path, *processes, image=base_image)
    with local_host(tmp_path) as host:
        host.channel.send("fetch", job=told.to_json())
        assert slow.held.wait(WITHIN_S)
        guardian = guardian_of(host)
        os.kill(host.pid, signal.SIGKILL)
        wait_for(lambda: looked_for(told.mark, slow), what="the guardian's look", within_s=WITHIN_S)
        until_made(slow)
        wait_for(lambda: not names(docker), what="the end of all containers", within_s=WITHIN_S)
        os.kill(
            guardian, signal.SIGKILL
        )  # It goes on looking for some seconds, and this Docker is gone by then.


def test_an_attempt_that_is_over_before_its_image_is_there_makes_no_containers(
    tmp_path: Path, docker: DockerEngine, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = job(tmp_path, *direct("sleep 60"), image=base_image)
    plain = job(tmp_path, *direct("sleep 60"), venv=str(tmp_path), attempt=3, mark=f"{first.mark}-later")
    with slow_docker(docker.socket, tmp_path, holds="/images/") as slow:
        monkeypatch.setenv("DOCKER_HOST", slow.host)
        with local_host(tmp_path) as host:
            host.channel.send("fetch", job=first.to_json())
            assert slow.held.wait(WITHIN_S)
            # The next one needs no Docker.
            host.channel.send("fetch", job=plain.to_json())
            host.hear("fetched")
            slow.go_on()
            assert slow.done.wait(WITHIN_S)
            for _ in range(3):  # So many seconds, in which it would have asked for one long since.
                host.hear("beat")
        assert not any(CREATE in line for line in slow.asked)
        assert names(docker) == []


def test_what_was_never_started_is_removed_by_whoever_starts_something_next(
    tmp_path: Path, docker: DockerEngine, slow: SlowDocker, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what waits for its start with a host process that lives, nor what one that is not seen from here may hold."""
    with local_host(tmp_path) as host:
        host.channel.send("fetch", job=job(tmp_path, *direct("true"), image=base_image).to_json())
        assert slow.held.wait(WITHIN_S)
        host.kill_with_guardian()
        until_made(slow)
    wait_for(lambda: len(names(docker)) == 1, what="what is left", within_s=WITHIN_S)

    elsewhere = {LABEL: "another:0:1:", SEEN_LABEL: "pid:[1]"}
    labels = [word for name, text in elsewhere.items() for word in ("--label", f"{name}={text}")]
    docker.docker("create", "--name", "elsewhere", *labels, base_image, "true")
    other: dict[str, Any] = {"run_id": "20260101-000000-bbbbbb", "mark": "20260101-000000-bbbbbb:0:1:"}
    place = tmp_path / "other"
    place.mkdir()
    with local_host(place) as host:
        host.channel.send("fetch", job=job(place, *direct("true"), image=base_image, **other).to_json())
        host.hear("fetched")
        waiting = [f"pushtrain-{other['run_id']}-a2-r0 Created", "elsewhere Created"]
        client = connect()
        remove_ended(client)  # It has not been there for long, and might yet be somebody's.
        assert len(names(docker)) == 3
        remove_ended(client, for_s=0)
        client.close()
        assert sorted(names(docker)) == sorted(waiting)


def test_what_starts_while_it_is_looked_at_is_not_taken_for_one_that_ended(
    docker: DockerEngine, base_image: str
) -> None:
    """It was listed as created; its end is in the year 1 by then."""
    labels = ("--label", f"{LABEL}=20260101-000000-cccccc:0:1:")
    docker.docker("run", "-d", "--name", "started", *labels, base_image, "sleep", "600")
    client = connect()
    started = client.containers.get("started")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(client.containers), "list", lambda *_, **__: [started])
        remove_ended(client, for_s=0)
    client.close()
    assert [each.partition(" Up ")[0] for each in names(docker)] == ["started"]
    docker.docker("rm", "-f", "started")
