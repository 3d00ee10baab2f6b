"""A store and this machine's folders -> what nothing needs any more: told first, removed only when that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runner.store import Store


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something that takes room. `rests_s` is how long it lies unused before it may go; times in unix seconds."""

    kind: str
    name: str
    size_bytes: int
    used_at_s: float
    rests_s: float
    needed: bool


@dataclass(frozen=True, kw_only=True)
class Looked:
    """All of one kind; `note` says why the kind was passed over, and is empty where it was not."""

    found: tuple[Found, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What became of something that was to be removed; `kept` says why it is still there, empty where it is gone."""

    found: Found
    kept: str = ""


class Shelf(Protocol):
    """Things of one kind."""

    @property
    def kind(self) -> str:
        """What they are called, one of them."""

    def look(self) -> Looked:
        """What there is. Changes nothing."""

    def remove(self, chosen: Sequence[Found]) -> Iterator[Removed]:
        """Remove each, unless somebody came to need it meanwhile. Safe to repeat, at the same time too."""


def shelves(store: Store, home: Path, *, older_than_s: float, now_s: float) -> tuple[Shelf, ...]:
    """All kinds: those of this machine below `home`, then the blobs of the store. Raises StoreError."""
    from runner.gc import blobs, folders, images, needs

    wanted = needs.read(store)
    return (
        folders.venvs(home, wanted, older_than_s=older_than_s, now_s=now_s),
        images.Images(wanted, older_than_s=older_than_s),
        folders.Sources(home / "cache", wanted, older_than_s=older_than_s),
        folders.datasets(home, wanted, older_than_s=older_than_s, now_s=now_s),
        folders.Scratch(home / "scratch", wanted, older_than_s=older_than_s),
        blobs.Blobs(store, now_s=now_s),
    )


def removable(found: Iterable[Found], *, now_s: float) -> tuple[Found, ...]:
    """Those that nobody needs and that lay unused for as long as their kind has to. Pure."""
    return tuple(each for each in found if not each.needed and now_s - each.used_at_s >= each.rests_s)
