"""Resolving and fetching with the same folder, store and cache every time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runner.datasets import Dataset, Mode, fetch, resolve
from runner.store import Store


@dataclass
class Desk:
    folder: Path
    store: Store
    cache: Path
    told_bytes: list[int] = field(default_factory=list)

    def resolve(self, source: str, mode: Mode = "download", digest: str | None = None) -> Dataset:
        return resolve("mnist", source, mode, digest, folder=self.folder, store=self.store, cache=self.cache)

    def fetch(self, dataset: Dataset) -> Path:
        return fetch(dataset, store=self.store, cache=self.cache, progress=self.told_bytes.append)

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }
