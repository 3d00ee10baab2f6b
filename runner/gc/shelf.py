"""What a clean-up finds, kind by kind, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


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
