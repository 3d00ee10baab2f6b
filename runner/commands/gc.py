"""`pushtrain gc`: what nothing needs any more is told, and with `--yes` removed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.commands.shop import console, workshop
from runner.quantities import format_size

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from runner.gc import Found, Removed, Shelf


def collect(asked: argparse.Namespace) -> int:
    """Print what would be removed and how large it is; with --yes remove it, and print what was."""
    from runner import gc
    from runner.report import tables

    shop, now_s = workshop(asked), time.time()
    store = shop.store
    shelves = gc.shelves(store, shop.home, older_than_s=_seconds(asked.older_than), now_s=now_s)
    chosen = list(_choose(shelves, now_s=now_s))
    tables.garbage(console(), [found for _, each in chosen for found in each], now_s=now_s)
    if not asked.yes:
        if any(each for _, each in chosen):
            print("nothing was removed; to remove it: pushtrain gc --yes")
        return 0
    _report([removed for shelf, each in chosen for removed in shelf.remove(each)])
    if pieces := store.sweep():
        print(f"removed {pieces} pieces of transfers that were killed")
    return 0


def _seconds(text: str) -> float:
    from runner import quantities
    from runner.errors import UsageError

    try:
        return quantities.duration(text)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}", tip="pushtrain gc --older-than 30d") from error


def _choose(shelves: Sequence[Shelf], *, now_s: float) -> Iterator[tuple[Shelf, tuple[Found, ...]]]:
    from runner import gc

    for shelf in shelves:
        looked = shelf.look()
        if looked.note:
            print(f"{shelf.kind}s are left as they are: {looked.note}")
        yield shelf, gc.removable(looked.found, now_s=now_s)


def _report(all_of_them: Sequence[Removed]) -> None:
    gone = [each.found for each in all_of_them if not each.kept]
    if all_of_them:
        print(f"removed {len(gone)}, {format_size(sum(found.size_bytes for found in gone))}")
    for each in all_of_them:
        if each.kept:
            print(f"kept {each.found.kind} {each.found.name}: {each.kept}")
