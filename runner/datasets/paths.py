"""Data on a file system of this host."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

from runner.datasets import Dataset, Pin, Progress, Where
from runner.datasets.contents import contents, listed
from runner.errors import DatasetError

_CHUNK_BYTES = 8 << 20


class Paths:
    """A file or folder, read where it is or copied."""

    def __init__(self, where: Where) -> None:
        self._where = where

    def pin(self, source: str) -> Pin:
        """See Backend.pin; hashes the content, from memory where it has not changed."""
        path = self._where.folder / Path(source).expanduser()
        if not path.exists():
            raise _missing(path, source)
        # The name of a link stays: programs look at what a file's name ends with.
        path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
        found = contents(path, cache=self._where.cache)
        return Pin(
            source=str(path),
            digest=found.digest,
            size_bytes=found.size_bytes,
            file_name=found.file_name,
        )

    def bring(self, dataset: Dataset, folder: Path, *, progress: Progress) -> None:
        """See Backend.bring; what was copied is compared afterwards."""
        shutil.rmtree(folder)
        for file in listed(Path(dataset.source)):
            target = folder / file.seen.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with Path(file.where).open("rb") as source, target.open("wb") as copy:
                while chunk := source.read(_CHUNK_BYTES):
                    copy.write(chunk)
                    progress(len(chunk))


def open_backend(where: Where) -> Paths:
    """Return the backend; it reads the cache for digests, and paths from the repository's folder."""
    return Paths(where)


def _missing(path: Path, source: str) -> DatasetError:
    from runner.document import closest

    for child, parent in pairwise((path, *path.parents)):
        if parent.is_dir():
            near = closest(child.name, (entry.name for entry in parent.iterdir()))
            guess = f"did you mean {parent / near}?" if near else f"{parent} has nothing of that name"
            return DatasetError(f"there is no {path} ({source} in train.yml)", tip=guess)
    return DatasetError(f"there is no {path}")
