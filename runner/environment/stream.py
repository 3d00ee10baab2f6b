"""A command line -> its output line by line as it comes, and all of it at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runner.environment import tether

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that ended: exit code (negative: the signal) and its last lines, of stdout and stderr."""

    code: int
    lines: tuple[str, ...]


_KEPT = 2000


def stream(
    argv: Sequence[str], *, env: Mapping[str, str], log: Log, cwd: str = "/", secrets: Sequence[str] = ()
) -> Ended:
    """Run `argv`, pass each line to `log`, return how it ended; `secrets` are blotted out of every line.

    Blocks until the end. An exception in between, such as KeyboardInterrupt, ends the process first; so does the
    end of this process, even by SIGKILL.
    """
    kept: list[str] = []
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for raw in process.stdout:
            line = _masked(raw.rstrip("\r\n"), secrets)
            kept = [*kept[-_KEPT:], line] if len(kept) > 2 * _KEPT else kept
            kept.append(line)
            log(line)
        return Ended(code=process.wait(), lines=tuple(kept))
    finally:
        _end(process)


def _masked(line: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if secret:
            line = line.replace(secret, "***")
    return line


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
