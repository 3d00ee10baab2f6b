"""`python -m runner.host SCRATCH LEASE_S IMPORTS`: one host's process, from its first command to its last.

On a machine that the supervisor reaches over the network: `python -m runner.host RUN/node-K LEASE_S IMPORTS remote`,
with the host's own PUSHTRAIN_HOME in the environment.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from pathlib import Path

from runner.host.service import RemoteService, Service


def main(place: str, lease_s: str, imports: str, *how: str) -> int:
    """Be the host process. Returns the exit code."""
    if imports:
        # The Docker SDK takes 0.2 s, in which the supervisor looks for the image.
        threading.Thread(target=importlib.import_module, args=(imports,), daemon=True).start()
    if how == ("remote",):
        return RemoteService(Path(os.environ["PUSHTRAIN_HOME"]), place, lease_s=float(lease_s)).run()
    return Service(Path(place), lease_s=float(lease_s)).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
