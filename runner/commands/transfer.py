"""`pushtrain outputs RUN get PATH DEST`: files of a run -> this machine, verified, with progress."""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.manifest import FileEntry
    from runner.pipeline import Workshop
    from runner.runs import Run


def get(
    shop: Workshop, run: Run, files: Sequence[FileEntry], *, sealed: bool, path: str, destination: Path
) -> int:
    """Copy the file at `path`, or everything below it (`.` is all), to `destination`. Raises UsageError."""
    chosen = dict(_chosen(files, path, destination))
    if not chosen:
        raise UsageError(f"{run.id} has no output {path!r}", tip=f"pushtrain outputs {run.id}")
    total = sum(f.size_bytes for f in chosen.values())
    with bar(total) as advance:
        for target, entry in chosen.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            _bring(shop, run, entry, target, sealed=sealed, advance=advance)
    print(f"{len(chosen)} file{'' if len(chosen) == 1 else 's'} to {destination}")
    return 0


def _chosen(files: Sequence[FileEntry], path: str, destination: Path) -> Iterator[tuple[Path, FileEntry]]:
    root = PurePosixPath(path)
    for entry in files:
        pure = PurePosixPath(entry.path)
        if pure == root:
            yield (destination / pure.name if destination.is_dir() else destination), entry
        elif pure.is_relative_to(root):
            yield destination / pure.relative_to(root), entry


def _bring(
    shop: Workshop, run: Run, entry: FileEntry, target: Path, *, sealed: bool, advance: Callable[[int], None]
) -> None:
    from runner import manifest
    from runner.jobs import live_prefix

    if sealed:
        shop.store.get_blob(entry.digest, target, progress=advance)
    else:
        manifest.fetch(shop.store, live_prefix(run.id, 0), entry.path, target)
        advance(entry.size_bytes)
    target.chmod(0o755 if entry.executable else 0o644)


@contextlib.contextmanager
def bar(total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing in a pipe; yields what is to be called with the bytes done."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    terminal = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)
    task = progress.add_task("", total=total_bytes)
    with progress:
        yield lambda done: progress.advance(task, done)
