"""What is removed is what nothing needs any more, of every kind, and nothing else."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runner import gc, models, runs, source
from runner.datasets import Dataset, fetch, registered, resolve
from runner.environment import prepare_venv
from runner.environment.horovod import Horovod
from runner.gc import Found
from runner.lock import held
from runner.manifest import FileEntry, Manifest
from runner.runs import State
from runner.store import Store
from tests.flow import made

DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
ENDED = "20200101-000000-aaaa"
RUNNING = "20200101-000000-bbbb"
UNKNOWN = "20200101-000000-cccc"


def clean(store: Store, home: Path, *, yes: bool = True) -> dict[str, list[str]]:
    """What was removed (or would be), by kind; images are Docker's and have tests of their own."""
    now_s = time.time()
    gone: dict[str, list[str]] = {}
    for shelf in gc.shelves(store, home, older_than_s=MONTH_S, now_s=now_s):
        if shelf.kind != "image":
            chosen = gc.removable(shelf.look().found, now_s=now_s)
            taken = [r.found for r in shelf.remove(chosen) if not r.kept] if yes else chosen
            gone[shelf.kind] = sorted(found.name for found in taken)
    return {kind: names for kind, names in gone.items() if names}


def folder(path: Path, *, files: Iterable[str] = ("file",), age_s: float) -> Path:
    """A folder with files, all of them last written so long ago."""
    path.mkdir(parents=True)
    for name in files:
        (path / name).write_text("content")
    for each in (*path.iterdir(), path):
        aged(each, age_s)
    return path


def aged(path: Path, age_s: float) -> None:
    os.utime(path, (time.time() - age_s,) * 2)


def venv(home: Path, letter: str, *, age_s: float, complete: bool = True) -> Path:
    return folder(
        home / "envs" / (letter * 32), files=["pushtrain-complete"] if complete else ["bin"], age_s=age_s
    )


def blob(store: Store, tmp_path: Path, text: str, *, age_s: float) -> str:
    file = tmp_path / "content"
    file.write_text(text)
    digest = store.put_blob(file).digest
    name = digest.removeprefix("sha256:")
    aged(Path(store.uri.removeprefix("file://"), "blobs", "sha256", name[:2], name), age_s)
    return digest


def has(store: Store, *digests: str) -> list[bool]:
    return [store.has_blob(digest) for digest in digests]


def found(*, used_at_s: float, rests_s: float, needed: bool = False) -> Found:
    return Found(kind="blob", name="x", size_bytes=1, used_at_s=used_at_s, rests_s=rests_s, needed=needed)


def test_what_rested_long_enough_and_is_not_needed_is_removable() -> None:
    due, young = found(used_at_s=0, rests_s=10), found(used_at_s=1, rests_s=10)
    assert gc.removable([due, young, found(used_at_s=0, rests_s=0, needed=True)], now_s=10) == (due,)


def test_looking_changes_nothing(store: Store, home: Path, tmp_path: Path) -> None:
    old = venv(home, "a", age_s=2 * MONTH_S)
    digest = blob(store, tmp_path, "1", age_s=2 * DAY_S)
    assert clean(store, home, yes=False) == {"environment": [old.name], "blob": [digest]}
    assert old.exists()
    assert has(store, digest) == [True]


def test_a_home_and_a_store_that_are_empty_have_nothing_to_remove(store: Store, home: Path) -> None:
    assert clean(store, home) == {}
    assert list(home.iterdir()) == []


# Wheels of Horovod


def wheel(home: Path, letter: str, *, age_s: float) -> Path:
    return folder(home / "wheels" / (letter * 32), files=["horovod-0.28.1.whl"], age_s=age_s)


def test_a_wheel_is_removed_once_it_was_not_used_for_long(store: Store, home: Path) -> None:
    old, young = wheel(home, "a", age_s=MONTH_S + 60), wheel(home, "b", age_s=MONTH_S - 60)
    assert clean(store, home) == {"wheel": [old.name]}
    assert (old.exists(), young.exists()) == (False, True)


def test_the_wheel_of_a_run_that_has_not_ended_is_kept_however_old(store: Store, home: Path) -> None:
    mine = wheel(home, "a", age_s=2 * MONTH_S)
    horovod = Horovod(version="0.28.1", tensorflow="tensorflow-cpu==2.15.1", wheel=mine.name)
    plan = made.plan(recipe=replace(made.ENVIRONMENT, horovod=horovod))
    made.run(store, RUNNING, State.PREPARING, made=plan)
    assert clean(store, home) == {}
    runs.move(store, RUNNING, State.FAILED, at_s=3.0)
    assert clean(store, home) == {"wheel": [mine.name]}


def test_what_a_killed_build_of_a_wheel_left_goes_after_an_hour(store: Store, home: Path) -> None:
    left = folder(home / "wheels" / f".{'a' * 32}.q1w2e3", age_s=2 * 3600)
    building = folder(home / "wheels" / f".{'b' * 32}.q1w2e3", age_s=2 * 3600)
    folder(home / "wheels" / f".{'c' * 32}.q1w2e3", age_s=60)
    with held(home / "wheels" / f"{'b' * 32}.lock"):
        assert clean(store, home) == {"wheel": [left.name]}
    assert building.exists()


# Environments


def test_a_venv_is_removed_once_it_was_not_used_for_long(store: Store, home: Path) -> None:
    old, young = venv(home, "a", age_s=MONTH_S + 60), venv(home, "b", age_s=MONTH_S - 60)
    assert clean(store, home) == {"environment": [old.name]}
    assert (old.exists(), young.exists()) == (False, True)


def test_the_venv_of_a_run_that_has_not_ended_is_kept_however_old(store: Store, home: Path) -> None:
    mine = venv(home, "a", age_s=2 * MONTH_S)
    plan = made.plan(recipe=replace(made.ENVIRONMENT, key=mine.name))
    made.run(store, RUNNING, State.PREPARING, State.RUNNING, made=plan)
    assert clean(store, home) == {}
    runs.move(store, RUNNING, State.FAILED, at_s=3.0)
    assert clean(store, home) == {"environment": [mine.name]}


def test_a_venv_that_was_left_half_made_goes_after_an_hour(store: Store, home: Path) -> None:
    old = venv(home, "a", age_s=2 * 3600, complete=False)
    venv(home, "b", age_s=60, complete=False)
    assert clean(store, home) == {"environment": [old.name]}


def test_a_venv_that_is_being_made_is_kept(store: Store, home: Path) -> None:
    making = venv(home, "a", age_s=2 * 3600, complete=False)
    with held(home / "envs" / f"{making.name}.lock"):
        assert clean(store, home) == {}


def test_a_venv_that_is_used_between_looking_and_removing_is_kept(store: Store, home: Path) -> None:
    used = venv(home, "a", age_s=2 * MONTH_S)
    now_s = time.time()
    shelf = gc.shelves(store, home, older_than_s=MONTH_S, now_s=now_s)[0]
    chosen = gc.removable(shelf.look().found, now_s=now_s)
    os.utime(used / "pushtrain-complete")
    assert [removed.kept for removed in shelf.remove(chosen)] == ["somebody uses it again"]
    assert used.exists()


def test_using_a_venv_makes_it_young_again(home: Path) -> None:
    path = prepare_venv(made.ENVIRONMENT, root=home / "envs", log=lambda _: None).path
    aged(path / "pushtrain-complete", 2 * MONTH_S)
    prepare_venv(made.ENVIRONMENT, root=home / "envs", log=lambda _: None)
    assert time.time() - (path / "pushtrain-complete").stat().st_mtime < DAY_S


def test_folders_of_somebody_else_are_left_alone(store: Store, home: Path) -> None:
    folder(home / "envs" / "my-own", age_s=2 * MONTH_S)
    folder(home / "cache" / "datasets" / "notes", age_s=2 * MONTH_S)
    folder(home / "scratch" / "notes", age_s=2 * MONTH_S)
    folder(home / "cache" / "sources" / "notes", age_s=2 * MONTH_S)
    assert clean(store, home) == {}


def test_what_a_killed_clean_up_left_is_removed_by_the_next_one(store: Store, home: Path) -> None:
    left = folder(home / "envs" / f".removed-0123={'a' * 32}", age_s=0)
    scratch = folder(home / "scratch" / f".removed-0123={RUNNING}", age_s=0)
    made.run(store, RUNNING, State.PREPARING)
    assert clean(store, home) == {"environment": [left.name], "scratch": [scratch.name]}
    assert not left.exists()
    assert not scratch.exists()


# Sources and data sets


def test_a_source_that_was_not_used_for_long_is_removed_with_its_listing(store: Store, home: Path) -> None:
    old = folder(home / "cache" / "sources" / ("a" * 40), age_s=2 * MONTH_S)
    listing = old.with_name(f"{old.name}.json")
    listing.write_text("{}")
    folder(home / "cache" / "sources" / ("b" * 40), age_s=60)
    assert clean(store, home) == {"source": [old.name]}
    assert not listing.exists()


def test_the_source_of_a_run_that_has_not_ended_is_kept(store: Store, home: Path) -> None:
    tree = folder(home / "cache" / "sources" / ("a" * 40), age_s=2 * MONTH_S)
    made.run(store, RUNNING, State.PREPARING, made=made.plan(of=made.source(tree=tree.name)))
    assert clean(store, home) == {}


def brought(store: Store, home: Path, tmp_path: Path, *, age_s: float) -> tuple[Dataset, Path]:
    (tmp_path / "mnist").write_text("digits")
    registered.register(store, "mnist", tmp_path / "mnist")
    dataset = resolve(
        "mnist", "mnist@v1", "download", None, folder=tmp_path, store=store, cache=home / "cache"
    )
    path = fetch(dataset, store=store, cache=home / "cache", progress=lambda _: None).parent
    aged(path, age_s)
    return dataset, path


def test_a_data_set_that_was_not_used_for_long_is_removed_and_can_be_fetched_again(
    store: Store, home: Path, tmp_path: Path
) -> None:
    dataset, path = brought(store, home, tmp_path, age_s=2 * MONTH_S)
    assert clean(store, home) == {"data set": [path.name]}
    assert fetch(dataset, store=store, cache=home / "cache", progress=lambda _: None).read_text() == "digits"


def test_using_a_data_set_makes_it_young_again(store: Store, home: Path, tmp_path: Path) -> None:
    dataset, path = brought(store, home, tmp_path, age_s=2 * MONTH_S)
    fetch(dataset, store=store, cache=home / "cache", progress=lambda _: None)
    assert clean(store, home) == {}
    assert path.exists()


def test_the_data_of_a_run_that_has_not_ended_is_kept(store: Store, home: Path, tmp_path: Path) -> None:
    dataset, path = brought(store, home, tmp_path, age_s=2 * MONTH_S)
    made.run(store, RUNNING, State.PREPARING, made=made.plan(made.TRAIN, datasets=(dataset,)))
    assert clean(store, home) == {}
    assert path.exists()


def test_data_that_is_half_here_is_kept_as_long_as_the_rest(store: Store, home: Path) -> None:
    old = folder(home / "cache" / "datasets" / f".sha256-{'a' * 64}.part", age_s=2 * MONTH_S)
    folder(home / "cache" / "datasets" / f".sha256-{'b' * 64}.part", age_s=DAY_S)
    assert clean(store, home) == {"data set": [old.name]}


# What images answered


def test_what_an_image_answered_long_ago_is_forgotten(store: Store, home: Path) -> None:
    probes = folder(home / "cache" / "probes", files=["a.json", "b.json", "c.json.17"], age_s=2 * MONTH_S)
    aged(probes / "b.json", DAY_S)
    assert clean(store, home) == {"image probe": ["a.json", "c.json.17"]}
    assert [path.name for path in probes.iterdir()] == ["b.json"]


# Scratch folders


def test_the_scratch_folder_of_a_run_that_ended_is_removed_at_once(store: Store, home: Path) -> None:
    made.run(store, ENDED, State.PREPARING, State.FAILED)
    scratch = folder(home / "scratch" / ENDED, age_s=0)
    assert clean(store, home) == {"scratch": [ENDED]}
    assert not scratch.exists()


def test_the_scratch_folder_of_a_run_that_has_not_ended_is_never_removed(store: Store, home: Path) -> None:
    """It may hold outputs that were not stored yet, for `pushtrain resume`."""
    made.run(store, RUNNING, State.PREPARING, State.RUNNING)
    folder(home / "scratch" / RUNNING, age_s=2 * MONTH_S)
    assert clean(store, home) == {}


def test_a_scratch_folder_whose_supervisor_lives_is_kept(store: Store, home: Path) -> None:
    made.run(store, ENDED, State.PREPARING, State.FAILED)
    folder(home / "scratch" / ENDED, age_s=0)
    with held(home / "scratch" / ENDED / "supervisor.lock"):
        assert clean(store, home) == {}


def test_the_scratch_folder_of_a_run_in_no_store_that_we_know_rests_long(store: Store, home: Path) -> None:
    """The run may be in another store, or about to begin."""
    scratch = folder(home / "scratch" / UNKNOWN, age_s=DAY_S)
    assert clean(store, home) == {}
    for each in (*scratch.iterdir(), scratch):
        aged(each, 2 * MONTH_S)
    assert clean(store, home) == {"scratch": [UNKNOWN]}


def test_what_a_training_made_read_only_is_removed_too(store: Store, home: Path) -> None:
    made.run(store, ENDED, State.PREPARING, State.FAILED)
    inside = folder(home / "scratch" / ENDED / "node-0" / "work", age_s=0)
    inside.chmod(0o500)
    assert clean(store, home) == {"scratch": [ENDED]}


# Blobs


def test_a_blob_that_nothing_refers_to_is_removed_after_a_day(
    store: Store, home: Path, tmp_path: Path
) -> None:
    old = blob(store, tmp_path, "old", age_s=DAY_S + 60)
    young = blob(store, tmp_path, "young", age_s=DAY_S - 60)
    assert clean(store, home) == {"blob": [old]}
    assert has(store, old, young) == [False, True]


def test_a_blob_that_anything_refers_to_is_never_removed(store: Store, home: Path, tmp_path: Path) -> None:
    outputs, live, archive, model, data = (
        blob(store, tmp_path, text, age_s=2 * MONTH_S) for text in ("1", "2", "3", "4", "5")
    )
    entries = [FileEntry(path="outputs/x", size_bytes=1, digest=digest) for digest in (outputs, live)]
    store.write(runs.key(ENDED, "outputs.json"), Manifest(files=(entries[0],)).to_json())
    store.write(runs.key(RUNNING, "live/node-1.json"), Manifest(files=(entries[1],)).to_json())
    store.write(f"sources/{'a' * 40}.json", json.dumps({"archive": archive}).encode())
    register_model(store, model)
    (tmp_path / "content").write_text("5")
    registered.register(store, "mnist", tmp_path / "content")
    blob(store, tmp_path, "5", age_s=2 * MONTH_S)
    assert clean(store, home) == {}
    assert has(store, outputs, live, archive, model, data) == [True] * 5


def register_model(store: Store, digest: str) -> None:
    lineage = models.Lineage(
        commit=None,
        branch=None,
        dirty=False,
        tree="a" * 40,
        plan_hash="h",
        run_id=ENDED,
        environment=models.EnvironmentUsed(kind="venv", key="k", digest=None),
        data=(),
        inputs={},
        metrics={},
        started_by="local",
    )
    draft = models.Draft(
        name="digits",
        bump="minor",
        framework="sklearn",
        framework_version=None,
        resources=models.Resources(cpu=None, memory_bytes=None),
        files=(models.ModelFile(path="weights", size_bytes=1, digest=digest),),
        lineage=lineage,
        created_at_s=0.0,
    )
    models.register(store, draft)


def test_a_blob_that_is_referred_to_between_looking_and_removing_is_kept(
    store: Store, home: Path, tmp_path: Path
) -> None:
    digest = blob(store, tmp_path, "1", age_s=2 * DAY_S)
    now_s = time.time()
    shelf = gc.shelves(store, home, older_than_s=MONTH_S, now_s=now_s)[-1]
    chosen = gc.removable(shelf.look().found, now_s=now_s)
    entry = FileEntry(path="outputs/x", size_bytes=1, digest=digest)
    store.write(runs.key(ENDED, "outputs.json"), Manifest(files=(entry,)).to_json())
    assert [removed.kept for removed in shelf.remove(chosen)] == ["something refers to it now"]
    assert has(store, digest) == [True]


def test_a_blob_that_is_put_again_between_looking_and_removing_is_kept(
    store: Store, home: Path, tmp_path: Path
) -> None:
    digest = blob(store, tmp_path, "1", age_s=2 * DAY_S)
    now_s = time.time()
    shelf = gc.shelves(store, home, older_than_s=MONTH_S, now_s=now_s)[-1]
    chosen = gc.removable(shelf.look().found, now_s=now_s)
    store.put_blob(tmp_path / "content")
    assert [bool(removed.kept) for removed in shelf.remove(chosen)] == [True]
    assert has(store, digest) == [True]


def test_no_blob_is_removed_while_a_run_collects(store: Store, home: Path, tmp_path: Path) -> None:
    """Only the run itself knows of the blobs that it makes just now."""
    digest = blob(store, tmp_path, "1", age_s=2 * DAY_S)
    made.run(store, RUNNING, State.RUNNING, State.COLLECTING)
    assert clean(store, home) == {}
    note = gc.shelves(store, home, older_than_s=0, now_s=time.time())[-1].look().note
    assert RUNNING in note
    runs.move(store, RUNNING, State.SUCCEEDED, at_s=9.0)
    assert clean(store, home) == {"blob": [digest]}


@pytest.mark.parametrize(
    "key", [f"runs/{ENDED}/outputs.json", f"runs/{ENDED}/live/node-0.json", f"sources/{'a' * 40}.json"]
)
def test_no_blob_is_removed_when_what_may_refer_to_it_cannot_be_read(
    store: Store, home: Path, tmp_path: Path, key: str
) -> None:
    blob(store, tmp_path, "1", age_s=2 * DAY_S)
    store.write(key, b"{")
    assert clean(store, home) == {}
    note = gc.shelves(store, home, older_than_s=0, now_s=time.time())[-1].look().note
    assert "what it refers to is not known" in note


# Several at once


def test_two_clean_ups_at_once_remove_everything_and_break_nothing(
    store: Store, home: Path, tmp_path: Path
) -> None:
    for letter in "abcdef":
        venv(home, letter, age_s=2 * MONTH_S)
        folder(home / "cache" / "sources" / (letter * 40), age_s=2 * MONTH_S)
        folder(home / "cache" / "datasets" / f"sha256-{letter * 64}", age_s=2 * MONTH_S)
        run_id = f"20200101-000000-{letter * 4}"
        made.run(store, run_id, State.PREPARING, State.FAILED)
        folder(home / "scratch" / run_id, files=map(str, range(40)), age_s=0)
        blob(store, tmp_path, letter, age_s=2 * DAY_S)
    kept = venv(home, "0", age_s=DAY_S)
    with ThreadPoolExecutor(4) as pool:
        each = list(pool.map(lambda _: clean(store, home), range(4)))
    assert {kind for gone in each for kind in gone} == {
        "environment",
        "source",
        "data set",
        "scratch",
        "blob",
    }
    assert [path for path in (home / "envs").iterdir() if path.is_dir()] == [kept]
    assert list(store.blobs()) == []
    assert clean(store, home) == {}


def test_a_source_can_be_unpacked_again_after_it_was_removed(store: Store, home: Path) -> None:
    assert source.cached(home / "cache") == []
    assert source.evict(home / "cache", ["a" * 40]) == frozenset()
