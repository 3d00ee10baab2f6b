"""Data on this host: pinned by content, mounted or copied."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from runner.datasets import Dataset
from runner.errors import DatasetError
from tests.datasets.desk import Desk, files

A_YEAR_AGO_S = 1_760_000_000


def settle(folder: Path) -> None:
    """Makes files old enough that their times tell whether they changed."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (A_YEAR_AGO_S, A_YEAR_AGO_S))


def test_a_folder_is_pinned_by_what_is_in_it_wherever_it_lies(desk: Desk) -> None:
    for top in ("one", "two"):
        desk.write(f"{top}/a.csv", "1")
        desk.write(f"{top}/deep/b.csv", "22")
    one, two = desk.resolve("one"), desk.resolve(str(desk.folder / "two"))
    assert one.digest == two.digest
    assert (one.kind, one.size_bytes, one.source) == ("path", 3, str(desk.folder / "one"))


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer"])
def test_any_change_of_a_folder_changes_its_digest(desk: Desk, change: str) -> None:
    a, b = desk.write("data/a", "1"), desk.write("data/b", "2")
    before = desk.resolve("data").digest
    if change == "content":
        a.write_text("3")
    elif change == "name":
        a.rename(a.with_name("c"))
    elif change == "more":
        desk.write("data/c", "")
    else:
        b.unlink()
    assert desk.resolve("data").digest != before


def test_a_file_is_pinned_by_its_sha256(desk: Desk) -> None:
    desk.write("train.csv", "1,2")
    dataset = desk.resolve("train.csv")
    assert dataset.digest == f"sha256:{hashlib.sha256(b'1,2').hexdigest()}"
    assert desk.fetch(dataset).name == "train.csv"
    assert desk.fetch(dataset).read_text() == "1,2"


def test_a_data_set_survives_json(desk: Desk) -> None:
    desk.write("data/a", "1")
    dataset = desk.resolve("data")
    assert Dataset(**json.loads(json.dumps(asdict(dataset)))) == dataset


def test_a_second_look_reads_no_file_that_has_not_changed(desk: Desk) -> None:
    desk.write("data/a", "1")
    kept = desk.write("data/b", "2")
    settle(desk.folder)
    before = desk.resolve("data").digest
    # Same size, time and inode: only the memory can give the old answer.
    kept.write_text("9")
    settle(desk.folder)
    assert desk.resolve("data").digest == before
    kept.write_text("99")
    assert desk.resolve("data").digest != before


def test_a_file_too_young_to_tell_by_its_time_is_read_again(desk: Desk) -> None:
    file = desk.write("data/a", "1")
    status = file.stat()
    before = desk.resolve("data").digest
    file.write_text("2")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert desk.resolve("data").digest != before


def test_a_damaged_memory_costs_nothing_but_time(desk: Desk) -> None:
    desk.write("data/a", "1")
    settle(desk.folder)
    before = desk.resolve("data").digest
    (memory,) = (desk.cache / "digests").iterdir()
    for damage in ('{"a":', "[[1]]", "7"):
        memory.write_text(damage)
        assert desk.resolve("data").digest == before


def test_a_mounted_path_is_the_path_itself(desk: Desk) -> None:
    desk.write("data/a", "1")
    assert desk.fetch(desk.resolve("data", "mount")) == desk.folder / "data"


def test_a_download_is_a_copy_in_the_cache_that_is_made_once(desk: Desk) -> None:
    desk.write("data/a", "1")
    desk.write("data/deep/b", "22")
    dataset = desk.resolve("data")
    copy = desk.fetch(dataset)
    assert copy.is_relative_to(desk.cache)
    assert files(copy) == {"a": "1", "deep/b": "22"}
    assert sum(desk.told_bytes) == 3
    (desk.folder / "data/a").unlink()
    assert desk.fetch(dataset) == copy
    assert sum(desk.told_bytes) == 3
    assert not (copy / "a").stat().st_mode & 0o222


@pytest.mark.parametrize("mode", ["download", "mount"])
def test_data_that_changed_since_it_was_pinned_is_refused_with_both_digests(desk: Desk, mode: str) -> None:
    desk.write("data/a", "1")
    dataset = replace(desk.resolve("data"), mode=mode)  # type: ignore[arg-type]  # one of the two
    desk.write("data/a", "2")
    with pytest.raises(DatasetError, match="was changed after the run was planned") as caught:
        desk.fetch(dataset)
    assert dataset.digest in str(caught.value)
    assert desk.resolve("data").digest in str(caught.value)
    assert not any(
        path.name.startswith("sha256-") and path.is_dir() for path in desk.cache.glob("datasets/*")
    )


def test_a_digest_of_train_yml_must_match(desk: Desk) -> None:
    desk.write("data/a", "1")
    right = desk.resolve("data").digest
    assert desk.resolve("data", digest=right).digest == right
    wrong = f"sha256:{'0' * 64}"
    with pytest.raises(DatasetError, match="is not what train") as caught:
        desk.resolve("data", digest=wrong)
    assert right in str(caught.value)
    assert wrong in str(caught.value)


def test_a_missing_path_is_told_with_the_nearest_name(desk: Desk) -> None:
    desk.write("training-data/images/a", "1")
    with pytest.raises(DatasetError, match=r"^data set mnist: there is no .*/trainin-data/images") as caught:
        desk.resolve("trainin-data/images")
    assert caught.value.tip == f"did you mean {desk.folder / 'training-data'}?"


def test_a_folder_without_files_is_refused(desk: Desk) -> None:
    (desk.folder / "data" / "inner").mkdir(parents=True)
    with pytest.raises(DatasetError, match="has no files"):
        desk.resolve("data")


def test_links_are_followed_and_a_loop_is_refused(desk: Desk) -> None:
    desk.write("elsewhere/a", "1")
    (desk.folder / "data").mkdir()
    (desk.folder / "data/linked").symlink_to(desk.folder / "elsewhere")
    assert files(desk.fetch(desk.resolve("data"))) == {"linked/a": "1"}
    (desk.folder / "data/loop").symlink_to(desk.folder / "data")
    with pytest.raises(DatasetError, match="links to a folder that it is in"):
        desk.resolve("data")


def test_a_link_to_nothing_and_a_pipe_are_refused(desk: Desk) -> None:
    desk.write("data/a", "1")
    link = desk.folder / "data/link"
    link.symlink_to("nowhere")
    with pytest.raises(DatasetError, match="link"):
        desk.resolve("data")
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(DatasetError, match="is not a regular file"):
        desk.resolve("data")


def test_names_that_are_no_utf8_are_taken_along(desk: Desk) -> None:
    name = os.fsencode(desk.write("data/a", "1").parent) + b"/\xff"
    with open(name, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"2")
    copy = desk.fetch(desk.resolve("data"))
    assert sorted(os.listdir(os.fsencode(copy))) == [b"a", b"\xff"]  # noqa: PTH208 - names of bytes


def test_a_source_of_an_unknown_scheme_is_refused_with_what_to_write(desk: Desk) -> None:
    with pytest.raises(DatasetError, match="file://") as caught:
        desk.resolve("file:///data/mnist")
    assert caught.value.tip == "write the path itself: /data/mnist"
    with pytest.raises(DatasetError, match="ftp://"):
        desk.resolve("ftp://host/mnist")


def test_only_a_path_can_be_mounted(desk: Desk) -> None:
    with pytest.raises(DatasetError, match="cannot be mounted") as caught:
        desk.resolve("https://user:secret@host/mnist.npz?token=secret", "mount")
    assert "secret" not in str(caught.value)


FETCH = """
import json, sys
from pathlib import Path
from runner.datasets import Dataset, fetch
told = []
path = fetch(Dataset(**json.loads(sys.argv[1])), store=None, cache=Path(sys.argv[2]), progress=told.append)
print(json.dumps([str(path), sum(told)]))
"""


def test_two_processes_that_fetch_at_once_copy_once(desk: Desk) -> None:
    desk.write("data/a", "1" * 1_000_000)
    told = json.dumps(asdict(desk.resolve("data")))
    processes = [
        subprocess.Popen([sys.executable, "-c", FETCH, told, str(desk.cache)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    answers = [json.loads(process.communicate()[0]) for process in processes]
    assert len({path for path, _ in answers}) == 1
    assert sorted(size_bytes for _, size_bytes in answers) == [0, 0, 0, 1_000_000]


def test_what_a_killed_fetch_left_is_not_taken_for_the_data(desk: Desk) -> None:
    desk.write("data/a", "1")
    dataset = desk.resolve("data")
    part = desk.cache / "datasets" / f".{dataset.digest.replace(':', '-')}.part"
    part.mkdir(parents=True)
    (part / "stray").write_text("half")
    assert files(desk.fetch(dataset)) == {"a": "1"}
    assert not part.exists()
