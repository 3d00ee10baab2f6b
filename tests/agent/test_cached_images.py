"""Images count towards a host's quota by the sizes that Docker tells, and go unless a container uses them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.agent import caches
from runner.environment import LABEL
from runner.store import open_store
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

IDLE, BUSY = "a" * 32, "b" * 32


@pytest.fixture
def images(docker_engine: DockerEngine, base_image: str) -> Iterator[None]:
    """An image of an environment that nothing uses, and one that a container was made of.

    What earlier sessions left in this Docker is used by containers as well, so that it stays for those to come.
    """
    others = docker_engine.docker("image", "ls", "-q", "--filter", f"label={LABEL}").split()
    users = [docker_engine.docker("create", image, "true") for image in dict.fromkeys(others)]
    for key in (IDLE, BUSY):
        container = docker_engine.docker("create", base_image, "true")
        docker_engine.docker("commit", "--change", f"LABEL {LABEL}={key}", container, f"pushtrain/env:{key}")
        docker_engine.docker("rm", container)
    container = docker_engine.docker("create", f"pushtrain/env:{BUSY}", "true")
    yield
    docker_engine.docker("rm", "-f", container, *users)
    for key in (IDLE, BUSY):
        if docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{key}"):
            docker_engine.docker("image", "rm", "-f", f"pushtrain/env:{key}")


@pytest.mark.usefixtures("images")
def test_only_images_of_ours_that_no_container_uses_are_evicted(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    kept = caches.keep(tmp_path, open_store(tmp_path / "store"), quota="0%", now_s=time.time() + 60)
    assert kept.evicted == (f"image pushtrain/env:{IDLE}",)
    assert kept.before_bytes > 2 * 10**8
    assert docker_engine.docker("image", "ls", "-q", base_image)
    assert docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{BUSY}")


@pytest.mark.usefixtures("images")
def test_a_data_set_that_a_container_has_mounted_stays(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    data = tmp_path / "cache" / "datasets" / f"sha256-{'a' * 64}"
    data.mkdir(parents=True)
    (data / "images.npz").write_bytes(bytes(1000))
    container = docker_engine.docker("create", "-v", f"{data}:/datasets/a:ro", base_image, "true")
    store = open_store(tmp_path / "store")
    named = f"data set {data.name}"
    assert named not in caches.keep(tmp_path, store, quota="0%", now_s=time.time() + 60).evicted
    docker_engine.docker("rm", container)
    assert named in caches.keep(tmp_path, store, quota="0%", now_s=time.time() + 60).evicted
