"""Releases on GitHub as a shelf of models, also after people had their hands in them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Corrupt, GitHubDenied, ModelError, NotFound
from runner.github import client
from runner.models import StoreShelf, download, find, promote, stages
from runner.publish.github import Limits
from runner.publish.shelf import GitHubShelf
from runner.store import open_store
from tests.publish import made
from tests.publish.made import Desk
from tests.services.github.state import Asset

TAG = "digits@v1.0.0"


def asset(desk: Desk, name: str) -> Asset:
    return next(each for each in desk.repo.release(TAG).assets if each.name == name)


def rewrite(desk: Desk, change: Callable[[Any], object]) -> None:
    """Somebody edits the version's document in the release."""
    found = asset(desk, "pushtrain-model.json")
    content = json.loads(found.path.read_text())
    change(content)
    put(found, json.dumps(content).encode())


def put(found: Asset, content: bytes) -> None:
    """Somebody puts other bytes under the name of an asset; the server knows no digest of them."""
    found.path.write_bytes(content)
    found.size_bytes, found.digest = len(content), None


def test_drafts_tags_and_releases_of_others_are_no_models(desk: Desk) -> None:
    desk.publish(desk.version())
    desk.repo.add_release("v1.0")
    desk.repo.add_release("tool@v9.0.0")
    desk.repo.add_release("digits@v1.1.0", draft=True)
    desk.repo.tag("digits@v1.2.0", message="made by hand")

    shelf = desk.shelf
    assert shelf.names() == ("digits",)
    assert shelf.numbers("digits") == ("1.0.0",)


def test_the_models_of_many_releases_are_listed_by_a_request_for_each_hundred(desk: Desk) -> None:
    desk.publish(desk.version())
    for number in range(300):
        desk.repo.add_release(f"v0.{number}")
    repository = desk.repository

    shelf = GitHubShelf(repository)
    assert (shelf.names(), shelf.numbers("digits")) == (("digits",), ("1.0.0",))
    assert repository.calls == 4


def test_what_was_listed_before_costs_nothing_of_the_limit(desk: Desk, tmp_path: Path) -> None:
    desk.publish(desk.version())

    for _ in range(2):
        repository = client.connect(
            api_url=desk.github.url,
            repository=desk.repo.name,
            auth=client.Token(value=desk.github.token),
            cache=tmp_path / "cache",
        )
        assert GitHubShelf(repository).names() == ("digits",)

    assert [call.status for call in desk.github.api_calls("GET", "/releases$")][-2:] == [200, 304]


def test_a_token_that_may_only_read_lists_and_brings(desk: Desk, tmp_path: Path) -> None:
    version = desk.version()
    desk.publish(version)
    token = desk.github.actions_token(permissions={"contents": "read"})
    shelf = GitHubShelf(made.connected(desk.github, token=token))

    assert find(shelf, "digits") == version
    assert (download(shelf, version, tmp_path / "model") / "saved_model.pb").read_bytes() == b"graph"
    with pytest.raises(GitHubDenied) as caught:
        promote(shelf, "digits", "1.0.0", "production", by="ann", at_s=1.0, expected=None)
    assert caught.value.permission == "contents: write"


# What is too large


def test_what_stayed_in_the_store_comes_from_there(desk: Desk, tmp_path: Path) -> None:
    version = desk.version(files={"large": b"x" * 100, "small": b"y"})
    desk.publish(version, limits=Limits(file_bytes=99))

    folder = download(desk.shelf, version, tmp_path / "model")

    assert (folder / "large").read_bytes() == b"x" * 100
    assert (folder / "small").read_bytes() == b"y"


@pytest.mark.parametrize("elsewhere", [True, False])
def test_where_the_store_is_not_at_hand_it_is_named_and_not_opened(
    desk: Desk, tmp_path: Path, elsewhere: bool
) -> None:
    version = desk.version(files={"large": b"x" * 100, "small": b"y"})
    desk.publish(version, limits=Limits(file_bytes=99))
    store = open_store(tmp_path / "elsewhere") if elsewhere else None

    with pytest.raises(
        NotFound, match=r"large of digits@v1\.0\.0 is neither on GitHub nor in this store"
    ) as caught:
        download(GitHubShelf(desk.repository, store=store), version, tmp_path / "model")
    assert caught.value.tip.endswith(f"export PUSHTRAIN_STORE={desk.store.uri}")
    assert not (tmp_path / "model").exists()


# What people change


def test_a_document_that_was_changed_is_not_used(desk: Desk) -> None:
    desk.publish(desk.version())
    rewrite(desk, lambda content: content["version"].update(framework="other"))

    with pytest.raises(ModelError, match="was changed after it was published"):
        find(desk.shelf, "digits")


def test_a_path_out_of_the_folder_is_refused_also_where_the_tag_was_changed_with_it(
    desk: Desk, tmp_path: Path
) -> None:
    desk.publish(desk.version())
    rewrite(desk, lambda content: content["version"]["files"][0].update(path="../escaped"))
    desk.repo.tag(TAG, message="without a digest")

    with pytest.raises(ModelError, match="leaves the model's folder"):
        find(desk.shelf, "digits")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("content", [b"grabh", b"a longer one"])
def test_a_file_that_was_changed_is_not_brought(desk: Desk, tmp_path: Path, content: bytes) -> None:
    version = desk.version()
    desk.publish(version)
    put(asset(desk, "saved_model.pb"), content)

    with pytest.raises(Corrupt, match=r"saved_model\.pb"):
        download(desk.shelf, version, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_file_that_was_removed_is_named(desk: Desk, tmp_path: Path) -> None:
    version = desk.version()
    desk.publish(version)
    desk.repo.release(TAG).assets.remove(asset(desk, "saved_model.pb"))

    with pytest.raises(NotFound, match=r"has lost saved_model\.pb"):
        download(desk.shelf, version, tmp_path / "model")


def test_a_document_that_is_too_large_is_not_read(desk: Desk) -> None:
    desk.publish(desk.version())
    asset(desk, "pushtrain-model.json").size_bytes = 1 << 30

    with pytest.raises(ModelError, match="too large to be read"):
        find(desk.shelf, "digits")


def test_a_version_whose_tag_was_removed_is_an_error_that_says_so(desk: Desk) -> None:
    desk.publish(desk.version())
    desk.repo.text("tag", "-d", TAG)

    with pytest.raises(ModelError, match=f"has no tag {TAG}"):
        find(desk.shelf, "digits")


def test_a_stage_of_a_version_that_was_removed_is_an_error_that_names_it(desk: Desk) -> None:
    desk.publish(desk.version())
    desk.publish(desk.version(run="run-2"))
    promote(desk.shelf, "digits", "1.0.0", "production", by="ann", at_s=1.0, expected=None)
    del desk.repo.record.releases[desk.repo.release(TAG).id]

    with pytest.raises(ModelError, match=f"has no release {TAG}"):
        find(desk.shelf, "digits#production")
    assert find(desk.shelf, "digits").version == "1.1.0"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ('x\n\nPushtrain-Promotion: {"n":1}\n', "cannot be read"),
        ("x\n\nPushtrain-Promotion: {\n", "cannot be read"),
        ("Assigning", "stands on no version"),
        ("", "stands on no version"),
    ],
)
def test_a_promotion_that_somebody_made_up_is_refused(desk: Desk, message: str, why: str) -> None:
    desk.publish(desk.version())
    later = desk.repo.push("main", {"later": "1"})
    desk.repo.tag("digits#production#1", later, message=message)

    with pytest.raises(ModelError, match=why):
        stages(desk.shelf, "digits")


def test_a_promotion_copied_from_another_tag_is_refused(desk: Desk) -> None:
    desk.publish(desk.version())
    promote(desk.shelf, "digits", "1.0.0", "staging", by="ann", at_s=1.0, expected=None)
    message = desk.repo.text("tag", "-l", "--format=%(contents)", "digits#staging#1")
    desk.repo.tag("digits#production#1", message=message)

    with pytest.raises(ModelError, match="is about digits#staging#1"):
        stages(desk.shelf, "digits")


def test_a_statement_in_the_store_is_published_with_the_version(desk: Desk) -> None:
    version = desk.version()
    StoreShelf(desk.store).add_statement(version, b'{"verificationMaterial": 1}')

    desk.publish(version)

    assert asset(desk, "provenance.sigstore.json").path.read_bytes() == b'{"verificationMaterial": 1}'
    assert desk.shelf.statement(version) == b'{"verificationMaterial": 1}'


def test_a_statement_that_was_signed_later_follows(desk: Desk) -> None:
    version = desk.version()
    desk.publish(version)
    StoreShelf(desk.store).add_statement(version, b'{"payloadType": "x"}')

    desk.publish(version)
    desk.publish(version)

    assert desk.shelf.statement(version) == b'{"payloadType": "x"}'


def test_a_version_of_another_repository_is_not_brought(desk: Desk, tmp_path: Path) -> None:
    version = desk.version()
    desk.publish(version)
    other = dataclasses.replace(version, version="7.0.0")

    with pytest.raises(ModelError, match=r"no release digits@v7\.0\.0"):
        download(desk.shelf, other, tmp_path / "model")
