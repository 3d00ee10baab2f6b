"""`python -m runner.host SCRATCH LEASE_S`: one host's process, from its first command to its last."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.host.service import Service

if __name__ == "__main__":
    sys.exit(Service(Path(sys.argv[1]), lease_s=float(sys.argv[2])).run())
