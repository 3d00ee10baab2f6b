"""Images count towards a host's quota by the sizes that Docker tells, and go unless a container uses them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import runs
from runner.agent import caches
from runner.environment import LABEL, Recipe, prepare_image
from runner.host import images
from runner.host.progress import Progress
from runner.runs import State
from runner.store import Store, open_store
from tests.flow import made
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

IDLE, BUSY, KEY = "a" * 32, "b" * 32, "f" * 32
RUN = "20200101-000000-aaaa"


@pytest.fixture(autouse=True)
def _others(docker_engine: DockerEngine) -> Iterator[None]:
    """What earlier tests left in this Docker is used by containers, so that it stays for those to come."""
    others = docker_engine.docker("image", "ls", "-q", "--filter", f"label={LABEL}").split()
    users = [docker_engine.docker("create", image, "true") for image in dict.fromkeys(others)]
    yield
    if users:
        docker_engine.docker("rm", *users)


@pytest.fixture
def tagged(docker_engine: DockerEngine, base_image: str) -> Iterator[None]:
    """An image of an environment that nothing uses, and one that a container was made of."""
    for key in (IDLE, BUSY):
        container = docker_engine.docker("create", base_image, "true")
        docker_engine.docker("commit", "--change", f"LABEL {LABEL}={key}", container, f"pushtrain/env:{key}")
        docker_engine.docker("rm", container)
    container = docker_engine.docker("create", f"pushtrain/env:{BUSY}", "true")
    yield
    docker_engine.docker("rm", "-f", container)
    for key in (IDLE, BUSY):
        if docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{key}"):
            docker_engine.docker("image", "rm", "-f", f"pushtrain/env:{key}")


@pytest.mark.usefixtures("tagged")
def test_only_images_of_ours_that_no_container_uses_are_evicted(
    docker_engine: DockerEngine, base_image: str, tmp_path: Path
) -> None:
    kept = caches.keep(tmp_path, open_store(tmp_path / "store"), quota="0%", now_s=time.time() + 60)
    assert kept.evicted == (f"image pushtrain/env:{IDLE}",)
    assert kept.before_bytes > 2 * 10**8
    assert docker_engine.docker("image", "ls", "-q", base_image)
    assert docker_engine.docker("image", "ls", "-q", f"pushtrain/env:{BUSY}")


@pytest.mark.usefixtures("tagged")
def test_no_name_of_an_image_that_a_container_uses_is_evicted(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    second = f"registry.example.org/pushtrain-env:{BUSY}"
    docker_engine.docker("tag", f"pushtrain/env:{BUSY}", second)
    kept = caches.keep(tmp_path, open_store(tmp_path / "store"), quota="0%", now_s=time.time() + 60)
    assert kept.evicted == (f"image pushtrain/env:{IDLE}",)
    docker_engine.docker("image", "rm", second)


@pytest.mark.usefixtures("tagged")
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


def pushed(engine: DockerEngine, base_image: str, name: str, *changes: str) -> str:
    """An image that only the registry has; returns its digest's name there."""
    container = engine.docker("create", base_image, "true")
    engine.docker("commit", *(word for each in changes for word in ("--change", each)), container, name)
    engine.docker("rm", container)
    engine.docker("push", "-q", name)
    digest = engine.docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", name)
    engine.docker("image", "rm", name)
    return digest


def bring(reference: str, home: Path) -> None:
    """As a host does that is to train in it."""
    images.bring(reference, cache=home / "cache", progress=Progress("image", lambda _: None))


def evicted(home: Path, store: Store, *, after_s: float = 60.0) -> tuple[str, ...]:
    return caches.keep(home, store, quota="0%", now_s=time.time() + after_s).evicted


def test_what_a_host_pulled_by_its_digest_goes_as_well(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    """Such images have no tag. A user's own has no label either, and goes only where a run had it pulled."""
    store = open_store(tmp_path / "store")
    ours = pushed(docker_engine, base_image, f"{registry}/pushtrain-env:{KEY}", f"LABEL {LABEL}={KEY}")
    users = pushed(docker_engine, base_image, f"{registry}/team/image:1", "LABEL of=a-user")
    others = pushed(docker_engine, base_image, f"{registry}/team/image:2", "LABEL of=somebody-else")
    docker_engine.docker("pull", "-q", others)
    for reference in (ours, users, others):
        bring(reference, tmp_path)
    before_bytes = caches.keep(tmp_path, store, quota="100%").before_bytes
    assert before_bytes > 2 * 10**8, "both are counted"
    container = docker_engine.docker("create", users, "true")
    assert evicted(tmp_path, store) == (f"image {ours}",)
    docker_engine.docker("rm", container)
    assert evicted(tmp_path, store) == (f"image {users}",)
    left = docker_engine.docker("image", "ls", "--digests", "--format", "{{.Repository}}@{{.Digest}}").split()
    assert others in left
    assert not {ours, users} & set(left)
    # Whoever pulls it now is not us.
    assert evicted(tmp_path, store) == ()
    docker_engine.docker("pull", "-q", users)
    bring(users, tmp_path)
    assert evicted(tmp_path, store) == ()
    docker_engine.docker("image", "rm", users, others)


def test_an_image_of_a_user_stays_while_a_run_is_to_have_it_or_somebody_gave_it_a_name(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    store = open_store(tmp_path / "store")
    users = pushed(docker_engine, base_image, f"{registry}/team/image:3", "LABEL of=a-third")
    bring(users, tmp_path)
    recipe = Recipe(
        kind="image", key="c" * 32, platform="linux/amd64", image=f"{registry}/team/image:3",
        base_digest=users.partition("@")[2],
    )  # fmt: skip
    made.run(store, RUN, State.PREPARING, made=made.plan(recipe=recipe))
    assert evicted(tmp_path, store) == ()
    runs.move(store, RUN, State.FAILED, at_s=3.0)
    docker_engine.docker("tag", users, "mine:latest")
    assert evicted(tmp_path, store) == ()
    docker_engine.docker("image", "rm", "mine:latest")
    assert evicted(tmp_path, store) == (f"image {users}",)


def test_what_was_pulled_to_prepare_a_run_is_ours_to_remove(
    docker_engine: DockerEngine, base_image: str, registry: str, tmp_path: Path
) -> None:
    """The host of the first node prepares the run, and finds the image there when it is to train."""
    users = pushed(docker_engine, base_image, f"{registry}/team/image:4", "LABEL of=a-fourth")
    recipe = Recipe(
        kind="image", key="d" * 32, platform="linux/amd64", image=f"{registry}/team/image:4",
        base_digest=users.partition("@")[2],
    )  # fmt: skip
    made_ready = prepare_image(
        recipe, folder=tmp_path, registry=registry, secrets={}, wheel_cache=tmp_path, log=lambda _: None,
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert made_ready.pinned == users
    bring(users, tmp_path)
    assert evicted(tmp_path, open_store(tmp_path / "store")) == (f"image {users}",)


def test_the_disk_of_docker_counts_where_it_is_another(docker_engine: DockerEngine, tmp_path: Path) -> None:
    """Health looks at it too: a host whose images are never evicted would be drained for it."""
    store = open_store(tmp_path / "store")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as home:
        apart = caches.keep(Path(home), store, quota="100%").quota_bytes
        assert apart == shutil.disk_usage(home).total + shutil.disk_usage(docker_engine.folder).total
    own = docker_engine.folder / "home"
    own.mkdir()
    together = caches.keep(own, store, quota="100%").quota_bytes
    own.rmdir()
    assert together == shutil.disk_usage(docker_engine.folder).total
