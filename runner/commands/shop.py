"""The command line and the environment -> where things are kept and which engine starts runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from runner.pipeline import Workshop


PIPE_COLUMNS = 200


def workshop(asked: argparse.Namespace) -> Workshop:
    """From `--store`, `--engine` and PUSHTRAIN_HOME, _STORE, _ENGINE, _REGISTRY."""
    from runner.pipeline import Workshop

    place = home()
    return Workshop(
        home=place,
        store_uri=getattr(asked, "store", None) or os.environ.get("PUSHTRAIN_STORE") or str(place / "store"),
        engine_name=getattr(asked, "engine", None) or os.environ.get("PUSHTRAIN_ENGINE") or "local",
        registry=os.environ.get("PUSHTRAIN_REGISTRY") or None,
    )


def home() -> Path:
    """The folder of this machine's state: PUSHTRAIN_HOME, else below the user's data folder."""
    if chosen := os.environ.get("PUSHTRAIN_HOME"):
        return Path(chosen).absolute()
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "pushtrain"


def console() -> Console:
    """Standard output, with colours on a terminal only; in a pipe a table is as wide as it needs."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def follow_every_s(store_uri: str) -> float:
    """How often a follower looks: a directory answers at once, S3 costs a request each time."""
    return 1.0 if store_uri.startswith("s3://") else 0.05
