"""The first process of the container in which a run lives: starts the command, says how it ended, stays for the rest.

As the first process it is the parent of all that others left, among them a run's supervisor; it ends with the last.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "runner.cli", "github", "event")
HEARD_WITHIN_S = 10
RESULTS_FOR_S = 7 * 24 * 3600
_PR_SET_DUMPABLE = 4


def main() -> int:
    """Blocks until no other process is left."""
    # Our environment and memory hold the job's secrets: processes of this container shall not read them.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    told = json.loads(sys.stdin.buffer.readline())
    env = {**os.environ, **told["env"], "PYTHONSAFEPATH": "1"}
    _forget_old(Path(env["PUSHTRAIN_RESULTS"]).parent)
    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    command = subprocess.Popen(COMMAND, env=env, stdin=subprocess.DEVNULL)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, _: command.send_signal(number))
    code = _reap_until(command.pid)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, _: os.kill(-1, number))
    sys.stdout.write(f"{told['word']} {code}\n")
    sys.stdout.flush()
    deadline_s = time.monotonic() + HEARD_WITHIN_S
    while not heard and time.monotonic() < deadline_s:
        time.sleep(0.02)
    _reap_until(None)
    return 0


def _reap_until(pid: int | None) -> int:
    """Wait for children until that one ended; the code that a shell has for it. Without one, until none is left."""
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            return 0
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _forget_old(results: Path) -> None:
    """Reports and artifacts are for the steps that follow; the run's own are in the store."""
    for path in results.glob("*-*"):
        if path.stat().st_mtime < time.time() - RESULTS_FOR_S:
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
