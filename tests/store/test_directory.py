"""What only a directory has: processes of one machine, disks that fill up, files that die half-written."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import Corrupt, NotFound, StoreError
from runner.store import Store, open_store
from runner.store.transfer import hash_file

RACER = """
import sys
from runner.errors import Conflict
from runner.store import open_store
store, wins = open_store(sys.argv[1]), 0
while wins < 25:
    seen = store.read_versioned("count")
    try:
        store.replace("count", str(int(seen.data) + 1).encode(), version=seen.version)
        wins += 1
    except Conflict:
        pass
"""

FULL_DISK = """
import resource, sys
from pathlib import Path
from runner.errors import StoreError
from runner.store import open_store
store = open_store(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tries = (
    lambda: store.write("k", b"x" * 200_000),
    lambda: store.append("log", b"x" * 200_000, offset=3),
    lambda: store.put_file("k", Path(sys.argv[2])),
    lambda: store.put_blob(Path(sys.argv[2])),
    lambda: store.get_blob(sys.argv[3], Path(sys.argv[1], "..", "copy")),
)
for number, attempt in enumerate(tries):
    try:
        attempt()
        sys.exit(f"{number} succeeded")
    except StoreError as error:
        assert "the disk is full" in str(error) and error.tip, error
"""


def test_a_file_uri_and_a_path_name_the_same_store(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a b")
    store.write("k", b"1")
    assert store.uri == f"file://{tmp_path}/a%20b"
    assert open_store(store.uri).read("k") == b"1"


def test_a_store_that_does_not_exist_is_empty_and_reading_it_makes_nothing(tmp_path: Path) -> None:
    store, digest = open_store(tmp_path / "home" / "store"), f"sha256:{'0' * 64}"
    assert [*store.keys(""), *store.keys("runs/"), *store.children(""), *store.children("runs")] == []
    assert (store.tail("runs/log", offset=0), list(store.blobs()), store.sweep()) == (b"", [], 0)
    assert not store.has_blob(digest)
    absent = (
        lambda: store.read("k"),
        lambda: store.read_versioned("k"),
        lambda: store.read_blob(digest),
        lambda: store.get_file("k", tmp_path / "copy"),
        lambda: store.get_blob(digest, tmp_path / "copy"),
    )
    for call in absent:
        with pytest.raises(NotFound):
            call()
    store.delete_blob(digest)
    assert list(tmp_path.iterdir()) == []


WRITES: dict[str, Callable[[Store, Path], object]] = {
    "write": lambda store, _: store.write("k", b"1"),
    "create": lambda store, _: store.create("k", b"1"),
    "append": lambda store, _: store.append("k", b"1", offset=0),
    "put_file": lambda store, file: store.put_file("k", file),
    "put_blob": lambda store, file: store.put_blob(file),
    "delete": lambda store, _: store.delete("k"),
}


@pytest.mark.parametrize("write", WRITES)
def test_any_change_may_be_the_first_one(tmp_path: Path, write: str) -> None:
    (tmp_path / "file").write_bytes(b"1")
    WRITES[write](open_store(tmp_path / "home" / "store"), tmp_path / "file")
    assert list((tmp_path / "home" / "store" / ".tmp").glob("*")) == []


@pytest.mark.parametrize("path", ["~/a/store", Path("~/a/store")])
def test_a_path_may_start_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str | Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store(path).uri == f"file://{tmp_path}/a/store"


def test_the_home_of_nobody_is_refused_with_what_would_do() -> None:
    with pytest.raises(StoreError, match="~no-such-user/store") as caught:
        open_store("~no-such-user/store")
    assert "from /" in caught.value.tip


@pytest.mark.parametrize("uri", ["", "  "])
def test_a_blank_place_is_refused_with_what_would_do(uri: str) -> None:
    with pytest.raises(StoreError, match="names no store") as caught:
        open_store(uri)
    assert "PUSHTRAIN_STORE" in caught.value.tip


def test_an_unknown_scheme_is_refused_with_what_would_do() -> None:
    with pytest.raises(StoreError, match="no store speaks ftp") as caught:
        open_store("ftp://host/x")
    assert "s3://bucket/prefix" in caught.value.tip


def test_processes_that_count_together_lose_no_step(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("count", b"0")
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path)]) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert store.read("count") == b"75"


def test_a_full_disk_leaves_what_was_there_and_nothing_half_written(tmp_path: Path) -> None:
    root, large = tmp_path / "store", tmp_path / "large"
    large.write_bytes(os.urandom(300_000))
    store = open_store(root)
    store.write("k", b"old")
    store.append("log", b"abc", offset=0)
    digest = store.put_blob(large).digest
    other = tmp_path / "other"
    other.write_bytes(os.urandom(300_000))
    command = [sys.executable, "-c", FULL_DISK, str(root), str(other), digest]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (store.read("k"), store.read("log")) == (b"old", b"abc")
    assert [blob.digest for blob in store.blobs()] == [digest]
    assert list((root / ".tmp").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "other", "store"]


@pytest.fixture
def without_root() -> Iterator[None]:
    """Runs the test as an ordinary user where the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_an_unwritable_folder_is_named_with_a_way_out(tmp_path: Path, without_root: None) -> None:
    if os.geteuid() == os.getuid():
        tmp_path.chmod(0o500)
    store = open_store(tmp_path / "store")
    with pytest.raises(StoreError, match=str(tmp_path)) as caught:
        store.write("k", b"1")
    assert "PUSHTRAIN_HOME" in caught.value.tip


def test_a_store_cannot_be_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = open_store(tmp_path / "file")
    with pytest.raises(StoreError, match="opening the store"):
        store.write("k", b"1")
    assert list(store.children("")) == []


def test_blobs_are_read_only_files(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    (tmp_path / "a").write_bytes(b"content")
    digest = store.put_blob(tmp_path / "a").digest
    name = digest.removeprefix("sha256:")
    path = tmp_path / "store" / "blobs" / "sha256" / name[:2] / name
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_damaged_blob_is_never_handed_out(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    (tmp_path / "a").write_bytes(b"content")
    digest = store.put_blob(tmp_path / "a").digest
    (path,) = (tmp_path / "store" / "blobs").rglob("*/" + digest.removeprefix("sha256:"))
    path.chmod(0o644)
    path.write_bytes(b"c0ntent")
    with pytest.raises(Corrupt, match="is damaged"):
        store.get_blob(digest, tmp_path / "copy")
    with pytest.raises(Corrupt, match="is damaged"):
        store.read_blob(digest)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a", "store"]


def test_what_a_killed_process_left_is_not_seen_and_is_swept(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(30 * 2**20))
    script = (
        "import os, sys, pathlib; from runner.store import open_store;"
        "open_store(sys.argv[1]).put_blob(pathlib.Path(sys.argv[2]), progress=lambda _: os.kill(os.getpid(), 9))"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "store"), str(large)], check=False)
    assert ended.returncode == -signal.SIGKILL
    store = open_store(tmp_path / "store")
    assert (list(store.keys("")), list(store.blobs()), list(store.children(""))) == ([], [], [])
    (left,) = (tmp_path / "store" / ".tmp").iterdir()
    assert store.sweep() == 0
    os.utime(left, (0, 0))
    assert store.sweep() == 1
    assert not left.exists()


def test_putting_a_blob_again_keeps_it_from_a_clean_up(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    (tmp_path / "a").write_bytes(b"content")
    digest = store.put_blob(tmp_path / "a").digest
    (path,) = (tmp_path / "store" / "blobs").rglob("*/" + digest.removeprefix("sha256:"))
    os.utime(path, (0, 0))
    store.put_blob(tmp_path / "a", digest=hash_file(tmp_path / "a").digest)
    assert [blob.modified > 0 for blob in store.blobs()] == [True]


def test_a_stream_begins_though_the_last_key_beside_it_goes_at_that_moment(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with ThreadPoolExecutor(2) as pool:
        for number in range(300):
            gone = pool.submit(store.delete, f"live/{number}/deep/other")
            begun = pool.submit(store.append, f"live/{number}/deep/log", b"x", offset=0)
            gone.result()
            begun.result()


def test_a_file_is_put_though_the_last_key_beside_it_goes_at_that_moment(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "file").write_bytes(b"x")
    with ThreadPoolExecutor(2) as pool:
        for number in range(300):
            gone = pool.submit(store.delete, f"live/{number}/deep/other")
            put = pool.submit(store.put_file, f"live/{number}/deep/file", tmp_path / "file")
            gone.result()
            put.result()
