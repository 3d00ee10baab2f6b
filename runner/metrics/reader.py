"""A logs folder -> the points that are new since the last look."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from runner.metrics import jsonl, mlflow, tensorboard
from runner.metrics.points import Point
from runner.metrics.position import LogFile, Position

logger = logging.getLogger(__name__)

_EVENTS = "tfevents"
_LINES = "metrics.jsonl"

# Folders that tools name after the moment: `20261121-211312` (TensorFlow's tutorials), `Nov21_21-13-12_host`
# (PyTorch's SummaryWriter).
_MOMENT = re.compile(r"\d{8}[-_T]?\d{4,6}|[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d(_.*)?")


class Reader:
    """Follows the metrics below one logs folder; the folder need not exist yet.

    Read are TensorBoard's event files and files named `metrics.jsonl` anywhere below it, and the MLflow file
    store `mlruns` in it. Metrics of a subfolder are named after it, as TensorBoard does:
    `train/epoch_accuracy`. Folders named after the moment are left out of names, so that the metrics of two
    runs, or of a run and its retry, have the same names.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._positions: dict[Path, Position] = {}

    def poll(self) -> tuple[Point, ...]:
        """The points that came since the last call, file by file and in file order.

        Costs one walk over the folder when there are none. Half-written lines and records wait for the next
        call. A file that was truncated or written anew is read again from its start; one that cannot be read
        is a warning. Links are not followed.
        """
        points: list[Point] = []
        for path, label in _files(self._logs):
            points += self._poll_file(path, label)
        return tuple(points)

    def _poll_file(self, path: Path, label: PurePath) -> tuple[Point, ...]:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return ()
        start = self._positions.get(path, Position())
        if start.replaced(found):
            start = Position()
        if not stat.S_ISREG(found.st_mode) or start.unreadable or start.unchanged(found):
            return ()
        points, end = _read(path, label, start, found.st_mtime)
        self._positions[path] = end.seen(found)
        return points


def _files(logs: Path) -> Iterator[tuple[Path, PurePath]]:
    for folder, folders, names in os.walk(logs):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            label = path.relative_to(logs)
            if mlflow.holds_metric(label) or (not mlflow.belongs(label) and _by_name(name)):
                yield path, label


def _by_name(name: str) -> bool:
    return _EVENTS in name or name == _LINES


def _read(
    path: Path, label: PurePath, start: Position, modified_s: float
) -> tuple[tuple[Point, ...], Position]:
    file = LogFile(path=path, label=label, prefix=_prefix(label), start=start, modified_s=modified_s)
    try:
        if mlflow.belongs(label):
            return mlflow.read(file)
        return jsonl.read(file) if label.name == _LINES else tensorboard.read(file)
    except FileNotFoundError:
        return (), start
    except OSError as error:
        logger.warning("%s: cannot be read: %s", label, error.strerror)
        return (), start


def _prefix(label: PurePath) -> str:
    return "".join(f"{part}/" for part in label.parts[:-1] if not _MOMENT.fullmatch(part))
