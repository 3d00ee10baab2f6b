"""The command line and the environment -> where things are kept and which engine starts runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner import homes

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from runner.models import Shelf
    from runner.pipeline import Workshop


PIPE_COLUMNS = 200


def workshop(asked: argparse.Namespace) -> Workshop:
    """From `--store`, `--engine` and PUSHTRAIN_HOME, _STORE, _ENGINE, _REGISTRY, else as the fleet's head has them."""
    from runner.pipeline import Workshop

    named = getattr(asked, "store", None) or _named_store()
    _enter_fleet()
    return Workshop(
        home=home(),
        store_uri=named or _own_store(),
        store_named=named is not None,
        engine_name=getattr(asked, "engine", None) or os.environ.get("PUSHTRAIN_ENGINE") or "local",
        registry=os.environ.get("PUSHTRAIN_REGISTRY") or None,
    )


def _enter_fleet() -> None:
    """Have the fleet's registry and its password in the environment, from which supervisors have them as well."""
    from runner.slurm.client import run_folder

    if not os.environ.get("PUSHTRAIN_REGISTRY") and (registry := _of_the_fleet("registry")):
        os.environ["PUSHTRAIN_REGISTRY"] = registry
    login = run_folder() / "docker"
    if not os.environ.get("DOCKER_CONFIG") and os.access(login / "config.json", os.R_OK):
        os.environ["DOCKER_CONFIG"] = str(login)


def shelf(asked: argparse.Namespace) -> Shelf:
    """Where models are: `--store`, which may also be github://OWNER/REPO, or the store."""
    from runner import models
    from runner.store import open_store

    chosen = getattr(asked, "store", None) or _store_uri()
    return models.open_shelf(chosen, store=open_store(_store_uri()), cache=home() / "cache" / "github")


def _store_uri() -> str:
    return _named_store() or _own_store()


def _named_store() -> str | None:
    return os.environ.get("PUSHTRAIN_STORE") or _of_the_fleet("store")


def _own_store() -> str:
    return str(home() / "store")


def _of_the_fleet(name: str) -> str | None:
    """What the head told the agent of this machine; None where there is no agent, or it was told of none."""
    from runner.slurm.client import run_folder

    try:
        told = json.loads((run_folder() / "agent.json").read_text())[name]
    except (OSError, ValueError, KeyError):
        return None
    return str(told) if told else None


def home() -> Path:
    """The folder of this machine's state."""
    return homes.home()


def console() -> Console:
    """Standard output, with colours on a terminal only; in a pipe a table is as wide as it needs."""
    import sys

    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def follow_every_s(store_uri: str) -> float:
    """How often a follower looks: a directory answers at once, S3 costs a request each time."""
    return 1.0 if store_uri.startswith("s3://") else 0.05
