"""Two commands side by side, in turns: medians and what one costs against the other."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# Compiled modules are kept between commands, as they are for everybody who did not switch that off.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(
    argv: Sequence[str], *, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> float:
    """How long the command takes; it has to succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        argv, cwd=folder, env={**_ENVIRONMENT, **(env or {})}, capture_output=True, text=True
    )
    took = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return took


def report(name: str, ours: Sequence[float], theirs: Sequence[float], *, wanted: str) -> None:
    """Print the medians, their difference and their ratio beside what is wanted."""
    a, b = statistics.median(ours), statistics.median(theirs)
    print(
        f"{name}: {a * 1000:.0f} ms against {b * 1000:.0f} ms, "
        f"{(a - b) * 1000:+.0f} ms, ratio {a / b:.2f} ({len(ours)} pairs; wanted {wanted})"
    )


def load() -> str:
    """What else the machine does."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
