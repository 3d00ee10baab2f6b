"""Data registered in the store: versions that never change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.datasets.registered import blobs, register, versions
from runner.errors import DatasetError
from tests.datasets.desk import Desk, files


def test_a_registered_folder_is_fetched_by_name_and_version(desk: Desk) -> None:
    desk.write("data/a", "1")
    desk.write("data/deep/b", "22")
    assert register(desk.store, "mnist", desk.folder / "data") == "mnist@v1"
    on_disk = desk.resolve("data").digest
    dataset = desk.resolve("mnist@v1")
    assert (dataset.kind, dataset.source, dataset.size_bytes) == ("registered", "mnist@v1", 3)
    assert dataset.digest == on_disk
    assert files(desk.fetch(dataset)) == {"a": "1", "deep/b": "22"}
    assert sum(desk.told_bytes) == 3


def test_a_registered_file_is_fetched_as_a_file(desk: Desk) -> None:
    register(desk.store, "mnist", desk.write("mnist.npz", "1"))
    path = desk.fetch(desk.resolve("mnist@v1"))
    assert path.name == "mnist.npz"
    assert path.read_text() == "1"


def test_new_content_is_a_new_version_and_the_old_one_stays(desk: Desk) -> None:
    file = desk.write("data/a", "1")
    register(desk.store, "mnist", desk.folder / "data")
    file.write_text("2")
    assert register(desk.store, "mnist", desk.folder / "data") == "mnist@v2"
    assert files(desk.fetch(desk.resolve("mnist@v1"))) == {"a": "1"}
    assert files(desk.fetch(desk.resolve("mnist@v2"))) == {"a": "2"}
    assert [str(version) for version in versions(desk.store)] == ["mnist@v2", "mnist@v1"]
    assert len(blobs(desk.store)) == 2


def test_registering_the_same_content_again_is_the_same_version(desk: Desk) -> None:
    desk.write("data/a", "1")
    assert register(desk.store, "mnist", desk.folder / "data") == "mnist@v1"
    assert register(desk.store, "mnist", desk.folder / "data") == "mnist@v1"


def test_several_that_register_at_once_get_a_version_each(desk: Desk) -> None:
    for number in range(6):
        desk.write(f"data-{number}/a", str(number))
    with ThreadPoolExecutor(6) as pool:
        names = list(pool.map(lambda n: register(desk.store, "mnist", desk.folder / f"data-{n}"), range(6)))
    assert sorted(names) == [f"mnist@v{number}" for number in range(1, 7)]
    for number, name in enumerate(names):
        assert files(desk.fetch(desk.resolve(name))) == {"a": str(number)}


def test_versions_are_counted_not_spelt(desk: Desk) -> None:
    for number in range(11):
        register(desk.store, "mnist", desk.write("a", str(number)))
    assert str(versions(desk.store, "mnist")[0]) == "mnist@v11"


def test_a_missing_version_is_told_with_those_there_are(desk: Desk) -> None:
    register(desk.store, "mnist", desk.write("a", "1"))
    with pytest.raises(DatasetError, match="there is no mnist@v7") as caught:
        desk.resolve("mnist@v7")
    assert caught.value.tip == "there is mnist@v1"


def test_a_missing_name_is_told_with_the_nearest(desk: Desk) -> None:
    register(desk.store, "mnist", desk.write("a", "1"))
    with pytest.raises(DatasetError, match="there is no mnits@v1") as caught:
        desk.resolve("mnits@v1")
    assert caught.value.tip == "did you mean mnist?"


def test_a_digest_of_train_yml_must_match(desk: Desk) -> None:
    register(desk.store, "mnist", desk.write("a", "1"))
    with pytest.raises(DatasetError, match="is not what train"):
        desk.resolve("mnist@v1", digest=f"sha256:{'0' * 64}")


def test_a_version_whose_blob_is_gone_says_what_to_do(desk: Desk) -> None:
    register(desk.store, "mnist", desk.write("a", "1"))
    dataset = desk.resolve("mnist@v1")
    for digest in blobs(desk.store):
        desk.store.delete_blob(digest)
    with pytest.raises(DatasetError, match="not complete any more") as caught:
        desk.fetch(dataset)
    assert caught.value.tip == "register it again from its source"


@pytest.mark.parametrize("damage", [b"{}", b"\xff", b"[]"])
def test_a_damaged_list_of_files_is_told(desk: Desk, damage: bytes) -> None:
    desk.store.create("datasets/mnist/v1.json", damage)
    with pytest.raises(DatasetError, match="is damaged"):
        desk.resolve("mnist@v1")


def test_a_list_that_names_files_outside_the_folder_is_refused(desk: Desk) -> None:
    register(desk.store, "mnist", desk.write("data/a", "1").parent)
    listed = desk.store.read("datasets/mnist/v1.json").replace(b'"path": "a"', b'"path": "../../a"')
    desk.store.write("datasets/mnist/v1.json", listed)
    with pytest.raises(DatasetError, match=r"is damaged|cannot be the name"):
        desk.resolve("mnist@v1")


def test_a_name_that_could_not_be_asked_for_is_refused(desk: Desk) -> None:
    for name in ("", "a/b", "a@v1", "..", "-a"):
        with pytest.raises(DatasetError, match="cannot be the name of a data set"):
            register(desk.store, name, desk.write("a", "1"))
