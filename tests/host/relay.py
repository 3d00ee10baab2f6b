"""`relay.py COMMAND…`: COMMAND with its input and output passed on, as by srun; stopped, it is a cable that is cut."""

from __future__ import annotations

import os
import subprocess
import sys
import threading


def main() -> None:
    child = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    threading.Thread(target=_copy, args=(0, child.stdin.fileno()), daemon=True).start()
    _copy(child.stdout.fileno(), 1)
    os._exit(child.wait())


def _copy(source: int, target: int) -> None:
    try:
        while data := os.read(source, 65536):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass
    os.close(target)


if __name__ == "__main__":
    main()
