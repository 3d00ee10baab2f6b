"""A growing file -> how far it was read, and whether there is more."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path, PurePath


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far one file was read: bytes and lines consumed, and what the file looked like then."""

    offset_bytes: int = 0
    lines: int = 0
    size_bytes: int = 0
    modified_ns: int = 0
    inode: int = 0
    unreadable: bool = False

    def seen(self, stat: os.stat_result) -> Position:
        """The same position, with what the file looked like before it was read that far."""
        return dataclasses.replace(
            self, size_bytes=stat.st_size, modified_ns=stat.st_mtime_ns, inode=stat.st_ino
        )

    def unchanged(self, stat: os.stat_result) -> bool:
        """True where the file is exactly as it was after the last read."""
        return (self.size_bytes, self.modified_ns, self.inode) == (
            stat.st_size,
            stat.st_mtime_ns,
            stat.st_ino,
        )

    def replaced(self, stat: os.stat_result) -> bool:
        """True where the file was truncated or written anew, so that reading starts over."""
        return self.inode != stat.st_ino or stat.st_size < self.offset_bytes


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """A file to read on from `start`; `prefix` is put before the names of its metrics."""

    path: Path
    label: PurePath
    prefix: str
    start: Position
    modified_s: float
