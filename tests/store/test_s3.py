"""What only S3 has: credentials, networks, attempts that seemed lost, uploads and copies in parts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import Conflict, Corrupt, StoreError
from runner.store import open_store
from runner.store.s3 import S3Store
from runner.store.s3_bucket import Bucket, open_bucket
from tests.store.flaky import Flaky, flaky

LARGE = 20 * 2**20 + 17


@pytest.fixture
def bucket(s3_uri: str) -> Bucket:
    return open_bucket(s3_uri)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Flaky]:
    with flaky(s3_endpoint) as server:
        yield server


@pytest.fixture
def behind_proxy(s3_uri: str, s3_endpoint: str, proxy: Flaky) -> str:
    return s3_uri.replace(s3_endpoint, proxy.url).replace("attempts=2", "attempts=4")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


# places


@pytest.mark.parametrize("uri", ["s3:///prefix", "s3://b/p?endpont=http://x", "s3://b?attempts=many"])
def test_a_malformed_place_is_refused_with_how_to_write_it(uri: str) -> None:
    with pytest.raises(StoreError, match="not a place in S3") as caught:
        open_store(uri)
    assert "s3://bucket/prefix?endpoint=" in caught.value.tip


def test_an_endpoint_that_is_no_url_is_refused(s3_credentials: None) -> None:
    with pytest.raises(StoreError, match="endpoint"):
        open_store("s3://b/p?endpoint=nonsense")


def test_two_prefixes_of_a_bucket_share_nothing(s3_uri: str) -> None:
    other = open_store(s3_uri.replace("/team/training", "/team/train"))
    whole_bucket = open_store(s3_uri.replace("/team/training", ""))
    open_store(s3_uri).write("k", b"1")
    assert list(other.keys("")) == []
    assert list(whole_bucket.keys("")) == ["team/training/k"]


def test_a_missing_bucket_is_named(s3_endpoint: str, s3_credentials: None) -> None:
    store = open_store(f"s3://nobody-has-this/p?endpoint={s3_endpoint}&region=us-east-1")
    with pytest.raises(StoreError, match="no bucket nobody-has-this") as caught:
        store.write("k", b"")
    assert "aws s3 mb" in caught.value.tip


def test_missing_credentials_are_asked_for(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StoreError, match="no credentials") as caught:
        open_store(s3_uri).read("k")
    assert "AWS_ACCESS_KEY_ID" in caught.value.tip


def test_an_endpoint_that_does_not_answer_is_named(s3_credentials: None) -> None:
    store = open_store("s3://b/p?endpoint=http://127.0.0.1:9&region=us-east-1&attempts=1")
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
        store.has_blob("sha256:" + "0" * 64)
    assert caught.value.retryable
    assert "curl" in caught.value.tip


def test_a_thousand_keys_and_more_are_all_listed(s3_uri: str) -> None:
    store = open_store(s3_uri)
    keys = [f"runs/{number:04}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.write(key, b""), keys))
    assert list(store.keys("runs/")) == keys
    assert list(store.children("runs")) == [key.removeprefix("runs/") for key in keys]


# a bad network


def test_a_busy_server_is_asked_again(behind_proxy: str, proxy: Flaky) -> None:
    store = open_store(behind_proxy)
    proxy.faults.extend(["busy", "busy"])
    store.write("k", b"1")
    assert (store.read("k"), proxy.committed) == (b"1", 2)


def test_a_server_that_stays_busy_is_a_failure_that_may_be_tried_again(s3_uri: str, s3_endpoint: str) -> None:
    with flaky(s3_endpoint) as proxy:
        proxy.faults.extend(["busy"] * 9)
        store = open_store(s3_uri.replace(s3_endpoint, proxy.url).replace("attempts=2", "attempts=1"))
        with pytest.raises(StoreError, match="503") as caught:
            store.write("k", b"1")
    assert (caught.value.retryable, proxy.committed) == (True, 1)


def test_a_conditional_write_whose_answer_was_lost_has_still_won(behind_proxy: str, proxy: Flaky) -> None:
    store = open_store(behind_proxy)
    proxy.faults.append("answer lost")
    version = store.create("k", b"1")
    proxy.faults.append("answer lost")
    version = store.replace("k", b"2", version=version)
    assert store.read_versioned("k").version == version
    with pytest.raises(Conflict):
        store.create("k", b"2")
    assert proxy.committed == 2


def test_an_append_whose_answer_was_lost_is_there_once(behind_proxy: str, proxy: Flaky) -> None:
    store = open_store(behind_proxy)
    store.append("log", b"one ", offset=0)
    proxy.faults.append("answer lost")
    store.append("log", b"two", offset=4)
    assert (store.tail("log", offset=0), proxy.committed) == (b"one two", 1)


def test_a_part_that_was_cut_is_read_again(
    behind_proxy: str, proxy: Flaky, large: Path, tmp_path: Path
) -> None:
    store = open_store(behind_proxy)
    blob = store.put_blob(large)
    proxy.faults.extend(["body cut"] * 3)  # the first meets the HEAD request, which has no body
    store.get_blob(blob.digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == large.read_bytes()
    assert proxy.committed == 3


# transfers


def test_a_file_rewritten_while_it_is_sent_leaves_what_was_there(s3_uri: str, large: Path) -> None:
    store = open_store(s3_uri)
    store.write("k", b"before")

    def rewrite(_: int) -> None:
        with large.open("r+b") as file:
            file.seek(LARGE - 1)
            file.write(b"!" if file.read(1) != b"!" else b"?")
            os.truncate(large, LARGE - 5)

    large.write_bytes(os.urandom(100 * 2**20))
    with pytest.raises(Conflict, match="changed while"):
        store.put_file("k", large, progress=rewrite)
    assert store.read("k") == b"before"
    assert store.sweep(older_than_s=-60) == 0


def test_a_damaged_blob_is_never_handed_out(s3_uri: str, bucket: Bucket, large: Path, tmp_path: Path) -> None:
    store = open_store(s3_uri)
    digest = store.put_blob(large).digest
    (name,) = (entry.name for entry in bucket.entries("blobs/"))
    bucket.client.put_object(**bucket.at(name), Body=b"damaged" * 2_000_000)
    with pytest.raises(Corrupt, match="is damaged"):
        store.get_blob(digest, tmp_path / "copy")
    with pytest.raises(Corrupt, match="is damaged"):
        store.read_blob(digest)
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_an_upload_whose_process_was_killed_is_not_seen_and_is_swept(s3_uri: str, large: Path) -> None:
    script = (
        "import os, sys, pathlib; from runner.store import open_store;"
        "open_store(sys.argv[1]).put_blob(pathlib.Path(sys.argv[2]), progress=lambda _: os.kill(os.getpid(), 9))"
    )
    ended = subprocess.run([sys.executable, "-c", script, s3_uri, str(large)], check=False)
    assert ended.returncode == -signal.SIGKILL
    store = open_store(s3_uri)
    assert (list(store.keys("")), list(store.blobs())) == ([], [])
    assert (store.sweep(older_than_s=-60), store.sweep(older_than_s=-60)) == (1, 0)


def test_what_is_too_large_for_one_copy_is_adopted_in_parts(bucket: Bucket, large: Path) -> None:
    store = S3Store(bucket, copy_limit_bytes=5 * 2**20)
    blob = store.put_file("k", large)
    store.adopt("k", blob)
    assert store.read_blob(blob.digest) == large.read_bytes()
    assert list(store.keys("")) == []


def test_an_object_that_others_put_is_verified_before_it_is_adopted(bucket: Bucket, large: Path) -> None:
    store = S3Store(bucket)
    blob = store.put_blob(large)
    store.delete_blob(blob.digest)
    bucket.client.put_object(**bucket.at("k"), Body=large.read_bytes())
    store.adopt("k", blob)
    assert store.read_blob(blob.digest) == large.read_bytes()


def test_many_small_appends_end_up_in_few_objects(s3_uri: str, bucket: Bucket) -> None:
    store, follower = open_store(s3_uri), open_store(s3_uri)
    for number in range(256):
        store.append("log", b"x", offset=number)
        if number == 100:
            assert follower.tail("log", offset=0) == b"x" * 101
    assert len(list(bucket.entries(".streams/"))) == 1
    assert follower.tail("log", offset=101) == b"x" * 155
    assert follower.tail("log", offset=50) == b"x" * 206


def test_two_writers_of_one_stream_never_garble_it(s3_uri: str) -> None:
    whole = b"".join(b"line %d\n" % number for number in range(60))
    first, second = open_store(s3_uri), open_store(s3_uri)
    for end in range(7, len(whole), 13):
        writer = first if end % 2 else second
        start = max(0, end - 40)
        writer.append("log", whole[start:end], offset=start)
    second.append("log", whole, offset=0)
    assert first.tail("log", offset=0) == whole


def test_a_writer_who_is_behind_takes_nothing_from_a_stream(s3_uri: str) -> None:
    behind, ahead = open_store(s3_uri), open_store(s3_uri)
    behind.append("log", b"abc", offset=0)
    ahead.append("log", b"abcdef", offset=0)
    behind.append("log", b"d", offset=3)
    assert behind.tail("log", offset=0) == ahead.tail("log", offset=0) == b"abcdef"
