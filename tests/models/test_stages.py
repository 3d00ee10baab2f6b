from pathlib import Path

import pytest

from runner.errors import ModelError
from runner.models import Promotion, Shelf, StoreShelf, find, promote, register, rollback, stages
from runner.store.directory import DirectoryStore
from tests.models.test_registry import draft, put


class Overtaken(DirectoryStore):
    """A store in which somebody else promotes just before each promotion that is made through it."""

    def __init__(self, root: Path, version: str) -> None:
        super().__init__(root)
        self._other = DirectoryStore(root)
        self._version = version

    def create(self, key: str, data: bytes) -> str:
        promote(
            StoreShelf(self._other), "digits", self._version, "production", by="bob", at_s=1.0, expected=None
        )
        return super().create(key, data)


def overtaken(root: Path, version: str) -> Shelf:
    return StoreShelf(Overtaken(root, version))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = DirectoryStore(tmp_path / "store")
    file = put(store, tmp_path, "model", b"weights")
    for number in range(4):
        register(store, draft(file, run=f"run-{number}"))
    return tmp_path / "store"


@pytest.fixture
def shelf(root: Path) -> Shelf:
    return StoreShelf(DirectoryStore(root))


def give(shelf: Shelf, minor: int, *, stage: str = "production", expected: int | None = None) -> Promotion:
    return promote(shelf, "digits", f"1.{minor}.0", stage, by="ann", at_s=5.0, expected=expected)


def back(shelf: Shelf) -> str:
    return rollback(shelf, "digits", "production", by="ann", at_s=6.0).version


def test_a_promoted_version_stands_in_its_stage(shelf: Shelf) -> None:
    promotion = give(shelf, 1)

    assert promotion.tag == "digits#production#1"
    assert stages(shelf, "digits") == {"production": promotion}
    assert find(shelf, "digits#production").version == "1.1.0"


def test_stages_are_independent_and_the_latest_promotion_counts(shelf: Shelf) -> None:
    for minor in [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]:
        give(shelf, minor)
    give(shelf, 3, stage="staging")

    assert {name: (one.n, one.version) for name, one in stages(shelf, "digits").items()} == {
        "production": (11, "1.2.0"),
        "staging": (1, "1.3.0"),
    }


def test_promoting_what_stands_there_already_changes_nothing(shelf: Shelf) -> None:
    first = give(shelf, 1)

    assert give(shelf, 1) == first
    assert give(shelf, 1, expected=0) == first


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told_by_whom(root: Path, shelf: Shelf) -> None:
    with pytest.raises(ModelError, match=r"bob was first: 1\.2\.0 stands in digits#production") as caught:
        give(overtaken(root, "1.2.0"), 1)

    assert caught.value.tip.endswith("pushtrain promote digits@1.1.0 production")
    assert find(shelf, "digits#production").version == "1.2.0"


def test_of_two_promotions_of_one_version_at_once_both_are_told_who_gave_it(root: Path, shelf: Shelf) -> None:
    promotion = give(overtaken(root, "1.1.0"), 1, expected=0)

    assert (promotion.n, promotion.version, promotion.by) == (1, "1.1.0", "bob")
    assert stages(shelf, "digits") == {"production": promotion}


def test_a_promotion_over_one_that_was_not_seen_is_refused(shelf: Shelf) -> None:
    seen = give(shelf, 0).n
    give(shelf, 1)

    with pytest.raises(ModelError, match="ann was first"):
        give(shelf, 2, expected=seen)
    assert give(shelf, 2, expected=2).n == 3


def test_an_unknown_version_cannot_be_promoted(shelf: Shelf) -> None:
    with pytest.raises(ModelError, match=r"no version 9\.0\.0"):
        promote(shelf, "digits", "9.0.0", "production", by="ann", at_s=0, expected=None)


def test_a_stage_has_a_name_that_a_tag_can_carry(shelf: Shelf) -> None:
    with pytest.raises(ModelError, match="cannot name a stage"):
        give(shelf, 1, stage="../x")


def test_an_unknown_stage_is_answered_with_the_nearest(shelf: Shelf) -> None:
    give(shelf, 1)

    with pytest.raises(ModelError, match=r"did you mean production\?"):
        find(shelf, "digits#prodcution")


def test_each_rollback_goes_one_version_further_back(shelf: Shelf) -> None:
    for minor in (0, 1, 2):
        give(shelf, minor)

    assert [back(shelf), back(shelf)] == ["1.1.0", "1.0.0"]
    with pytest.raises(ModelError, match=r"nothing stood in digits#production before 1\.0\.0"):
        back(shelf)


def test_a_rollback_after_a_new_promotion_goes_to_what_stood_before_that(shelf: Shelf) -> None:
    for minor in (0, 1, 2):
        give(shelf, minor)
    back(shelf)
    give(shelf, 3)

    assert [back(shelf), back(shelf)] == ["1.1.0", "1.0.0"]


def test_a_rollback_is_a_new_promotion_that_says_which_one_it_restores(shelf: Shelf) -> None:
    give(shelf, 0)
    give(shelf, 1)

    promotion = rollback(shelf, "digits", "production", by="eve", at_s=6.0)

    assert (promotion.n, promotion.version, promotion.by, promotion.restores) == (3, "1.0.0", "eve", 1)
    assert stages(shelf, "digits")["production"] == promotion


def test_promoting_the_version_that_was_rolled_back_to_takes_it_as_it_stands(shelf: Shelf) -> None:
    give(shelf, 0)
    give(shelf, 1)
    back(shelf)

    assert give(shelf, 0).n == 3


@pytest.mark.parametrize(("name", "stage"), [("digit", "production"), ("digits", "staging")])
def test_nothing_can_be_rolled_back_where_nothing_stood(shelf: Shelf, name: str, stage: str) -> None:
    give(shelf, 0)

    with pytest.raises(ModelError):
        rollback(shelf, name, stage, by="ann", at_s=0)


def test_a_rollback_that_somebody_overtakes_is_told(root: Path, shelf: Shelf) -> None:
    give(shelf, 0)
    give(shelf, 1)

    with pytest.raises(ModelError, match="bob was first") as caught:
        back(overtaken(root, "1.3.0"))

    assert caught.value.tip.endswith("pushtrain rollback digits production")
