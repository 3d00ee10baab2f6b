"""What a host keeps stays below a quota: what was used longest ago goes first, and nothing that a run uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import runs
from runner.agent import caches, evicting
from runner.errors import StoreError, UsageError
from runner.gc.shelf import Found
from runner.runs import State
from runner.store import Store, open_store
from tests.flow import made

GIB = 2**30
DAY_S = 86_400.0
RUN = "20200101-000000-aaaa"
MIB = 2**20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Without Docker: what is asked of it is in test_cached_images.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def process() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for each in started:
        each.kill()
        each.communicate()


def venv(home: Path, letter: str, *, age_s: float) -> Path:
    return _aged(home / "envs" / (letter * 32), "pushtrain-complete", age_s)


def dataset(home: Path, letter: str, *, age_s: float) -> Path:
    return _aged(home / "cache" / "datasets" / f"sha256-{letter * 64}", "images.npz", age_s)


def tree(home: Path, letter: str, *, age_s: float) -> Path:
    return _aged(home / "cache" / "sources" / (letter * 40), "train.py", age_s)


def _aged(folder: Path, name: str, age_s: float) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(bytes(MIB))
    for each in (folder / name, folder):
        os.utime(each, (time.time() - age_s,) * 2)
    return folder


def found(name: str, *, used_at_s: float, needed: bool = False, rests_s: float = 0.0) -> Found:
    return Found(kind="x", name=name, size_bytes=10, used_at_s=used_at_s, rests_s=rests_s, needed=needed)


@pytest.mark.parametrize(("text", "size"), [("200GiB", 200 * GIB), ("50%", 500), ("0%", 0), ("12.5%", 125)])
def test_a_quota_is_a_size_or_a_share_of_the_disk(text: str, size: int) -> None:
    assert caches.quota_bytes(text, 1000) == size


@pytest.mark.parametrize("text", ["much", "200%", "-1%", "x%"])
def test_a_quota_that_is_neither_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--cache-quota") as refused:
        caches.quota_bytes(text, 1000)
    assert "200GiB" in refused.value.tip


@pytest.mark.parametrize(
    ("total", "free", "over"),
    [(100, 1000, 0), (101, 1000, 11), (10, 49, 51), (200, 49, 110), (10, 50, 0)],
)
def test_what_exceeds_the_quota_or_lacks_on_the_disk_has_to_go(total: int, free: int, over: int) -> None:
    assert caches.exceeding(total, limit_bytes=100, free_bytes=free, spare_bytes=50) == over


def test_those_used_longest_ago_go_first_and_no_more_than_are_needed() -> None:
    each = [found("new", used_at_s=30), found("old", used_at_s=10), found("middle", used_at_s=20)]
    assert [one.name for one in caches.choose(each, over_bytes=11, now_s=100)] == ["old", "middle"]
    assert caches.choose(each, over_bytes=0, now_s=100) == ()


def test_what_is_needed_or_was_used_right_now_is_never_chosen() -> None:
    each = [found("needed", used_at_s=0, needed=True), found("rests", used_at_s=90, rests_s=60)]
    assert caches.choose(each, over_bytes=1000, now_s=100) == ()


def test_below_the_quota_nothing_goes(store: Store, home: Path) -> None:
    kept = venv(home, "a", age_s=DAY_S)
    result = caches.keep(home, store, quota="3MiB")
    assert (result.evicted, result.before_bytes, result.after_bytes) == ((), MIB, MIB)
    assert kept.exists()


def test_above_the_quota_the_oldest_of_any_kind_goes(store: Store, home: Path) -> None:
    old, young = dataset(home, "a", age_s=3 * DAY_S), venv(home, "b", age_s=DAY_S)
    middle = tree(home, "c", age_s=2 * DAY_S)
    result = caches.keep(home, store, quota="2MiB")
    assert set(result.evicted) == {f"data set {old.name}", f"source {middle.name}"}
    assert not old.exists()
    assert not middle.exists()
    assert young.exists()
    assert result.after_bytes == MIB


def test_what_a_run_that_goes_on_needs_stays(store: Store, home: Path) -> None:
    mine, other = venv(home, "e", age_s=9 * DAY_S), venv(home, "b", age_s=DAY_S)
    data = dataset(home, "d", age_s=9 * DAY_S)
    made.run(store, RUN, State.PREPARING, made=made.plan(datasets=(made.DATA,)))
    assert caches.keep(home, store, quota="1MiB").evicted == (f"environment {other.name}",)
    assert mine.exists()
    assert data.exists()


def test_what_a_process_of_this_host_uses_stays_whatever_the_store_says(
    store: Store, home: Path, process: list[subprocess.Popen[bytes]]
) -> None:
    data, env = dataset(home, "a", age_s=9 * DAY_S), venv(home, "b", age_s=9 * DAY_S)
    wait = "import sys; print('up', flush=True); sys.stdin.read()"
    (env / "python").symlink_to(sys.executable)
    for argv, cwd in (([sys.executable], data), ([str(env / "python"), "-S"], home)):
        one = subprocess.Popen([*argv, "-c", wait], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.append(one)
        assert one.stdout is not None
        one.stdout.readline()
    assert caches.in_use(home) >= {data.name, env.name}
    assert caches.keep(home, store, quota="0%").evicted == ()


def test_what_a_run_left_here_that_ended_elsewhere_goes_once_the_store_has_all_of_it(
    store: Store, home: Path
) -> None:
    """A run that was preempted leaves its folder on hosts that it never sees again."""
    sealed, unsealed, goes_on, unknown, untrained = (f"20200101-00000{number}-aaaa" for number in range(5))
    for each, end in ((sealed, State.FAILED), (unsealed, State.FAILED), (goes_on, State.COLLECTING)):
        made.run(store, each, State.RUNNING)
        runs.move(store, each, end, at_s=2.0, attempts=(runs.Attempt(number=1, started_at_s=1.0),))
    made.run(store, untrained, State.PREPARING, State.CANCELLED)
    for each in (sealed, goes_on):
        store.write(runs.key(each, "outputs.json"), b"{}")
    for each in (sealed, unsealed, goes_on, unknown, untrained):
        (home / "scratch" / each / "node-0" / "work").mkdir(parents=True)
    assert set(caches.tidy(home, store)) == {sealed, untrained}
    assert sorted(path.name for path in (home / "scratch").iterdir()) == [unsealed, goes_on, unknown]
    assert caches.tidy(home, store) == ()


def test_where_the_store_cannot_be_read_nothing_goes(store: Store, home: Path) -> None:
    kept = venv(home, "a", age_s=DAY_S)
    made.run(store, RUN, State.PREPARING, made=made.plan())
    store.write(f"runs/{RUN}/plan.json", b"no plan")
    with pytest.raises(StoreError):
        caches.keep(home, store, quota="0%")
    assert kept.exists()


def test_as_a_program_it_prints_what_it_did_and_tells_the_metrics(
    store: Store, home: Path, tmp_path: Path
) -> None:
    old = venv(home, "a", age_s=DAY_S)
    run = tmp_path / "run"
    run.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "runner.agent.caches",
            "--store",
            store.uri,
            "--home",
            str(home),
            "--quota",
            "0%",
        ],
        env={**os.environ, "PUSHTRAIN_RUN": str(run)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout)["evicted"] == [f"environment {old.name}"]
    assert (run / "cache-bytes").read_text() == "0\n"


def program(home: Path, run: Path, *further: str, environ: dict[str, str] | None = None) -> dict[str, object]:
    """What the program printed."""
    run.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "runner.agent.caches", "--home", str(home), "--quota", "0%", *further]
    given = {**os.environ, "PUSHTRAIN_RUN": str(run), **(environ or {})}
    done = subprocess.run(argv, env=given, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def test_a_host_without_credentials_for_the_store_evicts_what_it_did_not_use_for_a_day(
    home: Path, tmp_path: Path
) -> None:
    """Credentials of runs travel with them; the agent of a member has none."""
    old, young = venv(home, "a", age_s=DAY_S + 60), venv(home, "b", age_s=DAY_S - 3600)
    bare = {name: "" for name in os.environ if name.startswith("AWS_")}
    bare |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    told = program(home, tmp_path / "run", "--store", "s3://bucket/fleet", environ=bare)
    assert told["evicted"] == [f"environment {old.name}"]
    assert young.exists()
    assert (tmp_path / "run" / "cache-bytes").read_text() == f"{MIB}\n"


@pytest.mark.parametrize("broken", ["run.json", "plan.json"])
def test_a_run_that_cannot_be_read_does_not_keep_everything_on_all_hosts(
    store: Store, home: Path, tmp_path: Path, broken: str
) -> None:
    """What the others need stays, as what was used within a day."""
    old, young = venv(home, "a", age_s=2 * DAY_S), venv(home, "b", age_s=DAY_S - 3600)
    needed = venv(home, "e", age_s=9 * DAY_S)
    for each in (RUN, "20200101-000000-bbbb"):
        made.run(store, each, State.PREPARING, made=made.plan())
    store.write(f"runs/20200101-000000-bbbb/{broken}", b"not JSON")
    told = program(home, tmp_path / "run", "--store", store.uri)
    assert told["evicted"] == [f"environment {old.name}"]
    assert young.exists()
    assert needed.exists()


def test_a_disk_of_dockers_own_that_is_full_has_images_evicted_and_nothing_else() -> None:
    """Home has room; what is there does not help Docker."""
    own = caches.Disk(total_bytes=1000 * GIB, free_bytes=500 * GIB)
    docker = caches.Disk(total_bytes=1000 * GIB, free_bytes=GIB, kinds=frozenset({"image"}))
    data = Found(kind="data set", name="d", size_bytes=GIB, used_at_s=0, rests_s=0, needed=False)
    images = [
        Found(kind="image", name=f"i{number}", size_bytes=5 * GIB, used_at_s=number, rests_s=0, needed=False)
        for number in range(1, 5)
    ]
    room = caches.Room(over_bytes=0, disks=(own, docker))
    chosen = caches.choose_on_disks([data, *images], room, now_s=100)
    assert [each.name for each in chosen] == ["i1", "i2"]
    room = caches.Room(over_bytes=11 * GIB, disks=(own, docker))
    assert [each.name for each in caches.choose_on_disks([data, *images], room, now_s=100)] == [
        "i1",
        "i2",
        "d",
    ]


def test_a_store_that_hangs_is_given_up_and_the_caches_are_looked_through_without_it(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$@" >>"$0.asked"\n[ $# = 0 ] || exec sleep 60\n')
    program.chmod(0o755)
    one = evicting.Evicting(store="/hangs", argv=(str(program),), within_s=10.0)
    assert one.once()
    assert (tmp_path / "program.asked").read_text().splitlines() == ["--store /hangs", ""]
