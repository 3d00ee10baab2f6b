"""A store whose appends fail when they are told to, before or after they did their work."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from runner.errors import StoreError
from runner.store.directory import DirectoryStore


class FailingStore(DirectoryStore):
    """`fails` is what the next append does; it works again afterwards."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fails: Literal["", "before", "half-way", "answer lost"] = ""

    def append(self, key: str, data: bytes, *, offset: int) -> None:
        fails, self.fails = self.fails, ""
        if fails == "before":
            raise StoreError("no answer")
        super().append(key, data[: len(data) // 2] if fails == "half-way" else data, offset=offset)
        if fails:
            raise StoreError("no answer")
