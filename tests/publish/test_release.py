"""A run's version is signed and published, under a number of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner import models
from runner.models import StoreShelf, find, mirror, promote
from runner.models.provenance import Origin
from runner.models.signing import keygen
from runner.publish.release import Released, release
from runner.store import Store, open_store
from tests.publish import made
from tests.publish.made import Desk


def released(desk: Desk, store: Store, version: models.Version, **environ: str) -> Released:
    return release(
        desk.repository,
        store,
        version,
        bump="minor",
        origin=Origin(),
        server_url="https://github.example",
        environ=environ,
    )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Store:
    return open_store(tmp_path / "elsewhere")


def test_a_version_is_signed_and_published(desk: Desk, tmp_path: Path) -> None:
    keygen(tmp_path / "team.key")
    version = desk.version()

    done = released(desk, desk.store, version, PUSHTRAIN_SIGNING_KEY_FILE=str(tmp_path / "team.key"))

    assert (done.version, done.notes) == (version, ())
    assert done.url.endswith("digits%40v1.0.0")
    assert "provenance.intoto.jsonl" in {each.name for each in desk.repo.release(version.tag).assets}


def test_a_number_that_another_store_took_meanwhile_costs_no_release(
    desk: Desk, elsewhere: Store, tmp_path: Path
) -> None:
    desk.publish(desk.version())
    version = made.version(elsewhere, tmp_path, desk.repo.head(), run="run-2")

    done = released(desk, elsewhere, version)

    assert done.notes == ("digits@v1.0.0 was taken on GitHub by another run, so this is digits@v1.1.0",)
    assert find(desk.shelf, "digits@1.1.0").lineage.run_id == "run-2"
    assert find(desk.shelf, "digits@1.0.0").lineage.run_id == "run-1"
    assert find(StoreShelf(elsewhere), "digits@1.1.0") == done.version


def test_publishing_under_another_number_is_safe_to_repeat(
    desk: Desk, elsewhere: Store, tmp_path: Path
) -> None:
    desk.publish(desk.version())
    version = made.version(elsewhere, tmp_path, desk.repo.head(), run="run-2")
    first = released(desk, elsewhere, version)
    before = len(desk.github.api_calls("POST"))

    assert released(desk, elsewhere, version) == first
    assert len(desk.github.api_calls("POST")) == before


def test_stores_that_publish_at_once_get_a_number_each(desk: Desk, tmp_path: Path) -> None:
    def one(number: int) -> Released:
        folder = tmp_path / f"store-{number}"
        folder.mkdir()
        store = open_store(folder / "store")
        version = made.version(store, folder, desk.repo.head(), run=f"run-{number}")
        return released(desk, store, version)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(one, range(3)))

    assert {each.version.version for each in done} == {"1.0.0", "1.1.0", "1.2.0"}
    assert {each.tag for each in desk.repo.releases()} == {each.version.tag for each in done}
    assert not any(each.draft for each in desk.repo.releases())
    assert {find(desk.shelf, each.version.tag).lineage.run_id for each in done} == {"run-0", "run-1", "run-2"}


def test_a_promotion_on_github_is_given_in_the_store_too(desk: Desk) -> None:
    version = desk.version()
    desk.publish(version)
    promotion = promote(desk.shelf, "digits", "1.0.0", "production", by="ann", at_s=1.0, expected=None)
    kept = StoreShelf(desk.store)

    given = mirror(kept, promotion, version)

    assert given == promotion
    assert mirror(kept, promotion, version) == given
    assert find(kept, "digits#production") == version


def test_a_version_of_the_same_number_but_another_run_is_given_no_stage(
    desk: Desk, elsewhere: Store, tmp_path: Path
) -> None:
    version = desk.version()
    desk.publish(version)
    made.version(elsewhere, tmp_path, desk.repo.head(), run="run-2")
    promotion = promote(desk.shelf, "digits", "1.0.0", "production", by="ann", at_s=1.0, expected=None)

    assert mirror(StoreShelf(elsewhere), promotion, version) is None
    assert models.stages(StoreShelf(elsewhere), "digits") == {}


def test_a_store_without_the_version_is_left_alone(desk: Desk, elsewhere: Store) -> None:
    version = desk.version()
    desk.publish(version)
    promotion = promote(desk.shelf, "digits", "1.0.0", "production", by="ann", at_s=1.0, expected=None)

    assert mirror(StoreShelf(elsewhere), promotion, version) is None
