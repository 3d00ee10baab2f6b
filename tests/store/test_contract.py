"""What every Store does: one suite over a directory and over S3."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import Conflict, Corrupt, NotFound, StoreError
from runner.store import Blob, Store, open_store

LARGE = 20 * 2**20 + 17


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some content")
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


# keys


def test_what_was_written_is_read_by_another_store_at_the_same_place(uri: str) -> None:
    open_store(uri).write("runs/a/run.json", b"{}")
    assert open_store(uri).read("runs/a/run.json") == b"{}"


def test_writing_again_takes_the_place_of_what_was_there(store: Store) -> None:
    store.write("k", b"longer content")
    store.write("k", b"short")
    assert store.read("k") == b"short"


@pytest.mark.parametrize("key", ["runs/none", "runs"])
def test_a_missing_key_is_not_found(store: Store, key: str) -> None:
    store.write("runs/a", b"")
    with pytest.raises(NotFound):
        store.read(key)
    with pytest.raises(NotFound):
        store.read_versioned(key)


def test_creating_what_exists_is_a_conflict_and_leaves_it(store: Store) -> None:
    store.create("k", b"first")
    with pytest.raises(Conflict):
        store.create("k", b"second")
    assert store.read("k") == b"first"


def test_replacing_takes_the_version_of_every_kind_of_write(store: Store) -> None:
    version = store.create("k", b"1")
    version = store.replace("k", b"2", version=version)
    assert store.read_versioned("k").version == version
    version = store.replace("k", b"3", version=version)
    assert version == store.write("k", b"3")
    assert store.read("k") == b"3"


def test_replacing_an_old_version_is_a_conflict_and_leaves_the_new_one(store: Store) -> None:
    old = store.write("k", b"1")
    store.write("k", b"2")
    with pytest.raises(Conflict):
        store.replace("k", b"3", version=old)
    assert store.read("k") == b"2"


def test_replacing_what_was_deleted_is_a_conflict(store: Store) -> None:
    version = store.write("k", b"1")
    store.delete("k")
    with pytest.raises(Conflict):
        store.replace("k", b"2", version=version)
    assert list(store.keys("")) == []


def test_deleting_is_safe_to_repeat_and_leaves_no_folder(store: Store) -> None:
    store.write("runs/a/b/c", b"")
    store.write("runs/d", b"")
    store.delete("runs/a/b/c")
    store.delete("runs/a/b/c")
    store.delete("runs/d/e")
    assert list(store.children("runs")) == ["d"]


def test_of_many_who_create_a_key_at_once_one_wins(store: Store) -> None:
    def create(number: int) -> bool:
        try:
            store.create("k", str(number).encode())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert store.read("k") == str(won.index(True)).encode()


def test_keys_are_sorted_whole_and_start_with_the_prefix(store: Store, file: Path) -> None:
    for key in ("runs/a/x", "runs/a-b", "runs/a b", "runs/ü", "models/m"):
        store.write(key, b"")
    store.append("runs/a/log", b"line", offset=0)
    store.put_blob(file)
    assert list(store.keys("runs/")) == ["runs/a b", "runs/a-b", "runs/a/log", "runs/a/x", "runs/ü"]
    assert list(store.keys("runs/a/")) == ["runs/a/log", "runs/a/x"]
    assert list(store.keys("runs/a-")) == ["runs/a-b"]
    assert list(store.keys("")) == ["models/m", *store.keys("runs/")]
    assert list(store.keys("nothing/here")) == []


def test_children_are_the_names_directly_below_a_folder(store: Store, file: Path) -> None:
    store.write("runs/a/run.json", b"")
    store.write("runs/a/deep/er", b"")
    store.append("runs/b/log", b"x", offset=0)
    store.write("head", b"")
    store.put_blob(file)
    assert list(store.children("")) == ["head", "runs"]
    assert list(store.children("runs")) == ["a", "b"]
    assert list(store.children("runs/a")) == ["deep", "run.json"]
    assert list(store.children("none")) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "a/../b",
        "..",
        "a//b",
        "a/",
        "./a",
        "blobs/x",
        ".tmp/x",
        "a\nb",
        "\udcff",
        "x" * 256,
    ],
)
def test_a_malformed_key_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="cannot be kept"):
        store.write(key, b"")
    with pytest.raises(StoreError, match="cannot be kept"):
        store.tail(key, offset=0)


def test_names_that_people_give_files_are_keys(store: Store) -> None:
    keys = sorted(
        ["a b", "a+b", "a%20b", "a#b?c=d&e", ".hidden/file", "日本/ü", "x.segments/1", "<&>'\"", "a\\b"]
    )
    for key in keys:
        store.write(key, key.encode())
    assert list(store.keys("")) == keys
    assert [store.read(key).decode() for key in keys] == keys


# streams


def test_a_stream_is_read_from_any_offset(store: Store) -> None:
    store.append("log", b"one ", offset=0)
    store.append("log", b"two ", offset=4)
    store.append("log", b"three", offset=8)
    whole = b"one two three"
    assert [store.tail("log", offset=start) for start in range(15)] == [whole[start:] for start in range(15)]
    assert store.read("log") == whole


def test_a_stream_that_does_not_exist_has_no_bytes(store: Store) -> None:
    assert store.tail("log", offset=0) == b""


def test_appending_again_changes_nothing_even_by_another_process(store: Store, uri: str) -> None:
    store.append("log", b"abcdef", offset=0)
    store.append("log", b"abcdef", offset=0)
    store.append("log", b"cd", offset=2)
    open_store(uri).append("log", b"abcdefgh", offset=0)
    store.append("log", b"efghij", offset=4)
    assert store.tail("log", offset=0) == b"abcdefghij"


def test_appending_behind_the_end_is_a_conflict(store: Store) -> None:
    store.append("log", b"abc", offset=0)
    with pytest.raises(Conflict, match="ends at byte 3"):
        store.append("log", b"e", offset=4)
    with pytest.raises(Conflict, match="ends at byte 0"):
        store.append("none", b"e", offset=4)
    assert store.tail("log", offset=0) == b"abc"
    assert list(store.keys("")) == ["log"]


def test_appending_nothing_makes_nothing(store: Store) -> None:
    store.append("log", b"", offset=0)
    assert list(store.keys("")) == []


def test_a_follower_sees_all_of_a_stream_of_many_small_pieces(store: Store, uri: str) -> None:
    follower, seen, written = open_store(uri), b"", b""
    for number in range(300):
        line = f"line {number}\n".encode()
        store.append("log", line, offset=len(written))
        written += line
        if number % 23 == 0 or number == 299:
            seen += follower.tail("log", offset=len(seen))
    assert seen == written
    assert open_store(uri).tail("log", offset=1000) == written[1000:]
    assert store.tail("log", offset=0) == written


def test_a_deleted_stream_begins_anew(store: Store) -> None:
    store.append("log", b"old lines", offset=0)
    store.delete("log")
    assert store.tail("log", offset=0) == b""
    store.append("log", b"new", offset=0)
    assert store.tail("log", offset=0) == b"new"


# files


@pytest.mark.parametrize("size_bytes", [0, 1, LARGE])
def test_a_file_comes_back_as_it_was_put(store: Store, tmp_path: Path, size_bytes: int) -> None:
    source, target, data = tmp_path / "source", tmp_path / "new" / "target", os.urandom(size_bytes)
    source.write_bytes(data)
    done: list[int] = []
    assert store.put_file("k", source, progress=done.append) == Blob(
        digest=digest_of(data), size_bytes=size_bytes
    )
    store.get_file("k", target, progress=done.append)
    assert target.read_bytes() == data
    assert sum(done) == 2 * size_bytes


def test_a_stream_can_be_fetched_as_a_file(store: Store, tmp_path: Path) -> None:
    store.append("log", b"abc", offset=0)
    store.append("log", b"def", offset=3)
    store.get_file("log", tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"abcdef"


def test_a_missing_file_leaves_what_was_at_the_path(store: Store, file: Path) -> None:
    with pytest.raises(NotFound):
        store.get_file("none", file)
    with pytest.raises(NotFound):
        store.get_blob(digest_of(b""), file)
    assert file.read_bytes() == b"some content"
    assert list(file.parent.glob(".*.part")) == []


def test_putting_a_file_that_is_gone_is_not_found(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        store.put_file("k", tmp_path / "gone")


def test_a_file_that_grows_while_it_is_put_is_cut_where_it_ended(store: Store, large: Path) -> None:
    before = large.read_bytes()

    def grow(_: int) -> None:
        with large.open("ab") as file:
            file.write(b"more")

    assert store.put_file("k", large, progress=grow) == Blob(digest=digest_of(before), size_bytes=LARGE)


# blobs


def test_a_blob_is_kept_once_by_its_digest(store: Store, large: Path, tmp_path: Path) -> None:
    data = large.read_bytes()
    blob = store.put_blob(large)
    assert blob == Blob(digest=digest_of(data), size_bytes=LARGE)
    assert store.put_blob(large) == store.put_blob(large, digest=blob.digest) == blob
    assert [(known.digest, known.size_bytes) for known in store.blobs()] == [(blob.digest, LARGE)]
    store.get_blob(blob.digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_a_blob_that_is_there_is_not_sent_again(store: Store, large: Path) -> None:
    blob = store.put_blob(large)
    done: list[int] = []
    store.put_blob(large, digest=blob.digest, progress=done.append)
    assert done == []


def test_an_empty_blob_is_a_blob(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    blob = store.put_blob(tmp_path / "empty")
    assert store.read_blob(blob.digest) == b""
    store.get_blob(blob.digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


@pytest.mark.parametrize("name", ["file", "large"])
def test_a_file_that_is_not_what_its_digest_says_is_not_put(
    store: Store, name: str, request: pytest.FixtureRequest
) -> None:
    wrong = digest_of(b"something else")
    with pytest.raises(Conflict, match="changed while"):
        store.put_blob(request.getfixturevalue(name), digest=wrong)
    assert not store.has_blob(wrong)
    assert list(store.blobs()) == []


def test_a_deleted_blob_is_gone_and_deleting_is_safe_to_repeat(store: Store, file: Path) -> None:
    digest = store.put_blob(file).digest
    assert store.has_blob(digest)
    store.delete_blob(digest)
    store.delete_blob(digest)
    assert not store.has_blob(digest)
    with pytest.raises(NotFound):
        store.read_blob(digest)


def test_a_blob_says_when_it_was_put(store: Store, file: Path) -> None:
    os.utime(file, (0, 0))
    store.put_blob(file)
    assert [abs(blob.modified - time.time()) < 60 for blob in store.blobs()] == [True]


@pytest.mark.parametrize(
    "digest", ["", "abc", "md5:" + "0" * 64, "sha256:../../etc/passwd", "sha256:" + "A" * 64]
)
def test_what_is_no_digest_is_refused(store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match="no digest"):
        store.has_blob(digest)


# adoption


def test_a_mirrored_file_becomes_a_blob(store: Store, large: Path) -> None:
    blob = store.put_file("runs/a/outputs/model", large)
    store.adopt("runs/a/outputs/model", blob)
    assert store.has_blob(blob.digest)
    assert list(store.keys("")) == []
    store.adopt("runs/a/outputs/model", blob)
    assert store.read_blob(blob.digest) == large.read_bytes()


def test_a_stream_becomes_a_blob(store: Store) -> None:
    store.append("log", b"one ", offset=0)
    store.append("log", b"two", offset=4)
    blob = Blob(digest=digest_of(b"one two"), size_bytes=7)
    store.adopt("log", blob)
    assert store.read_blob(blob.digest) == b"one two"
    assert store.tail("log", offset=0) == b""


def test_adopting_other_content_is_refused_and_keeps_it(store: Store, file: Path) -> None:
    store.put_file("k", file)
    store.append("log", b"line", offset=0)
    wrong = Blob(digest=digest_of(b"wrong"), size_bytes=5)
    for key in ("k", "log"):
        with pytest.raises(Corrupt):
            store.adopt(key, wrong)
    assert list(store.keys("")) == ["k", "log"]
    assert list(store.blobs()) == []


def test_adopting_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.adopt("k", Blob(digest=digest_of(b""), size_bytes=0))
