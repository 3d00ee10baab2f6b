import dataclasses
from pathlib import Path

import pytest

from runner.errors import Corrupt, ModelError, NotFound
from runner.models import ModelFile, StoreShelf, Version, download, register
from runner.store import Store, open_store
from tests.models.test_registry import draft, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def version(store: Store, tmp_path: Path) -> Version:
    files = (
        put(store, tmp_path, "saved_model.pb", b"graph"),
        put(store, tmp_path, "variables/index", b"index"),
        put(store, tmp_path, "variables/copy of index", b"index"),
    )
    return register(store, draft(*files))


def content(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


FILES = {"saved_model.pb": b"graph", "variables/index": b"index", "variables/copy of index": b"index"}


def test_all_files_are_brought_and_progress_told(store: Store, version: Version, tmp_path: Path) -> None:
    done: list[int] = []

    folder = download(StoreShelf(store), version, tmp_path / "new" / "model", progress=done.append)

    assert folder == tmp_path / "new" / "model"
    assert content(folder) == FILES
    assert sum(done) == version.size_bytes
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_an_empty_folder_stays_the_one_it_is(store: Store, version: Version, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    inode = folder.stat().st_ino

    download(StoreShelf(store), version, folder)

    assert content(folder) == FILES
    assert (folder.stat().st_ino, len(list(folder.iterdir()))) == (inode, 2)


def test_downloading_again_verifies_what_is_there(store: Store, version: Version, tmp_path: Path) -> None:
    folder = download(StoreShelf(store), version, tmp_path / "model")

    assert download(StoreShelf(store), version, folder) == folder
    (folder / "variables" / "index").write_bytes(b"imdex")
    with pytest.raises(ModelError, match="not empty"):
        download(StoreShelf(store), version, folder)


@pytest.mark.parametrize("name", ["extra", "variables/extra"])
def test_a_folder_with_anything_else_is_left_alone(
    store: Store, version: Version, tmp_path: Path, name: str
) -> None:
    folder = download(StoreShelf(store), version, tmp_path / "model")
    (folder / name).write_bytes(b"mine")

    with pytest.raises(ModelError, match=r"holds something else than digits@1\.0\.0"):
        download(StoreShelf(store), version, folder)
    assert (folder / name).read_bytes() == b"mine"


def test_a_file_in_the_way_is_left_alone(store: Store, version: Version, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"mine")

    with pytest.raises(ModelError, match="is a file"):
        download(StoreShelf(store), version, tmp_path / "model")


@pytest.mark.parametrize("parent", ["", "there"])
def test_a_damaged_blob_leaves_nothing_behind(
    store: Store, version: Version, tmp_path: Path, parent: str
) -> None:
    (blob,) = (tmp_path / "store" / "blobs").rglob(version.files[1].digest.removeprefix("sha256:"))
    blob.chmod(0o600)
    blob.write_bytes(b"imdex")
    place = tmp_path / "place"
    (place / parent).mkdir(parents=True)

    with pytest.raises(Corrupt):
        download(StoreShelf(store), version, place / parent if parent else place / "model")

    assert content(place) == {}
    assert [path.name for path in place.rglob("*")] == ([parent] if parent else [])


def test_a_lost_blob_is_an_error(store: Store, version: Version, tmp_path: Path) -> None:
    store.delete_blob(version.files[0].digest)

    with pytest.raises(NotFound):
        download(StoreShelf(store), version, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "a/../../escaped"])
def test_a_path_that_leaves_the_folder_is_never_written(
    store: Store, version: Version, tmp_path: Path, path: str
) -> None:
    digest = version.files[0].digest
    forged = dataclasses.replace(version, files=(ModelFile(path=path, size_bytes=5, digest=digest),))

    with pytest.raises(ModelError, match="leaves the model's folder"):
        download(StoreShelf(store), forged, tmp_path / "model")


def test_a_place_that_cannot_be_written_is_an_error(store: Store, version: Version, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(ModelError, match="cannot be written"):
        download(StoreShelf(store), version, tmp_path / "file" / "model")
