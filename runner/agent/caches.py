"""A host's images, sources, data sets, venvs, wheels -> those used longest ago are gone where they exceed a quota.

A host's agent may have no credentials for the store. What this host itself knows protects what is in use then: locks,
processes, containers, and when each was last used.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import quantities, runs
from runner.agent import docker_socket, inventory, needs
from runner.errors import Corrupt, EngineError, NotFound, PushtrainError, RunNotFound, StoreError, UsageError
from runner.gc import folders, images
from runner.gc import needs as running
from runner.slurm.client import run_folder
from runner.store import open_store

if TYPE_CHECKING:
    from runner.gc.shelf import Found, Shelf
    from runner.store import Store

logger = logging.getLogger(__name__)

DEFAULT_QUOTA = "50%"
BYTES = "cache-bytes"
# Down to this share of the quota, so that the next image does not call for the next eviction.
LOW_SHARE = 0.9
# What a run that is not known here may be about to use again, between its attempts.
UNKNOWN_RESTS_S = 24 * 3600.0
_MAPPED = ("exe", "cwd")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a look at the caches came to. `notes` say what was passed over, and what could not be removed."""

    quota_bytes: int
    before_bytes: int
    after_bytes: int
    evicted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def quota_bytes(text: str, disk_bytes: int) -> int:
    """Return the bytes of `200GiB`, or of a share of the disk: `50%`. Raises UsageError. Pure."""
    tip = "pushtrain agent start --cache-quota 200GiB, or 50% of the disk"
    try:
        if text.endswith("%"):
            share = float(text.removesuffix("%")) / 100
            if not 0 <= share <= 1:
                raise UsageError(f"--cache-quota {text}: more than all of the disk", tip=tip)
            return int(disk_bytes * share)
        return quantities.size(text)
    except ValueError as error:
        raise UsageError(f"--cache-quota {text}: {error}", tip=tip) from error


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What runs need, and how long anything else rests unused before it goes."""

    needs: running.Needs
    rests_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A disk on which shelves of these kinds lie; `kinds` is empty for the one with all others."""

    total_bytes: int
    free_bytes: int
    kinds: frozenset[str] = frozenset()

    @property
    def lacks_bytes(self) -> int:
        """What has to go for work to find room there."""
        spare_bytes = needs.spare_bytes(self.total_bytes)
        return exceeding(0, limit_bytes=0, free_bytes=self.free_bytes, spare_bytes=spare_bytes)


def keep(home: Path, store: Store, *, quota: str = DEFAULT_QUOTA, now_s: float | None = None) -> Kept:
    """Evict what exceeds the quota, or as much as a disk lacks for work; the rest is left as it is.

    Never what a run that has not ended needs, or a process or container of this host uses. Safe to repeat and at the
    same time as runs begin. Raises StoreError, UsageError; Docker that does not answer is passed over.
    """
    return _keep(home, lambda: Claims(needs=running.read(store)), quota=quota, now_s=now_s)


def keep_by_what_is_known(
    home: Path, store: str | None, *, quota: str = DEFAULT_QUOTA, now_s: float | None = None
) -> Kept:
    """As `keep`, and where the store or a run in it cannot be read: nothing that was used here within a day.

    Without a store it is not asked. Raises UsageError.
    """
    return _keep(home, lambda: known_claims(store), quota=quota, now_s=now_s)


def known_claims(store: str | None) -> Claims:
    """Those of all runs that can be read. Raises nothing of the store's."""
    if store is None:
        return Claims(needs=running.NONE, rests_s=UNKNOWN_RESTS_S)
    try:
        found, unread = running.readable(open_store(store))
    except StoreError as error:
        logger.warning("%s; evicted is what nothing here has used for a day", error)
        return Claims(needs=running.NONE, rests_s=UNKNOWN_RESTS_S)
    for each in unread:
        logger.warning("%s; evicted is what nothing here has used for a day", each)
    return Claims(needs=found, rests_s=UNKNOWN_RESTS_S if unread else 0.0)


def _keep(home: Path, claims: Callable[[], Claims], *, quota: str, now_s: float | None) -> Kept:
    now = time.time() if now_s is None else now_s
    disks = _disks(home)
    limit = quota_bytes(quota, sum(disk.total_bytes for disk in disks))
    looked = [(shelf, shelf.look()) for shelf in _shelves(home, Claims(needs=running.NONE), now_s=now)]
    before = sum(found.size_bytes for _, look in looked for found in look.found)
    notes = [f"{shelf.kind}s: {look.note}" for shelf, look in looked if look.note]
    over = exceeding(before, limit_bytes=limit, free_bytes=1, spare_bytes=0)
    kept = Kept(quota_bytes=limit, before_bytes=before, after_bytes=before, notes=tuple(notes))
    if not over and not any(disk.lacks_bytes for disk in disks):
        return kept
    shelves = _shelves(home, claims(), now_s=now)
    return _evict(home, shelves, kept, Room(over_bytes=over, disks=disks), now_s=now)


def _disks(home: Path) -> tuple[Disk, ...]:
    """That of the caches, and Docker's where it is another and can be seen from here."""
    own = _disk(home)
    root = docker_socket.images_folder()
    if root is None or root.stat().st_dev == home.stat().st_dev:
        return (own,)
    return (own, replace(_disk(root), kinds=frozenset({images.Images.kind})))


def _disk(place: Path) -> Disk:
    usage = shutil.disk_usage(place)
    return Disk(total_bytes=usage.total, free_bytes=usage.free)


def exceeding(total_bytes: int, *, limit_bytes: int, free_bytes: int, spare_bytes: int) -> int:
    """Return how many bytes have to go; 0 where all may stay. Pure."""
    too_much = total_bytes - int(limit_bytes * LOW_SHARE) if total_bytes > limit_bytes else 0
    too_little = 2 * spare_bytes - free_bytes if free_bytes < spare_bytes else 0
    return max(0, too_much, too_little)


def choose(found: Sequence[Found], *, over_bytes: int, now_s: float) -> tuple[Found, ...]:
    """Return those to evict, the one used longest ago first, until enough is free; none that is needed. Pure."""
    chosen: list[Found] = []
    free = 0
    for each in sorted(found, key=lambda each: each.used_at_s):
        if free >= over_bytes:
            break
        if not each.needed and now_s - each.used_at_s >= each.rests_s:
            chosen.append(each)
            free += each.size_bytes
    return tuple(chosen)


@dataclass(frozen=True, kw_only=True)
class Room:
    """What has to go: `over_bytes` of anything, and on each disk what it lacks."""

    over_bytes: int
    disks: tuple[Disk, ...]


def choose_on_disks(found: Sequence[Found], room: Room, *, now_s: float) -> tuple[Found, ...]:
    """As `choose`: on each disk what it lacks, and then what the quota wants besides. Pure."""
    apart = frozenset[str]().union(*(disk.kinds for disk in room.disks))
    chosen: list[Found] = []
    for disk in room.disks:
        there = [
            each for each in found if each.kind in disk.kinds or (not disk.kinds and each.kind not in apart)
        ]
        chosen += choose(there, over_bytes=disk.lacks_bytes, now_s=now_s)
    left = [each for each in found if each not in chosen]
    more_bytes = room.over_bytes - sum(each.size_bytes for each in chosen)
    return (*chosen, *choose(left, over_bytes=more_bytes, now_s=now_s))


def tidy(home: Path, store: Store) -> tuple[str, ...]:
    """Remove the folders of runs that went on and ended on other hosts; returns whose. Safe to repeat.

    Of a run that trained and whose files the store does not have for good nothing is removed. Raises StoreError.
    """
    shelf = folders.Scratch(home / "scratch", running.NONE, older_than_s=0.0)
    over = [found for found in shelf.look().found if not found.needed and _is_over(store, found.name)]
    removed = tuple(result.found.name for result in shelf.remove(over) if not result.kept)
    for name in removed:
        logger.info("removed: what %s left here; it ended elsewhere", name)
    return removed


def _is_over(store: Store, run_id: str) -> bool:
    try:
        run = runs.load(store, run_id)
        if run.attempts:
            store.read(runs.key(run_id, "outputs.json"))
    except (Corrupt, NotFound, RunNotFound):
        return False
    return run.state.ended


def _evict(home: Path, shelves: Sequence[Shelf], kept: Kept, room: Room, *, now_s: float) -> Kept:
    used = in_use(home)
    found = [
        (shelf, replace(each, needed=each.needed or each.name in used))
        for shelf in shelves
        for each in shelf.look().found
    ]
    chosen = choose_on_disks([each for _, each in found], room, now_s=now_s)
    removed = [
        result
        for shelf in shelves
        for result in shelf.remove([each for owner, each in found if owner is shelf and each in chosen])
    ]
    gone = [result.found for result in removed if not result.kept]
    for each in gone:
        logger.info("evicted: %s %s, %s", each.kind, each.name, quantities.format_size(each.size_bytes))
    return replace(
        kept,
        after_bytes=kept.before_bytes - sum(each.size_bytes for each in gone),
        evicted=tuple(f"{each.kind} {each.name}" for each in gone),
        notes=(*kept.notes, *(f"{r.found.kind} {r.found.name}: {r.kept}" for r in removed if r.kept)),
    )


def _shelves(home: Path, claims: Claims, *, now_s: float) -> tuple[Shelf, ...]:
    """Those of a host's caches; what a run kept or left behind is for `pushtrain gc`."""
    wanted, rests_s = claims.needs, claims.rests_s
    return (
        folders.venvs(home, wanted, older_than_s=rests_s, now_s=now_s),
        folders.wheels(home, wanted, older_than_s=rests_s, now_s=now_s),
        images.Images(wanted, older_than_s=rests_s, cache=home / "cache"),
        folders.Sources(home / "cache", wanted, older_than_s=rests_s),
        folders.datasets(home, wanted, older_than_s=rests_s, now_s=now_s),
    )


def in_use(home: Path) -> frozenset[str]:
    """Return the names of what containers and processes of this host use now: data sets, venvs, images.

    Also of runs that are in no store that is known here.
    """
    places = [home / "envs", home / "cache" / "datasets"]
    used = [*_mounted(), *_of_processes()]
    names = {
        Path(path).relative_to(place).parts[0]
        for path in used
        for place in places
        if Path(path).is_relative_to(place) and Path(path) != place
    }
    return frozenset(names) | _images()


def _mounted() -> list[str]:
    return [
        mount["Source"] for row in _containers() for mount in row.get("Mounts", ()) if mount.get("Source")
    ]


def _images() -> frozenset[str]:
    """All names of the images that containers were made of: Docker would let go all but the last."""
    containers = _containers()
    used = {row["ImageID"] for row in containers}
    rows = [row for row in _listed("/images/json") if row["Id"] in used]
    names = {name for row in rows for names in (row["RepoTags"], row["RepoDigests"]) for name in names or ()}
    return frozenset(names | {row["Image"] for row in containers})


def _containers() -> list[dict[str, Any]]:
    return _listed("/containers/json?all=1")


def _listed(path: str) -> list[dict[str, Any]]:
    try:
        return list(docker_socket.get(path))
    except EngineError:
        return []  # Docker keeps what its containers use, and takes nothing away while it does not answer.


def _of_processes() -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found += [os.readlink(entry / name) for name in _MAPPED]  # noqa: PTH115  # text is compared
            found.append((entry / "cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace"))
        except OSError:
            continue  # It ended meanwhile, or is the kernel's.
    return found


def _tidy_if_known(home: Path, store: str | None) -> None:
    try:
        if store is not None:
            tidy(home, open_store(store))
    except StoreError as error:
        logger.warning("%s; what runs left here that ended elsewhere stays", error)


def note(kept: Kept) -> None:
    """Write what the caches take, for the metrics."""
    folder = run_folder()
    if folder.is_dir():
        part = folder / f".{BYTES}.part"
        part.write_text(f"{kept.after_bytes}\n")
        part.rename(folder / BYTES)


def main(argv: Sequence[str]) -> int:
    """`caches [--store URI] [--home DIR] [--quota 200GiB]`: what was evicted, as JSON."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    reader = argparse.ArgumentParser(prog="python -m runner.agent.caches")
    reader.add_argument("--store")
    reader.add_argument("--home", type=Path, default=inventory.default_home())
    reader.add_argument("--quota", default=DEFAULT_QUOTA)
    asked = reader.parse_args(argv)
    try:
        _tidy_if_known(asked.home, asked.store)
        kept = keep_by_what_is_known(asked.home, asked.store, quota=asked.quota)
    except PushtrainError as error:
        logger.error("nothing is evicted: %s", error)
        return error.exit_code
    note(kept)
    sys.stdout.write(json.dumps(asdict(kept)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
