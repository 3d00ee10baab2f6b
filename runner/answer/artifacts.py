"""A run's outputs -> a folder for the job's artifact: the small ones, within the limits of `outputs:`."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.manifest import FileEntry
    from runner.plan import ArtifactLimits
    from runner.store import Store

# What the artifact of a job refuses in a path: https://github.com/actions/toolkit, path-and-artifact-name-validation.
_FORBIDDEN = frozenset('":<>|*?\r\n')


def small(files: Iterable[FileEntry], limits: ArtifactLimits) -> tuple[FileEntry, ...]:
    """The smallest files that fit into the limits together, sorted by path."""
    kept: list[FileEntry] = []
    size_bytes = 0
    for file in sorted(files, key=lambda each: (each.size_bytes, each.path)):
        if len(kept) == limits.count or size_bytes + file.size_bytes > limits.size_bytes:
            break
        if not _FORBIDDEN & set(file.path):
            kept.append(file)
            size_bytes += file.size_bytes
    return tuple(sorted(kept, key=lambda each: each.path))


def put(
    store: Store, files: Sequence[FileEntry], folder: Path, limits: ArtifactLimits, *, report: str
) -> None:
    """Fill `folder` anew: `report.md`, `files.json` that names all outputs, and the small ones. Raises StoreError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "report.md").write_text(report)
    (folder / "files.json").write_text(json.dumps([asdict(file) for file in files], indent=1) + "\n")
    for file in small(files, limits):
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.get_blob(file.digest, target)
        except NotFound:
            continue  # It is named in files.json, and `pushtrain outputs` tells what became of it.
