"""The engine `local`: processes on this machine in a cached venv; no Docker, no daemon, no account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.engines.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


def engine(*, home: Path, store: str) -> Machine:
    """The engine of this module."""
    return Machine(home=home, store=store)
