"""Images of environments are removed by their tags, through Docker's own command line."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from runner import gc, runs
from runner.environment import LABEL
from runner.gc import Looked, Removed
from runner.gc.images import Images
from runner.gc.needs import read
from runner.runs import State
from runner.store import Store
from tests.flow import made

KEY = "e" * 32
TAG = f"pushtrain/env:{KEY}"
RUN = "20200101-000000-aaaa"
DAY_S = 86_400.0
MONTH_S = 30 * DAY_S

# The images are files named by their ids; what cannot be removed has `held` in it.
DOCKER = f"""\
#!{sys.executable}
import json, pathlib, sys
images = {{f.name: json.loads(f.read_text()) for f in pathlib.Path(__file__).with_name("images").iterdir()}}
match sys.argv[1:]:
    case ["image", "ls", *_]:
        assert sys.argv[-1] == "label={LABEL}", sys.argv
        print("\\n".join(images))
    case ["image", "inspect", name]:
        print(json.dumps([images[name]]))
    case ["image", "rm", tag]:
        image = next((i for i in images.values() if tag in (i["RepoTags"] or ())), None)
        if image is None:
            sys.exit(f"Error response from daemon: No such image: {{tag}}")
        if image.get("held"):
            sys.exit("Error response from daemon: conflict: unable to remove, container 1 is using it")
        with open(pathlib.Path(__file__).with_name("removed"), "a") as log:
            print(tag, file=log)
"""

Docker = Callable[[Mapping[str, object]], Path]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Puts a `docker` on PATH that has these images, by id; returns its folder."""

    def put(images: Mapping[str, object]) -> Path:
        folder = tmp_path / "docker"
        (folder / "images").mkdir(parents=True)
        for name, image in images.items():
            (folder / "images" / name).write_text(json.dumps(image))
        (folder / "docker").write_text(DOCKER)
        (folder / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return folder

    return put


def image(
    *tags: str,
    key: str = KEY,
    age_s: float = 2 * MONTH_S,
    tagged_age_s: float | None = None,
    held: bool = False,
) -> dict[str, object]:
    """As `docker image inspect` has it, with the nanoseconds that Docker writes."""
    when = (time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() - s)) for s in (age_s,))
    last_tag = "0001-01-01T00:00:00Z"
    if tagged_age_s is not None:
        last_tag = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - tagged_age_s))
    return {
        "RepoTags": list(tags) or None,
        "Size": 1000,
        "Created": next(when),
        "Metadata": {"LastTagTime": last_tag},
        "Config": {"Labels": {LABEL: key}},
        "held": held,
    }


def look(store: Store) -> Looked:
    return Images(read(store), older_than_s=MONTH_S).look()


def chosen(store: Store) -> list[str]:
    return [found.name for found in gc.removable(look(store).found, now_s=time.time())]


def remove(store: Store) -> list[Removed]:
    images = Images(read(store), older_than_s=MONTH_S)
    return list(images.remove(gc.removable(images.look().found, now_s=time.time())))


def test_an_image_that_no_run_used_lately_is_removed_by_its_tags(store: Store, docker: Docker) -> None:
    shared = f"registry.example.org/team/pushtrain-env:{KEY}"
    folder = docker({"1": image(TAG, shared)})
    removed = remove(store)
    assert [(each.found.name, each.found.size_bytes, each.kept) for each in removed] == [
        (TAG, 1000, ""),
        (shared, 0, ""),
    ]
    assert (folder / "removed").read_text().split() == [TAG, shared]


@pytest.mark.parametrize("young", [image(TAG, age_s=DAY_S), image(TAG, tagged_age_s=DAY_S)])
def test_an_image_that_is_young_is_kept(store: Store, docker: Docker, young: dict[str, object]) -> None:
    docker({"1": young})
    assert chosen(store) == []


def test_an_image_that_a_run_used_lately_is_kept(store: Store, docker: Docker) -> None:
    docker({"1": image(TAG)})
    made.run(store, RUN, State.PREPARING, State.FAILED, at_s=time.time() - DAY_S)
    assert chosen(store) == [TAG]
    runs.update(store, RUN, lambda run: structs.replace(run, environment=TAG))
    assert chosen(store) == []


def test_the_image_of_a_run_that_has_not_ended_is_kept(store: Store, docker: Docker) -> None:
    docker({"1": image(TAG)})
    plan = made.plan(recipe=replace(made.ENVIRONMENT, kind="image", key=KEY))
    made.run(store, RUN, State.PREPARING, made=plan)
    assert chosen(store) == []


def test_an_image_made_from_one_of_ours_is_not_ours(store: Store, docker: Docker) -> None:
    """It inherits the label."""
    docker({"1": image("mine:latest"), "2": image(f"pushtrain/env:{'f' * 32}"), "3": image()})
    assert chosen(store) == []


def test_an_image_that_a_container_uses_is_kept_and_docker_says_why(store: Store, docker: Docker) -> None:
    docker({"1": image(TAG, held=True)})
    [removed] = remove(store)
    assert "container 1 is using it" in removed.kept


def test_an_image_that_somebody_else_removed_is_no_fault(store: Store, docker: Docker) -> None:
    folder = docker({"1": image(TAG)})
    images = Images(read(store), older_than_s=MONTH_S)
    found = gc.removable(images.look().found, now_s=time.time())
    (folder / "images" / "1").unlink()
    assert [each.kept for each in images.remove(found)] == ["somebody else removed it"]


def test_images_are_passed_over_where_there_is_no_docker(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look(store) == Looked(note="Docker is not installed")


def test_images_are_passed_over_where_docker_does_not_answer(
    store: Store, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = docker({})
    (folder / "docker").write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import sys
        sys.exit("Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
        """)
    )
    assert look(store) == Looked(note="Docker does not answer")
