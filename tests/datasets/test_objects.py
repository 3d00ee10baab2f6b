"""Data in S3: pinned by its listing, brought in parallel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from runner.errors import DatasetError
from runner.store.s3_transfer import PART_BYTES
from tests.datasets.desk import Desk, files
from tests.datasets.server import Site

Put = Callable[[str, bytes], object]


@pytest.fixture
def put(s3_uri: str, s3_endpoint: str) -> Put:
    """Puts an object into the bucket, under its whole key."""
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    bucket = urlsplit(s3_uri).netloc
    return lambda key, data: client.put_object(Bucket=bucket, Key=key, Body=data)


@pytest.fixture
def at(s3_uri: str) -> Callable[[str], str]:
    """The URI of a key in the bucket."""
    parts = urlsplit(s3_uri)
    return lambda key: parts._replace(path=f"/{key}").geturl()


At = Callable[[str], str]


def test_a_prefix_is_pinned_by_its_listing_and_brought_as_a_folder(desk: Desk, put: Put, at: At) -> None:
    put("mnist/", b"")
    put("mnist/train/a", b"1")
    put("mnist/b", b"22")
    put("mnist-old/c", b"333")
    dataset = desk.resolve(at("mnist"))
    assert (dataset.kind, dataset.size_bytes, dataset.file_name) == ("s3", 3, "")
    copy = desk.fetch(dataset)
    assert files(copy) == {"train/a": "1", "b": "22"}
    assert sum(desk.told_bytes) == 3
    assert desk.fetch(desk.resolve(at("mnist/"))) == copy
    assert sum(desk.told_bytes) == 3


def test_a_whole_bucket_is_data_too(desk: Desk, put: Put, at: At) -> None:
    put("a/b", b"1")
    assert files(desk.fetch(desk.resolve(at("")))) == {"a/b": "1"}


def test_a_key_is_brought_as_a_file(desk: Desk, put: Put, at: At) -> None:
    put("sets/mnist.npz", b"1")
    dataset = desk.resolve(at("sets/mnist.npz"))
    path = desk.fetch(dataset)
    assert path.name == "mnist.npz"
    assert path.read_bytes() == b"1"


def test_an_object_of_several_pieces_and_an_empty_one_are_brought_whole(desk: Desk, put: Put, at: At) -> None:
    large = bytes(range(256)) * (PART_BYTES // 256 * 2 + 1)
    put("mnist/large", large)
    put("mnist/empty", b"")
    copy = desk.fetch(desk.resolve(at("mnist")))
    assert (copy / "large").read_bytes() == large
    assert (copy / "empty").read_bytes() == b""
    assert len(desk.told_bytes) == 3


def test_objects_that_changed_since_they_were_pinned_are_refused(desk: Desk, put: Put, at: At) -> None:
    put("mnist/a", b"1")
    dataset = desk.resolve(at("mnist"))
    put("mnist/a", b"2")
    assert desk.resolve(at("mnist")).digest != dataset.digest
    with pytest.raises(DatasetError, match="was changed after the run was planned"):
        desk.fetch(dataset)


def test_a_content_digest_of_train_yml_is_checked_after_the_download(desk: Desk, put: Put, at: At) -> None:
    put("sets/mnist.npz", b"1")
    right = f"sha256:{hashlib.sha256(b'1').hexdigest()}"
    assert desk.fetch(desk.resolve(at("sets/mnist.npz"), digest=right)).read_bytes() == b"1"
    with pytest.raises(DatasetError, match=f"is not what train.yml pins.*{right}"):
        desk.fetch(desk.resolve(at("sets/mnist.npz"), digest=f"sha256:{'0' * 64}"))


def test_the_same_folder_has_the_same_content_digest_on_disk_and_in_s3(desk: Desk, put: Put, at: At) -> None:
    put("mnist/deep/a", b"1")
    desk.write("data/deep/a", "1")
    on_disk = desk.resolve("data").digest
    assert files(desk.fetch(desk.resolve(at("mnist"), digest=on_disk))) == {"deep/a": "1"}


def test_nothing_at_a_key_is_told_with_the_nearest_name(desk: Desk, put: Put, at: At) -> None:
    put("sets/mnist/a", b"1")
    with pytest.raises(DatasetError, match="there is nothing at s3://") as caught:
        desk.resolve(at("sets/mnits"))
    assert caught.value.tip.endswith("/sets/mnist?")


def test_an_empty_bucket_is_told(desk: Desk, at: At) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        desk.resolve(at(""))


def test_a_key_that_would_leave_the_folder_is_refused(desk: Desk, put: Put, at: At) -> None:
    put("mnist/a/../../../evil", b"1")
    with pytest.raises(DatasetError, match="cannot be the name of a file"):
        desk.resolve(at("mnist"))


def test_a_missing_bucket_is_named(desk: Desk, s3_endpoint: str, s3_credentials: None) -> None:
    with pytest.raises(DatasetError, match="there is no bucket nobodys"):
        desk.resolve(f"s3://nobodys/mnist?endpoint={s3_endpoint}&attempts=1")


def test_missing_credentials_are_told(desk: Desk, at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = at("mnist")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(DatasetError, match="no credentials") as caught:
        desk.resolve(uri)
    assert "AWS_ACCESS_KEY_ID" in caught.value.tip


def test_a_refusal_is_told(desk: Desk, site: Site, s3_credentials: None) -> None:
    site.statuses = [403]
    with pytest.raises(DatasetError, match=r"refuses \(403"):
        desk.resolve(f"s3://bucket/mnist?endpoint={site.url}&attempts=1")


def test_the_endpoint_of_the_environment_is_used(
    desk: Desk, put: Put, at: At, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("mnist/a", b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    bucket = urlsplit(at("")).netloc
    assert desk.resolve(f"s3://{bucket}/mnist").digest == desk.resolve(at("mnist")).digest


def test_a_fetch_left_by_a_killed_process_is_started_again(
    desk: Desk, put: Put, at: At, tmp_path: Path
) -> None:
    put("mnist/a", b"1")
    dataset = desk.resolve(at("mnist"))
    part = desk.cache / "datasets" / f".{dataset.digest.replace(':', '-')}.part"
    part.mkdir(parents=True)
    (part / "stray").write_text("half")
    assert files(desk.fetch(dataset)) == {"a": "1"}
