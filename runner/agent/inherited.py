"""The agent's process -> its environment, for programs that Slurm starts without one.

Slurm empties the environment of what it starts. A provider's credentials are read from the agent itself, so that they
stand neither in an argument nor in a file of ours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from runner.slurm.client import run_folder

# An agent that died is started again by systemd within seconds.
WITHIN_S = 30.0


def environment(*, within_s: float = WITHIN_S) -> Mapping[str, str]:
    """What the agent of this machine was started with; nothing where none runs, or it may not be read. Blocks."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            process = Path("/proc", (run_folder() / "agent.pid").read_text().strip())
            # A number that another program has by now is not the agent's.
            if b"runner.agent" in (process / "cmdline").read_bytes().split(b"\0"):
                return _read((process / "environ").read_bytes())
        except PermissionError:
            return {}
        except OSError:
            pass  # It is being started again.
        if time.monotonic() > deadline_s:
            return {}
        time.sleep(0.2)


def take_over() -> None:
    """Have it in this process too, but for what is set here already. Safe to repeat."""
    for name, value in environment().items():
        os.environ.setdefault(name, value)


def _read(content: bytes) -> dict[str, str]:
    words = (os.fsdecode(word).partition("=") for word in content.split(b"\0") if b"=" in word)
    return {name: value for name, _, value in words if name}
