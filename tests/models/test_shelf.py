"""What holds of every shelf: in a directory, in S3, and in the releases of GitHub."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.errors import Conflict, ModelError, StoreError, UsageError
from runner.models import (
    Promotion,
    Shelf,
    StoreShelf,
    Version,
    download,
    find,
    open_shelf,
    promote,
    rollback,
    stages,
    versions,
)
from runner.models.signing import kind_of
from runner.publish.shelf import GitHubShelf
from runner.store import Store, open_store
from tests.publish import made


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place where versions come to: `shelf` opens it anew, `add` makes one there as its product would."""

    shelf: Callable[[], Shelf]
    add: Callable[..., Version]


def in_store(store: Store, folder: Path) -> Place:
    def add(run: str = "run-1", name: str = "digits") -> Version:
        return made.version(store, folder, "c" * 40, run=run, name=name)

    return Place(shelf=lambda: StoreShelf(store), add=add)


def on_github(desk: made.Desk) -> Place:
    def add(run: str = "run-1", name: str = "digits") -> Version:
        commit = desk.repo.push("main", {run: name})
        version = desk.version(run=run, name=name, commit=commit)
        desk.publish(version)
        return version

    return Place(shelf=lambda: desk.shelf, add=add)


@pytest.fixture(params=["directory", "s3", "github"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    store = open_store(tmp_path / "store")
    if request.param == "github":
        return on_github(made.desk_of(request.getfixturevalue("github"), store, tmp_path))
    if request.param == "s3":
        store = open_store(request.getfixturevalue("s3_uri"))
    return in_store(store, tmp_path)


def give(place: Place, version: str, *, by: str = "ann", expected: int | None = None) -> Promotion:
    return promote(place.shelf(), "digits", version, "production", by=by, at_s=5.5, expected=expected)


def test_a_place_without_models_has_none(place: Place) -> None:
    shelf = place.shelf()

    assert (shelf.names(), shelf.numbers("digits"), stages(shelf, "digits")) == ((), (), {})
    with pytest.raises(ModelError, match="no model 'digits'"):
        find(shelf, "digits")


def test_a_version_is_found_as_it_was_made(place: Place) -> None:
    version = place.add()

    assert find(place.shelf(), "digits@1.0.0") == version
    assert find(place.shelf(), "digits@v1.0.0") == version


def test_names_are_sorted_and_versions_newest_first(place: Place) -> None:
    for run in range(3):
        place.add(run=f"run-{run}")
    place.add(name="another")

    shelf = place.shelf()
    assert shelf.names() == ("another", "digits")
    assert shelf.numbers("digits") == ("1.2.0", "1.1.0", "1.0.0")
    assert [each.lineage.run_id for each in versions(shelf, "digits")] == ["run-2", "run-1", "run-0"]
    assert find(shelf, "digits").version == "1.2.0"


@pytest.mark.parametrize("name", ["", "../digits", "digits/versions", "di"])
def test_what_is_no_model_has_no_versions_and_no_stages(place: Place, name: str) -> None:
    place.add()
    give(place, "1.0.0")

    assert place.shelf().numbers(name) == ()
    assert dict(place.shelf().stages(name)) == {}


def test_an_unknown_version_is_answered_with_those_there_are(place: Place) -> None:
    place.add()

    with pytest.raises(ModelError, match=r"no version 1\.0\.1 .*; there are 1\.0\.0"):
        find(place.shelf(), "digits@1.0.1")


def test_all_files_are_brought_verified(place: Place, tmp_path: Path) -> None:
    version = place.add()
    told: list[int] = []

    folder = download(place.shelf(), version, tmp_path / "model", progress=told.append)

    paths = (path for path in folder.rglob("*") if path.is_file())
    assert {str(path.relative_to(folder)): path.read_bytes() for path in paths} == made.FILES
    assert sum(told) == version.size_bytes


def test_a_promoted_version_stands_in_its_stage(place: Place) -> None:
    version = place.add()

    promotion = give(place, "1.0.0")

    assert promotion == Promotion(n=1, name="digits", version="1.0.0", stage="production", by="ann", at_s=5.5)
    assert stages(place.shelf(), "digits") == {"production": promotion}
    assert find(place.shelf(), "digits#production") == version


def test_promoting_what_stands_there_changes_nothing(place: Place) -> None:
    place.add()

    first = give(place, "1.0.0")

    assert give(place, "1.0.0", by="bob") == first


def test_each_rollback_goes_one_version_further_back(place: Place) -> None:
    for run in range(3):
        place.add(run=f"run-{run}")
        give(place, f"1.{run}.0")

    def back() -> tuple[int, str]:
        promotion = rollback(place.shelf(), "digits", "production", by="eve", at_s=6.0)
        return promotion.n, promotion.version

    assert [back(), back()] == [(4, "1.1.0"), (5, "1.0.0")]
    with pytest.raises(ModelError, match="nothing stood"):
        back()
    assert stages(place.shelf(), "digits")["production"].restores == 1


def test_of_many_promotions_at_once_one_wins_and_the_others_are_told_by_whom(place: Place) -> None:
    for run in range(4):
        place.add(run=f"run-{run}")

    def gives(number: int) -> Promotion | str:
        try:
            return give(place, f"1.{number}.0", by=f"user-{number}", expected=0)
        except ModelError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(gives, range(4)))

    (winner,) = (each for each in given if isinstance(each, Promotion))
    assert stages(place.shelf(), "digits") == {"production": winner}
    assert sum(f"{winner.by} was first" in each for each in given if isinstance(each, str)) == 3


def test_a_number_of_a_promotion_is_given_once(place: Place) -> None:
    place.add()
    promotion = give(place, "1.0.0")

    with pytest.raises(Conflict):
        place.shelf().add_promotion(dataclasses.replace(promotion, by="bob"))
    assert place.shelf().promotion("digits", "production", 1).by == "ann"


def test_a_promotion_may_be_by_anybody_of_any_name(place: Place) -> None:
    place.add()
    name = 'Ann "Ä" O\'Neil\n\nPushtrain-Promotion: {}\\ #@☃'

    assert give(place, "1.0.0", by=name).by == name
    assert stages(place.shelf(), "digits")["production"].by == name


def test_a_signed_statement_is_kept_once(place: Place) -> None:
    version = place.add()
    assert kind_of(place.shelf().statement(version) or b"") == "none"

    place.shelf().add_statement(version, b'{"payloadType": "x"}')

    assert place.shelf().statement(version) == b'{"payloadType": "x"}'
    with pytest.raises(Conflict):
        place.shelf().add_statement(version, b'{"payloadType": "y"}')


# Opening


def test_a_shelf_is_opened_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "t")

    assert open_shelf(str(tmp_path)).uri == tmp_path.as_uri()
    opened = open_shelf("github://lab/mnist")
    assert isinstance(opened, GitHubShelf)
    assert opened.uri == "github://lab/mnist"


@pytest.mark.parametrize("uri", ["github://", "github://lab", "github://lab/", "github://lab/mnist/x"])
def test_an_address_without_a_repository_is_an_error(uri: str) -> None:
    with pytest.raises(ModelError, match="names no repository"):
        open_shelf(uri)


def test_other_addresses_are_those_of_stores() -> None:
    with pytest.raises(StoreError, match=r"no store speaks gitlab://"):
        open_shelf("gitlab://lab/mnist")


def test_without_a_token_the_shelf_on_github_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_TOKEN", "PUSHTRAIN_TOKEN", "PUSHTRAIN_APP_ID"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(UsageError, match="no token"):
        open_shelf("github://lab/mnist")
