from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runner.errors import ModelError
from runner.models import ModelFile, Promotion, Resources, Version
from runner.publish import document
from runner.publish.document import OURS, asset_names, digest_of
from tests.publish import made

DIGEST = "sha256:" + "1" * 64
PROMOTION = Promotion(n=3, name="digits", version="1.2.0", stage="production", by="ann", at_s=5.5)


def file(path: str, size_bytes: int = 1) -> ModelFile:
    return ModelFile(path=path, size_bytes=size_bytes, digest=DIGEST)


def version(*files: ModelFile) -> Version:
    return Version(
        name="digits",
        version="1.2.0",
        framework=None,
        framework_version=None,
        resources=Resources(cpu=None, memory_bytes=None),
        files=files,
        lineage=made.lineage("c" * 40),
        created_at_s=1.0,
    )


def test_a_file_is_an_asset_with_a_name_that_github_leaves_as_it_is() -> None:
    assert asset_names(["saved_model.pb", "variables/variables.data-00000-of-00001", "a (1)..ü.txt"]) == {
        "saved_model.pb": "saved_model.pb",
        "variables/variables.data-00000-of-00001": "variables.variables.data-00000-of-00001",
        "a (1)..ü.txt": "a.1.txt",
    }


@given(some.lists(some.text(min_size=1, max_size=300), unique=True, max_size=20))
def test_every_path_has_a_safe_name_of_its_own(paths: list[str]) -> None:
    names = asset_names([*paths, "a/b", "a.b", "A.B", "pushtrain-model.json", "...", "x" * 300])

    assert len({name.casefold() for name in [*names.values(), *OURS]}) == len(names) + len(OURS)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) for name in names.values())
    assert max(map(len, names.values())) <= 150


def test_the_names_are_the_same_each_time() -> None:
    paths = ["a/b", "a.b", "a b", "..."]
    assert asset_names(paths) == asset_names(paths)


def test_what_is_too_large_or_too_much_or_empty_is_no_asset() -> None:
    found = document.document(
        version(file("large", 11), file("a", 10), file("empty", 0), file("b"), file("c")),
        store_uri="s3://bucket/team",
        file_limit_bytes=10,
        files_limit=2,
    )

    assert found.assets == {"a": "a", "b": "b"}
    assert found.store == "s3://bucket/team"


def test_the_store_is_told_only_where_something_stays_there() -> None:
    assert document.document(version(file("a"), file("empty", 0)), store_uri="/srv/models").store is None


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("file:///srv/models", "file:///srv/models"),
        (
            "s3://b/p?endpoint=http://ann:pw@host:1&region=r&attempts=2",
            "s3://b/p?endpoint=http://host:1&region=r",
        ),
        ("s3://b/p?attempts=2", "s3://b/p"),
    ],
)
def test_a_store_is_told_without_passwords_and_without_what_changes_from_call_to_call(
    uri: str, told: str
) -> None:
    assert document.document(version(file("a", 9)), store_uri=uri, file_limit_bytes=1).store == told


def loaded(content: bytes, digest: str | None = None) -> document.Document:
    return document.load_document(content, tag="digits@v1.2.0", digest=digest)


def test_a_document_is_read_as_it_was_written() -> None:
    written = document.document(version(file("a"), file("b/c")), store_uri="/srv")
    content = document.dump_document(written)

    assert loaded(content, digest_of(content)) == written


def test_a_document_that_is_not_the_one_of_the_tag_is_refused() -> None:
    content = document.dump_document(document.document(version(file("a")), store_uri="/srv"))

    with pytest.raises(ModelError, match="was changed after it was published"):
        loaded(content, DIGEST)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made["version"].update(version="1.3.0"), "is about 'digits@v1.3.0'"),
        (lambda made: made["version"].update(name="../digits"), "is about"),
        (
            lambda made: made["version"]["files"][0].update(path="../../etc/passwd"),
            "leaves the model's folder",
        ),
        (lambda made: made["version"]["files"][0].update(digest="md5:1"), "no digest"),
        (lambda made: made["version"]["files"].append(made["version"]["files"][0]), "twice"),
        (lambda made: made["assets"].update(a="pushtrain-model.json"), "one of its own assets"),
        (lambda made: made.update(format=2), "format"),
        (lambda made: made.update(signature="s"), "signature"),
    ],
)
def test_a_document_that_somebody_changed_is_refused(change: object, message: str) -> None:
    content = json.loads(document.dump_document(document.document(version(file("a")), store_uri="/srv")))
    change(content)  # type: ignore[operator]  # a function of the cases above

    with pytest.raises(ModelError, match=re.escape(message)):
        loaded(json.dumps(content).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"pushtrain-model\.json of the release digits@v1\.2\.0"):
        loaded(content)


def test_a_versions_tag_says_in_words_and_for_machines_where_it_came_from() -> None:
    message = document.version_message(version(file("a")), DIGEST)

    assert message.startswith(f"digits 1.2.0\n\nTrained from commit {'c' * 40} by run run-1.\n")
    note = document.version_note(message)
    assert (note.run_id, note.document) == ("run-1", DIGEST)


def test_a_tag_of_somebody_else_tells_nothing() -> None:
    note = document.version_note("Registering artifact digits version v1.2.0")
    assert (note.run_id, note.document) == (None, None)


def test_a_promotions_tag_carries_the_promotion() -> None:
    promotion = dataclasses.replace(PROMOTION, restores=1)
    message = document.promotion_message(promotion)

    assert message.startswith("digits 1.2.0 is production again, by ann\n")
    assert document.promotion_note(message, tag=promotion.tag) == promotion


def test_a_name_with_a_line_break_forges_no_trailer() -> None:
    forged = dataclasses.replace(PROMOTION, by='eve\nPushtrain-Promotion: {"n":1}')
    message = document.promotion_message(forged)

    assert document.promotion_note(message, tag=PROMOTION.tag) == forged


def test_a_promotion_of_another_tag_is_refused() -> None:
    with pytest.raises(ModelError, match="is about digits#production#3"):
        document.promotion_note(document.promotion_message(PROMOTION), tag="digits#production#4")


def test_a_tag_without_a_promotion_tells_none() -> None:
    assert document.promotion_note("Assigning stage", tag=PROMOTION.tag) is None


@pytest.mark.parametrize(
    ("tag", "read"),
    [
        ("digits@v1.2.0", ("digits", "1.2.0")),
        ("digits@1.2.0", None),
        ("@scope/digits@v1.2.0", None),
        ("digits#production#3", None),
        ("-x@v1.0.0", None),
    ],
)
def test_a_versions_tag_is_told_from_others(tag: str, read: tuple[str, str] | None) -> None:
    assert document.read_version_tag(tag) == read


@pytest.mark.parametrize(
    ("tag", "read"),
    [
        ("digits#production#3", ("digits", "production", 3)),
        ("digits#production", None),
        ("digits#production!#3", None),
        ("digits#production#0", None),
        ("digits#production#03", None),
        ("digits@v1.2.0", None),
    ],
)
def test_a_promotions_tag_is_told_from_others(tag: str, read: tuple[str, str, int] | None) -> None:
    assert document.read_promotion_tag(tag) == read
