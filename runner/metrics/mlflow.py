"""MLflow, as the script uses it -> points, from its file store below the logs."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from runner.metrics.points import Point
from runner.metrics.position import LogFile, Position

logger = logging.getLogger(__name__)

STORE = "mlruns"
RUN_TAG = "pushtrain.run"

PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"


def tracking_environment(logs: Path, environ: Mapping[str, str], *, run_id: str = "") -> Mapping[str, str]:
    """The variables to add to `environ` so that MLflow in the script logs where it is read.

    Without a server of the user's own that is a file store in `logs` (the absolute path that the script
    sees), which MLflow 3 uses only when allowed. MLflow tags its runs with `run_id`, so that
    `mlflow_server.poll_remote` finds them.
    """
    added: dict[str, str] = {}
    if not environ.get("MLFLOW_TRACKING_URI"):
        added["MLFLOW_TRACKING_URI"] = (logs / STORE).as_uri()
        added["MLFLOW_ALLOW_FILE_STORE"] = "true"
    if run_id:
        added["MLFLOW_RUN_CONTEXT"] = json.dumps({**_context(environ), RUN_TAG: run_id})
    return added


def _context(environ: Mapping[str, str]) -> Mapping[str, object]:
    try:
        context = json.loads(environ.get("MLFLOW_RUN_CONTEXT", "{}"))
    except ValueError:
        return {}
    return context if isinstance(context, dict) else {}


def belongs(label: PurePath) -> bool:
    """True for a file of the file store; `label` is its path below the logs folder."""
    return label.parts[0] == STORE


def holds_metric(label: PurePath) -> bool:
    """True for `mlruns/EXPERIMENT/RUN/metrics/NAME`, where NAME may contain slashes."""
    return belongs(label) and len(label.parts) >= 5 and label.parts[3] == "metrics"


def read(file: LogFile) -> tuple[tuple[Point, ...], Position]:
    """The points of the whole lines `milliseconds value step` of one metric's file, and where to read on.

    Runs at the top share their names, so that a retry goes on with the curve; a nested run's metrics are
    named after it.
    """
    folder = file.path.parents[len(file.label.parts) - 4]
    name = _run_prefix(folder) + "/".join(file.label.parts[4:])
    points: list[Point] = []
    position = file.start
    with file.path.open("rb") as stream:
        stream.seek(position.offset_bytes)
        for line in stream:
            if not line.endswith(b"\n"):
                break
            points += _points(line, position.lines + 1, name, file.label)
            position = dataclasses.replace(
                position, offset_bytes=position.offset_bytes + len(line), lines=position.lines + 1
            )
    return tuple(points), position


def _run_prefix(folder: Path) -> str:
    if not (folder / "tags" / PARENT_TAG).exists():
        return ""
    name = folder / "tags" / NAME_TAG
    return f"{name.read_text().strip() if name.exists() else folder.name}/"


def _points(line: bytes, number: int, name: str, label: PurePath) -> Iterator[Point]:
    # A logged model's metrics have more columns after the step.
    match = re.match(rb"(\d+) (\S+) (-?\d+)\b", line)
    try:
        if match is None:
            raise ValueError(line)
        milliseconds, value, step = match.groups()
        yield Point(name=name, step=int(step), value=float(value), time_s=int(milliseconds) / 1000)
    except ValueError:
        logger.warning("%s:%d: not a metric of MLflow, skipped", label, number)
