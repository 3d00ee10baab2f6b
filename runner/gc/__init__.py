"""A store and this machine's folders -> what nothing needs any more: told first, removed only when that is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from runner.gc import blobs, folders, images, needs
from runner.gc.shelf import Found, Looked, Removed, Shelf

if TYPE_CHECKING:
    from runner.store import Store

__all__ = ["Found", "Looked", "Removed", "Shelf", "removable", "shelves"]


def shelves(store: Store, home: Path, *, older_than_s: float, now_s: float) -> tuple[Shelf, ...]:
    """All kinds: those of this machine below `home`, then the blobs of the store. Raises StoreError."""
    wanted = needs.read(store)
    return (
        folders.venvs(home, wanted, older_than_s=older_than_s, now_s=now_s),
        folders.wheels(home, wanted, older_than_s=older_than_s, now_s=now_s),
        images.Images(wanted, older_than_s=older_than_s, cache=home / "cache"),
        folders.Sources(home / "cache", wanted, older_than_s=older_than_s),
        folders.commits(home, wanted, older_than_s=older_than_s, now_s=now_s),
        folders.datasets(home, wanted, older_than_s=older_than_s, now_s=now_s),
        folders.Probes(home / "cache" / "probes", older_than_s=older_than_s),
        folders.Scratch(home / "scratch", wanted, older_than_s=older_than_s),
        blobs.Blobs(store, now_s=now_s),
    )


def removable(found: Iterable[Found], *, now_s: float) -> tuple[Found, ...]:
    """Those that nobody needs and that lay unused for as long as their kind has to. Pure."""
    return tuple(each for each in found if not each.needed and now_s - each.used_at_s >= each.rests_s)
