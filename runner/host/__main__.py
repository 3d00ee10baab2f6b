"""`python -m runner.host SCRATCH LEASE_S IMPORTS`: one host's process, from its first command to its last."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

from runner.host.service import Service

if __name__ == "__main__":
    if sys.argv[3]:
        # The Docker SDK takes 0.2 s, in which the supervisor looks for the image.
        threading.Thread(target=importlib.import_module, args=(sys.argv[3],), daemon=True).start()
    sys.exit(Service(Path(sys.argv[1]), lease_s=float(sys.argv[2])).run())
