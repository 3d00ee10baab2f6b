from pathlib import Path

import pytest

from runner.errors import ModelError
from runner.models import Promotion, find, promote, register, rollback, stages
from runner.store import Store
from runner.store.directory import DirectoryStore
from tests.models.test_registry import draft, put


class Overtaken(DirectoryStore):
    """A store in which somebody else promotes just before each promotion that is made through it."""

    def __init__(self, root: Path, version: str) -> None:
        super().__init__(root)
        self._other = DirectoryStore(root)
        self._version = version

    def create(self, key: str, data: bytes) -> str:
        promote(self._other, "digits", self._version, "production", by="bob", at_s=1.0, expected=None)
        return super().create(key, data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = DirectoryStore(tmp_path / "store")
    file = put(store, tmp_path, "model", b"weights")
    for number in range(4):
        register(store, draft(file, run=f"run-{number}"))
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return DirectoryStore(root)


def give(store: Store, minor: int, *, stage: str = "production", expected: int | None = None) -> Promotion:
    return promote(store, "digits", f"1.{minor}.0", stage, by="ann", at_s=5.0, expected=expected)


def back(store: Store) -> str:
    return rollback(store, "digits", "production", by="ann", at_s=6.0).version


def test_a_promoted_version_stands_in_its_stage(store: Store) -> None:
    promotion = give(store, 1)

    assert promotion.tag == "digits#production#1"
    assert stages(store, "digits") == {"production": promotion}
    assert find(store, "digits#production").version == "1.1.0"


def test_stages_are_independent_and_the_latest_promotion_counts(store: Store) -> None:
    for minor in [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]:
        give(store, minor)
    give(store, 3, stage="staging")

    assert {name: (one.n, one.version) for name, one in stages(store, "digits").items()} == {
        "production": (11, "1.2.0"),
        "staging": (1, "1.3.0"),
    }


def test_promoting_what_stands_there_already_changes_nothing(store: Store) -> None:
    first = give(store, 1)

    assert give(store, 1) == first
    assert give(store, 1, expected=0) == first


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told_by_whom(root: Path, store: Store) -> None:
    with pytest.raises(ModelError, match=r"bob was first: 1\.2\.0 stands in digits#production") as caught:
        give(Overtaken(root, "1.2.0"), 1)

    assert caught.value.tip.endswith("pushtrain promote digits@1.1.0 production")
    assert find(store, "digits#production").version == "1.2.0"


def test_of_two_promotions_of_one_version_at_once_both_are_told_who_gave_it(root: Path, store: Store) -> None:
    promotion = give(Overtaken(root, "1.1.0"), 1, expected=0)

    assert (promotion.n, promotion.version, promotion.by) == (1, "1.1.0", "bob")
    assert stages(store, "digits") == {"production": promotion}


def test_a_promotion_over_one_that_was_not_seen_is_refused(store: Store) -> None:
    seen = give(store, 0).n
    give(store, 1)

    with pytest.raises(ModelError, match="ann was first"):
        give(store, 2, expected=seen)
    assert give(store, 2, expected=2).n == 3


def test_an_unknown_version_cannot_be_promoted(store: Store) -> None:
    with pytest.raises(ModelError, match=r"no version 9\.0\.0"):
        promote(store, "digits", "9.0.0", "production", by="ann", at_s=0, expected=None)


def test_a_stage_has_a_name_that_a_tag_can_carry(store: Store) -> None:
    with pytest.raises(ModelError, match="cannot name a stage"):
        give(store, 1, stage="../x")


def test_an_unknown_stage_is_answered_with_the_nearest(store: Store) -> None:
    give(store, 1)

    with pytest.raises(ModelError, match=r"did you mean production\?"):
        find(store, "digits#prodcution")


def test_each_rollback_goes_one_version_further_back(store: Store) -> None:
    for minor in (0, 1, 2):
        give(store, minor)

    assert [back(store), back(store)] == ["1.1.0", "1.0.0"]
    with pytest.raises(ModelError, match=r"nothing stood in digits#production before 1\.0\.0"):
        back(store)


def test_a_rollback_after_a_new_promotion_goes_to_what_stood_before_that(store: Store) -> None:
    for minor in (0, 1, 2):
        give(store, minor)
    back(store)
    give(store, 3)

    assert [back(store), back(store)] == ["1.1.0", "1.0.0"]


def test_a_rollback_is_a_new_promotion_that_says_which_one_it_restores(store: Store) -> None:
    give(store, 0)
    give(store, 1)

    promotion = rollback(store, "digits", "production", by="eve", at_s=6.0)

    assert (promotion.n, promotion.version, promotion.by, promotion.restores) == (3, "1.0.0", "eve", 1)
    assert stages(store, "digits")["production"] == promotion


def test_promoting_the_version_that_was_rolled_back_to_takes_it_as_it_stands(store: Store) -> None:
    give(store, 0)
    give(store, 1)
    back(store)

    assert give(store, 0).n == 3


@pytest.mark.parametrize(("name", "stage"), [("digit", "production"), ("digits", "staging")])
def test_nothing_can_be_rolled_back_where_nothing_stood(store: Store, name: str, stage: str) -> None:
    give(store, 0)

    with pytest.raises(ModelError):
        rollback(store, name, stage, by="ann", at_s=0)


def test_a_rollback_that_somebody_overtakes_is_told(root: Path, store: Store) -> None:
    give(store, 0)
    give(store, 1)

    with pytest.raises(ModelError, match="bob was first") as caught:
        back(Overtaken(root, "1.3.0"))

    assert caught.value.tip.endswith("pushtrain rollback digits production")
