"""What the Python inside the ranks tells of weights and files -> events for the supervisor, warnings for the run."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from runner.scan import is_within
from runner.writers import shared_files, written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.host.job import Job

WEIGHTS, WRITTEN = "weights", "written"
LINE_LIMIT_BYTES = 64 * 1024
READ_BYTES = 1 << 20


class Reports:
    """Reads what the ranks of one node appended since the last look. Trusts nothing: the files are the training's."""

    def __init__(self, job: Job) -> None:
        self._gang = job.gang_folder
        # With a folder for each rank, equal names are not equal files.
        self._looks_at_files = job.is_gang and not job.per_rank
        self._ranks = [p.rank for p in job.processes if job.is_gang and p.kind != "launcher"]
        self._offsets: dict[tuple[int, str], int] = {}
        self._written: dict[int, list[str]] = {rank: [] for rank in self._ranks}
        self._shared: tuple[str, ...] = ()

    def weights(self) -> Iterator[tuple[int, str]]:
        """New reports of weights, as (rank, line)."""
        for rank in self._ranks:
            for line in self._new(rank, WEIGHTS):
                yield rank, line

    def shared(self) -> tuple[str, ...] | None:
        """A sentence for each group of ranks that wrote the same files so far; None where nothing is new."""
        if not self._looks_at_files:
            return None
        for rank in self._ranks:
            self._written[rank] += written(self._new(rank, WRITTEN))
        now = shared_files(self._written)
        before, self._shared = self._shared, now
        return now if now != before else None

    def _new(self, rank: int, name: str) -> list[str]:
        path = self._gang / "ranks" / str(rank) / name
        offset = self._offsets.get((rank, name), 0)
        data = _read(path, offset=offset) if is_within(path.parent, self._gang) else b""
        end = data.rfind(b"\n") + 1
        self._offsets[(rank, name)] = offset + end
        lines = data[:end].splitlines()
        return [line.decode(errors="replace") for line in lines if len(line) <= LINE_LIMIT_BYTES]


def _read(path: Path, *, offset: int) -> bytes:
    """What a file has from `offset` on, empty where there is none; a link or a pipe is no file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(file, READ_BYTES, offset) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)
