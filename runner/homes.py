"""The environment -> the folder in which this machine keeps its state: runs, caches, leases of GPUs."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """PUSHTRAIN_HOME, else a folder below the user's data folder. A host without an agent has the same, see on-host."""
    if chosen := os.environ.get("PUSHTRAIN_HOME"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pushtrain"
