import dataclasses
import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import ModelError
from runner.models import (
    Bump,
    DataUsed,
    Draft,
    EnvironmentUsed,
    Lineage,
    ModelFile,
    Resources,
    StoreShelf,
    blobs,
    find,
    register,
    valid_name,
    versions,
)
from runner.store import Store, open_store

LINEAGE = Lineage(
    commit="c" * 40,
    branch="main",
    dirty=False,
    tree="t" * 40,
    plan_hash="p",
    run_id="run-1",
    environment=EnvironmentUsed(kind="venv", key="k", digest=None),
    data=(DataUsed(name="mnist", digest="sha256:" + "d" * 64),),
    inputs={"rate": 0.1, "batch": 50, "name": "1", "fast": True},
    metrics={"accuracy": 0.97, "loss": math.inf},
    started_by="ann",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def shelf(store: Store) -> StoreShelf:
    return StoreShelf(store)


def put(store: Store, tmp_path: Path, path: str, content: bytes) -> ModelFile:
    source = tmp_path / hashlib.sha256(content).hexdigest()
    source.write_bytes(content)
    blob = store.put_blob(source)
    return ModelFile(path=path, size_bytes=blob.size_bytes, digest=blob.digest)


@pytest.fixture
def file(store: Store, tmp_path: Path) -> ModelFile:
    return put(store, tmp_path, "saved_model.pb", b"weights")


def draft(*files: ModelFile, run: str = "run-1", name: str = "digits", bump: Bump = "minor") -> Draft:
    return Draft(
        name=name,
        bump=bump,
        framework="tensorflow",
        framework_version="2.15.1",
        resources=Resources(cpu=1.0, memory_bytes=512 * 2**20),
        files=files,
        lineage=dataclasses.replace(LINEAGE, run_id=run),
        created_at_s=1000.5,
    )


def test_a_version_is_found_as_it_was_registered(store: Store, shelf: StoreShelf, file: ModelFile) -> None:
    version = register(store, draft(file))

    assert find(shelf, "digits@1.0.0") == version
    assert (version.version, version.tag, version.size_bytes) == ("1.0.0", "digits@v1.0.0", 7)
    assert version.lineage == LINEAGE


@pytest.mark.parametrize(("bump", "expected"), [("major", "2.0.0"), ("minor", "1.1.0"), ("patch", "1.0.1")])
def test_the_next_version_raises_the_part_that_the_draft_names(
    store: Store, file: ModelFile, bump: Bump, expected: str
) -> None:
    register(store, draft(file))

    assert register(store, draft(file, run="run-2", bump=bump)).version == expected


@pytest.mark.parametrize(
    ("after", "expected"), [("1.4.2", "1.5.0"), ("1.0.0", "1.1.0"), ("0.9.0", "1.1.0"), ("not one", "1.1.0")]
)
def test_the_next_version_is_newer_than_the_one_that_is_known_elsewhere(
    store: Store, file: ModelFile, after: str, expected: str
) -> None:
    register(store, draft(file))

    assert register(store, dataclasses.replace(draft(file, run="run-2"), after=after)).version == expected


def test_the_first_version_here_follows_the_one_that_is_known_elsewhere(
    store: Store, file: ModelFile
) -> None:
    assert register(store, dataclasses.replace(draft(file), after="3.1.0")).version == "3.2.0"


def test_the_same_run_gets_its_version_again(store: Store, shelf: StoreShelf, file: ModelFile) -> None:
    first = register(store, draft(file))
    register(store, draft(file, run="run-2"))

    assert register(store, draft(file)) == first
    assert len(list(versions(shelf, "digits"))) == 2


def test_runs_that_register_at_once_each_get_a_version(store: Store, file: ModelFile) -> None:
    drafts = [draft(file, run=f"run-{number}") for number in range(8)]
    with ThreadPoolExecutor(len(drafts)) as pool:
        registered = list(pool.map(lambda one: register(store, one), drafts))

    assert {version.version for version in registered} == {f"1.{minor}.0" for minor in range(8)}
    assert {version.lineage.run_id for version in registered} == {one.lineage.run_id for one in drafts}


def test_versions_are_newest_first_by_number(store: Store, shelf: StoreShelf, file: ModelFile) -> None:
    for number in range(12):
        register(store, draft(file, run=f"run-{number}"))

    found = [version.version for version in versions(shelf, "digits")]
    assert (found[0], found[1], found[-1]) == ("1.11.0", "1.10.0", "1.0.0")
    assert find(shelf, "digits").version == "1.11.0"


def test_a_version_is_found_with_the_v_of_its_tag(store: Store, shelf: StoreShelf, file: ModelFile) -> None:
    version = register(store, draft(file))

    assert find(shelf, version.tag) == version


def test_a_file_that_the_store_lacks_is_refused_by_name(store: Store, shelf: StoreShelf) -> None:
    lost = ModelFile(path="model/weights", size_bytes=1, digest="sha256:" + "0" * 64)

    with pytest.raises(ModelError, match=r"model/weights .* is not in the store") as caught:
        register(store, draft(lost))

    assert caught.value.tip == "pushtrain resume run-1"
    assert shelf.names() == ()


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../../b", "", ".", "a//b", "a\\b", "./a", "a/"])
def test_a_path_that_is_not_below_the_model_is_refused(store: Store, file: ModelFile, path: str) -> None:
    with pytest.raises(ModelError, match="cannot be registered"):
        register(store, draft(dataclasses.replace(file, path=path)))


def test_a_model_without_files_is_refused(store: Store) -> None:
    with pytest.raises(ModelError, match="no file to register"):
        register(store, draft())


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("tf-dnn-mnist", True),
        ("A_1", True),
        ("7", True),
        ("-a", False),
        ("a-", False),
        ("a/b", False),
        ("a@b", False),
        ("a#b", False),
        ("ä", False),
        ("", False),
        ("a\n", False),
        ("a" * 101, False),
    ],
)
def test_names_are_those_that_a_tag_of_gto_can_carry(
    store: Store, file: ModelFile, name: str, valid: bool
) -> None:
    assert valid_name(name) is valid
    if not valid:
        with pytest.raises(ModelError, match="cannot name a model"):
            register(store, draft(file, name=name))


def test_an_unknown_model_is_answered_with_the_nearest(
    store: Store, shelf: StoreShelf, file: ModelFile
) -> None:
    register(store, draft(file))

    with pytest.raises(ModelError, match=r"no model 'digit' \(did you mean digits\?\)"):
        find(shelf, "digit")


def test_an_unknown_version_is_answered_with_those_there_are(
    store: Store, shelf: StoreShelf, file: ModelFile
) -> None:
    register(store, draft(file))
    register(store, draft(file, run="run-2"))

    with pytest.raises(ModelError, match=r"no version 1.0.1 .*; there are 1.1.0, 1.0.0"):
        find(shelf, "digits@1.0.1")


@pytest.mark.parametrize("reference", ["", "@", "#", "digits@", "digits#", "../digits", "digits/versions"])
def test_a_malformed_reference_is_a_model_error(
    store: Store, shelf: StoreShelf, file: ModelFile, reference: str
) -> None:
    register(store, draft(file))

    with pytest.raises(ModelError):
        find(shelf, reference)


def test_a_store_without_models_has_no_names(shelf: StoreShelf) -> None:
    assert shelf.names() == ()
    assert list(versions(shelf, "digits")) == []


def test_names_are_sorted(store: Store, shelf: StoreShelf, file: ModelFile) -> None:
    register(store, draft(file, name="b"))
    register(store, draft(file, name="a", run="run-2"))

    assert shelf.names() == ("a", "b")


def test_every_blob_that_a_version_refers_to_is_told(store: Store, tmp_path: Path, file: ModelFile) -> None:
    other = put(store, tmp_path, "b", b"other")
    register(store, draft(file))
    register(store, draft(other, name="second", run="run-2"))

    assert blobs(store) == {file.digest, other.digest}


def test_a_version_with_a_field_of_tomorrow_is_an_error_that_names_it(
    store: Store, shelf: StoreShelf, file: ModelFile
) -> None:
    register(store, draft(file))
    key = "models/digits/versions/1.0.0.json"
    store.write(key, json.dumps({**json.loads(store.read(key)), "signature": "s"}).encode())

    with pytest.raises(ModelError, match="signature"):
        find(shelf, "digits")
