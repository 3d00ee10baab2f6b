"""Images that a host lacks are pulled from the registry by digest, once, and what goes wrong is told as it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.environment.image import LOCAL
from runner.errors import EnvironmentFailed
from runner.host import images
from runner.host.progress import EVERY_S, Progress
from tests.services.dockerd import DockerEngine


def silent() -> Progress:
    return Progress("image", lambda _: None)


def test_progress_is_told_every_two_seconds_and_not_for_what_is_quick() -> None:
    now, told = [0.0], list[dict[str, Any]]()
    progress = Progress("data set x", told.append, total=10, clock=lambda: now[0])
    progress.add(1)
    assert not told
    now[0] = EVERY_S
    progress.add(2)
    progress.add(3)
    assert told == [{"what": "data set x", "bytes": 3, "total": 10}]


def test_layers_of_a_pull_are_counted_whole_once_they_are_there() -> None:
    layers: dict[str, tuple[int, int]] = {}
    images.note(layers, {"id": "a", "status": "Downloading", "progressDetail": {"current": 3, "total": 9}})
    images.note(layers, {"id": "b", "status": "Already exists"})
    assert layers == {"a": (3, 9)}
    images.note(layers, {"id": "a", "status": "Download complete", "progressDetail": {}})
    assert layers == {"a": (9, 9)}


class Registry:
    """Answers of a pull, one after another; the last one for ever."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers, self.asked = [*answers], 0

    def __call__(self) -> list[dict[str, Any]]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


DOWN = [{"error": "dial tcp 10.0.0.1:5000: connect: connection refused"}]


def test_a_registry_that_does_not_answer_is_asked_again() -> None:
    registry = Registry(DOWN, [{"status": "Pull complete"}])
    told = list[dict[str, Any]]()
    images._pull(registry, "registry/x@sha256:0", Progress("image", told.append))
    assert registry.asked == 2
    assert [each["waits"] for each in told] == [
        "the registry registry does not answer (connection refused); trying again for a minute",
        "",
    ]


def test_an_image_that_the_registry_does_not_have_is_asked_for_once() -> None:
    registry = Registry([{"error": "manifest for x not found: manifest unknown"}])
    with pytest.raises(EnvironmentFailed, match="manifest unknown"):
        images._pull(registry, "registry/x@sha256:0", silent())
    assert registry.asked == 1


def test_a_full_disk_is_told_as_such() -> None:
    registry = Registry([{"error": "write /var/lib/docker/tmp/x: no space left on device"}])
    with pytest.raises(EnvironmentFailed, match="disk of Docker is full"):
        images._pull(registry, "registry/x@sha256:0", silent())


@pytest.fixture
def pushed(docker_engine: DockerEngine, base_image: str, registry: str) -> Iterator[str]:
    """An image that is in the registry and not here, by its digest."""
    name = f"{registry}/pushtrain-env:leased"
    docker_engine.docker("tag", base_image, name)
    docker_engine.docker("push", "-q", name)
    digests = docker_engine.docker("image", "inspect", "-f", '{{join .RepoDigests "\\n"}}', name)
    pinned = next(line for line in digests.splitlines() if line.startswith(f"{registry}/pushtrain-env@"))
    docker_engine.docker("image", "rm", name)
    yield pinned
    docker_engine.docker("image", "rm", "-f", pinned)


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_an_image_is_pulled_by_its_digest_once_for_all_who_wait(
    pushed: str, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    failed: list[Exception] = []

    def bring() -> None:
        try:
            images.bring(pushed, cache=tmp_path, progress=silent())
        except Exception as error:  # noqa: BLE001  # told below
            failed.append(error)

    waiting = [threading.Thread(target=bring) for _ in range(3)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert failed == []
    assert docker_engine.docker("image", "inspect", "-f", "{{.Id}}", pushed)


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_without_a_registry_the_host_that_lacks_the_image_says_what_to_do(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    with pytest.raises(EnvironmentFailed, match=r"has no image .*no registry is configured") as raised:
        images.bring(f"{LOCAL}:unknown", cache=tmp_path, progress=silent())
    assert "--registry" in raised.value.tip
    assert "pushtrain run --registry" not in raised.value.tip


@pytest.mark.docker
@pytest.mark.timeout(300)
def test_an_image_that_only_another_host_has_is_to_be_pushed(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    with pytest.raises(
        EnvironmentFailed, match=r"has no image sha256:0{12}: it is only in the Docker"
    ) as raised:
        images.bring("sha256:" + "0" * 64, cache=tmp_path, progress=silent())
    assert "docker push" in raised.value.tip
