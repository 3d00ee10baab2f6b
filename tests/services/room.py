"""Room on the disk for a run of all tests: what earlier ones kept goes, the longest unused first.

`python -m tests.services.room` before the tests: a run that has no room fails at whatever comes last.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runner.lock import held
from tests.fixtures.docker import cache_folder
from tests.services.slots import SLOTS, lock_of

# Seen: a run takes some 25 GB above what an earlier one kept, most of it images of the labs' hosts.
WANTED_GB = 30
_GB = 10**9


def make_room(cache: Path, wanted: int) -> list[Path]:
    """Deletes kept folders of `cache` that no running test has until `wanted` bytes are free; returns them."""
    deleted = []
    for folder, lock in sorted(_kept(cache), key=lambda each: each[0].stat().st_mtime):
        if shutil.disk_usage(cache).free >= wanted:
            break
        with held(lock) as free:
            if free:
                _delete(folder)
                deleted.append(folder)
    return deleted


def _kept(cache: Path) -> Iterator[tuple[Path, Path]]:
    """Folders, each of which is made again by the tests that miss it, and what is locked while tests have them."""
    for slot in range(SLOTS):
        for kind, lock in (("docker", "{}.lock"), ("lab", "lab-{}.lock")):
            folder = cache / f"{kind}-{slot}"
            if folder.is_dir():
                yield folder, lock_of(lock, slot)


def _delete(folder: Path) -> None:
    for mounted in sorted(_mounts(folder), reverse=True):
        subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _mounts(folder: Path) -> Iterator[str]:
    """What a daemon that was killed has left mounted."""
    with suppress(FileNotFoundError):
        for row in Path("/proc/self/mounts").read_text().splitlines():
            if (place := row.split()[1]).startswith(f"{folder}/"):
                yield place


def main() -> None:
    """Says what it deleted, and when there is too little room all the same."""
    if os.geteuid() != 0:
        return
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    if deleted := make_room(cache, WANTED_GB * _GB):
        print(f"deleted for room on the disk: {', '.join(each.name for each in deleted)}", file=sys.stderr)
    if (free := shutil.disk_usage(cache).free) < WANTED_GB * _GB:
        print(
            f"{free / _GB:.0f} GB are free for {cache}; all tests together have taken up to {WANTED_GB} GB:"
            " give them room, or name another folder with PUSHTRAIN_TEST_CACHE",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
