"""What the Python inside the ranks tells of weights and files -> events for the supervisor, warnings for the run."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from runner.host import nofollow
from runner.writers import shared_files, written

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.host.job import Job

WEIGHTS, WRITTEN = "weights", "written"
LINE_LIMIT_BYTES = 64 * 1024
READ_BYTES = 1 << 20
# As many files as a rank's own Python remembers (pushtrain_writes.MOST), and the bytes that tell of them.
MOST_FILES = 20_000
MOST_BYTES = 8 << 20


class Reports:
    """Reads what the ranks of one node appended since the last look. Trusts nothing: the files are the training's."""

    def __init__(self, job: Job) -> None:
        self._gang = job.gang_folder
        # With a folder for each rank, equal names in it are not equal files; logs are one folder all the same.
        self._own_outputs = job.per_rank
        self._ranks = [p.rank for p in job.processes if job.is_gang and p.kind != "launcher"]
        self._offsets: dict[tuple[int, str], int] = {}
        self._written: dict[int, dict[str, None]] = {rank: {} for rank in self._ranks}
        self._shared: tuple[str, ...] = ()

    def weights(self) -> Iterator[tuple[int, str]]:
        """New reports of weights, as (rank, line)."""
        for rank, lines in self._new(WEIGHTS, self._ranks).items():
            for line in lines:
                yield rank, line

    def shared(self) -> tuple[str, ...] | None:
        """A sentence for each group of ranks that wrote the same files so far; None where nothing is new."""
        news = self._new(WRITTEN, [rank for rank in self._ranks if not self._is_full(rank)])
        for rank, lines in news.items():
            room = MOST_FILES - len(self._written[rank])
            paths = [
                path for path in written(lines) if not (self._own_outputs and path.startswith("outputs/"))
            ]
            self._written[rank] |= dict.fromkeys(paths[:room])
        if not any(news.values()):
            return None
        before, self._shared = self._shared, shared_files(self._written)
        return self._shared if self._shared != before else None

    def _is_full(self, rank: int) -> bool:
        """Whether a rank has told more than is ever remembered."""
        return len(self._written[rank]) >= MOST_FILES or self._offsets.get((rank, WRITTEN), 0) >= MOST_BYTES

    def _new(self, name: str, ranks: list[int]) -> dict[int, list[str]]:
        """Whole new lines of the ranks that have any."""
        found: dict[int, list[str]] = {}
        with contextlib.suppress(OSError), nofollow.folder("ranks", below=self._gang) as folder:
            for rank in ranks:
                if lines := self._lines(rank, name, folder):
                    found[rank] = lines
        return found

    def _lines(self, rank: int, name: str, ranks: int) -> list[str]:
        offset = self._offsets.get((rank, name), 0)
        data = _read(f"{rank}", name, offset=offset, ranks=ranks)
        end = data.rfind(b"\n") + 1
        # A line that is longer than all that is read at once is nobody's, and must not be read again and again.
        self._offsets[rank, name] = offset + (end or (len(data) if len(data) == READ_BYTES else 0))
        lines = data[:end].splitlines()
        return [line.decode(errors="replace") for line in lines if len(line) <= LINE_LIMIT_BYTES]


def _read(rank: str, name: str, *, offset: int, ranks: int) -> bytes:
    """What a rank's file has from `offset` on, empty where there is none; a link or a pipe is no file."""
    try:
        with nofollow.folder(rank, below=ranks) as folder:
            file = nofollow.regular(name, within=folder)
    except OSError:
        return b""
    try:
        return os.pread(file, READ_BYTES, offset)
    finally:
        os.close(file)
