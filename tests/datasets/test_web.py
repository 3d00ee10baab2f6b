"""Data behind a URL: pinned by validators, brought whole over links that break."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest

from runner.datasets import Dataset
from runner.datasets.web import Web
from runner.errors import DatasetError
from tests.datasets.desk import Desk
from tests.datasets.server import Site


def bring(web: Web, site: Site, folder: Path) -> bytes:
    url = f"{site.url}/mnist.npz"
    pin = web.pin(url)
    dataset = Dataset(
        name="mnist",
        source=url,
        kind="http",
        mode="download",
        digest=pin.digest,
        size_bytes=pin.size_bytes,
        file_name=pin.file_name,
    )
    web.bring(dataset, folder, progress=lambda _: None)
    return (folder / pin.file_name).read_bytes()


def test_a_url_is_pinned_without_reading_it_and_fetched_once(desk: Desk, site: Site) -> None:
    dataset = desk.resolve(f"{site.url}/sets/mnist%20small.npz?version=2")
    assert [method for method, _, _ in site.asked] == ["HEAD"]
    assert (dataset.kind, dataset.size_bytes, dataset.file_name) == ("http", 1000, "mnist small.npz")
    path = desk.fetch(dataset)
    assert path.name == "mnist small.npz"
    assert path.read_bytes() == site.content
    assert sum(desk.told_bytes) == 1000
    asked = len(site.asked)
    assert desk.fetch(dataset) == path
    assert len(site.asked) == asked


def test_another_content_has_another_digest(desk: Desk, site: Site) -> None:
    before = desk.resolve(f"{site.url}/mnist.npz").digest
    assert desk.resolve(f"{site.url}/mnist.npz").digest == before
    assert desk.resolve(f"{site.url}/other.npz").digest != before
    site.content = b"new"
    assert desk.resolve(f"{site.url}/mnist.npz").digest != before


def test_a_file_that_changed_since_it_was_pinned_is_refused(desk: Desk, site: Site) -> None:
    dataset = desk.resolve(f"{site.url}/mnist.npz")
    site.content = b"new"
    with pytest.raises(DatasetError, match="was changed after the run was planned"):
        desk.fetch(dataset)


def test_a_broken_link_goes_on_where_it_broke(site: Site, tmp_path: Path) -> None:
    waits: list[float] = []
    site.cuts = [300, 200]
    assert bring(Web(sleep=waits.append), site, tmp_path) == site.content
    assert [span for method, _, span in site.asked if method == "GET"] == ["", "bytes=300-", "bytes=500-"]
    assert len(waits) == 2


def test_a_link_may_break_more_often_than_the_tries_as_long_as_it_brings_something(
    site: Site, tmp_path: Path
) -> None:
    site.cuts = [10] * 50
    assert bring(Web(sleep=lambda _: None), site, tmp_path) == site.content


def test_a_link_that_brings_nothing_is_given_up_and_says_so(site: Site, tmp_path: Path) -> None:
    site.cuts = [100, *[0] * 50]
    with pytest.raises(DatasetError, match=r"/mnist\.npz cannot be read"):
        bring(Web(sleep=lambda _: None), site, tmp_path)


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert bring(Web(sleep=lambda _: None), site, tmp_path) == site.content


def test_a_server_that_stays_busy_is_named_with_its_answer(site: Site, tmp_path: Path) -> None:
    site.statuses = [503] * 50
    with pytest.raises(DatasetError, match="answers 503"):
        bring(Web(sleep=lambda _: None), site, tmp_path)


def test_an_earlier_fetch_is_taken_up(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(site.content[:600])
    assert bring(Web(), site, tmp_path) == site.content
    assert site.asked[-1] == ("GET", "/mnist.npz", "bytes=600-")


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_a_server_without_a_strong_etag_is_pinned_by_its_time(site: Site, tmp_path: Path, etag: str) -> None:
    site.etag = etag
    site.cuts = [300]
    assert bring(Web(sleep=lambda _: None), site, tmp_path) == site.content
    assert site.asked[-1][2] == "bytes=300-"


def test_a_server_that_tells_no_length_is_read_to_the_end(site: Site, tmp_path: Path) -> None:
    site.says_length = False
    assert bring(Web(), site, tmp_path) == site.content


def test_without_anything_to_tell_versions_by_a_broken_transfer_starts_again(
    site: Site, tmp_path: Path
) -> None:
    site.etag, site.modified, site.cuts = "", "", [300]
    assert bring(Web(sleep=lambda _: None), site, tmp_path) == site.content
    assert site.asked[-1][2] == ""


def test_a_file_that_changes_between_two_pieces_is_refused(site: Site, tmp_path: Path) -> None:
    site.cuts = [300]

    def change(_: float) -> None:
        site.content = b"x" * 1000

    with pytest.raises(DatasetError, match="was changed"):
        bring(Web(sleep=change), site, tmp_path)


def test_an_empty_file_is_brought(site: Site, tmp_path: Path) -> None:
    site.content = b""
    assert bring(Web(), site, tmp_path) == b""


@pytest.mark.parametrize("status", [403, 405])
def test_a_url_that_is_good_for_get_alone_is_looked_at_by_get(desk: Desk, site: Site, status: int) -> None:
    site.head_status = status
    assert desk.fetch(desk.resolve(f"{site.url}/mnist.npz")).read_bytes() == site.content


def test_a_content_digest_of_train_yml_is_checked_after_the_download(desk: Desk, site: Site) -> None:
    right = f"sha256:{hashlib.sha256(site.content).hexdigest()}"
    assert desk.fetch(desk.resolve(f"{site.url}/mnist.npz", digest=right)).read_bytes() == site.content
    wrong = f"sha256:{'0' * 64}"
    dataset = desk.resolve(f"{site.url}/mnist.npz", digest=wrong)
    for _ in range(2):
        with pytest.raises(DatasetError, match="is not what train") as caught:
            desk.fetch(dataset)
        assert right in str(caught.value)
        assert wrong in str(caught.value)


def test_a_missing_file_says_so(desk: Desk, site: Site) -> None:
    with pytest.raises(
        DatasetError, match=r"data set mnist: there is nothing at http.*/missing\.npz \(404\)"
    ):
        desk.resolve(f"{site.url}/missing.npz")


def test_a_refusal_says_so_and_keeps_the_secret_of_the_url(desk: Desk, site: Site) -> None:
    site.head_status, site.statuses = 403, [403]
    url = site.url.replace("//", "//user:secret@")
    with pytest.raises(DatasetError, match=r"refuses \(403 Forbidden\)") as caught:
        desk.resolve(f"{url}/mnist.npz?token=secret")
    assert "secret" not in str(caught.value)


def test_a_host_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DatasetError, match="cannot be read") as caught:
        Web(sleep=lambda _: None).pin(f"http://127.0.0.1:{port}/mnist.npz")
    assert caught.value.tip == f"see whether 127.0.0.1:{port} answers"
