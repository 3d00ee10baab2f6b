"""A machine that was started for the fleet -> a process of its own that switches it off when it is alone."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.errors import EngineError
from runner.slurm.client import run_folder

OFF = "systemctl poweroff -i || poweroff || echo o >/proc/sysrq-trigger"
_APART = 'setsid "$@" >>"$0" 2>&1 </dev/null & echo $!'
SCRIPT = Path(__file__).with_name("deadman.sh")


@dataclass(frozen=True, kw_only=True)
class Timer:
    """What the process was told: the host it is, after how many seconds alone it ends, and the command for that."""

    name: str
    alone_s: int
    off: str = OFF


def start(timer: Timer) -> int:
    """Start it unless it runs, and return its pid. It needs a shell and no Python. Safe to repeat.

    Nothing of Pushtrain or Slurm has to be there: until the head was heard, the machine is alone. Raises EngineError.
    """
    run = run_folder()
    try:
        run.mkdir(parents=True, exist_ok=True)
        _write(run / "deadman.json", json.dumps(asdict(timer)))
        if pid := alive():
            return pid
        # A copy: what is installed may be replaced while it is read.
        _write(run / "deadman", SCRIPT.read_text())
        argv = [
            "sh",
            str(run / "deadman"),
            timer.name,
            str(timer.alone_s),
            str(run / "slurm.conf"),
            timer.off,
        ]
        # Nobody's child, so that whoever started it need not outlive it.
        apart = ["sh", "-c", _APART, str(run / "deadman.log"), *argv]
        done = subprocess.run(
            apart, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=True
        )
        _write(run / "deadman.pid", done.stdout.strip())
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(
            f"the timer of this machine did not start: {error}", tip="run it with sudo"
        ) from error
    return int(done.stdout)


def keep() -> None:
    """Start it again where it was started since the machine booted, and has died. For the agent, again and again."""
    noted = run_folder() / "deadman.json"
    if noted.exists() and not alive():
        start(Timer(**json.loads(noted.read_text())))


def alive() -> int | None:
    """Its pid, None where it does not run."""
    run = run_folder()
    try:
        pid = int((run / "deadman.pid").read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if os.fsencode(run / "deadman") in words and state != "Z" else None


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.rename(path)
