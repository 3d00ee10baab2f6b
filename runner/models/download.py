"""A version -> a folder with its files, every digest verified."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import ModelError
from runner.models.shelf import Shelf
from runner.models.version import ModelFile, Version, faulty_path
from runner.store import Progress

logger = logging.getLogger(__name__)

_PARTIAL = ".pushtrain-partial-"


def download(shelf: Shelf, version: Version, destination: Path, *, progress: Progress | None = None) -> Path:
    """Brings a version's files to the folder `destination`, whole or not at all, and returns that folder.

    It must not exist, be empty, or hold exactly these files already, which is then verified: repeating is
    safe. `progress` is called with the bytes done since its last call. Raises ModelError where the folder
    holds anything else, NotFound or Corrupt where the shelf lost a file or has it damaged.
    """
    for file in version.files:
        if fault := faulty_path(file.path):
            raise ModelError(f"{version.name}@{version.version}: {file.path!r} is not written here: {fault}")
    if _filled(destination):
        _require_same(version, destination)
        return destination
    with _partial(destination) as folder:
        for file in version.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shelf.fetch(version, file, target, progress=progress)
        _move(folder, destination)
    logger.info("%s@%s is in %s", version.name, version.version, destination)
    return destination


def _filled(destination: Path) -> bool:
    if destination.is_dir():
        return any(not child.name.startswith(_PARTIAL) for child in destination.iterdir())
    if destination.exists() or destination.is_symlink():
        raise ModelError(f"{destination} is a file", tip="name a new folder")
    return False


@contextmanager
def _partial(destination: Path) -> Iterator[Path]:
    """A new folder on the file system of `destination`, gone afterwards unless it was renamed."""
    parent = destination if destination.is_dir() else destination.absolute().parent
    folder = parent / f"{_PARTIAL}{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise ModelError(
            f"{destination} cannot be written: {error.strerror}", tip="name another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, destination: Path) -> None:
    if not destination.is_dir():
        folder.rename(destination)
        return
    # An empty folder may be a mount point or the working directory, so it stays the one it is.
    for child in folder.iterdir():
        child.rename(destination / child.name)


def _require_same(version: Version, destination: Path) -> None:
    there = {str(path.relative_to(destination)) for path in destination.rglob("*") if not path.is_dir()}
    if there != {file.path for file in version.files} or not all(
        _same(destination / file.path, file) for file in version.files
    ):
        message = f"{destination} is not empty and holds something else than {version.name}@{version.version}"
        raise ModelError(message, tip="name a new folder, or remove this one first")


def _same(path: Path, file: ModelFile) -> bool:
    if path.is_symlink() or path.stat().st_size != file.size_bytes:
        return False
    with path.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == file.digest
