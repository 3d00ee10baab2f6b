"""Memory groups of the kernel, made for tests as root."""

from __future__ import annotations

import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 48 * 1024 * 1024
FIRST_VERSION = Path("/sys/fs/cgroup/memory")
SECOND_VERSION = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
# A child that joins the group before it runs: all that it allocates is the group's.
IN_GROUP = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); exec(sys.argv[2])"


@dataclass(frozen=True)
class Group:
    """A memory group of its own, and the file in which it counts."""

    folder: Path
    counter: str

    def run(self, code: str) -> int:
        """Run Python code in it; how it ended."""
        argv = [sys.executable, "-c", IN_GROUP, str(self.folder / "cgroup.procs"), code]
        return subprocess.run(argv, check=False).returncode


def made_group() -> Group | None:
    """A fresh group of either version with a limit; None where neither can be made."""
    for parent, limit, swap, counter in (
        (FIRST_VERSION, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
        *((root, "memory.max", "memory.swap.max", "memory.events") for root in SECOND_VERSION),
    ):
        folder = parent / f"pushtrain-test-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():
            (folder / limit).write_text(str(LIMIT_BYTES))
            if (folder / swap).exists():
                (folder / swap).write_text("0" if swap == "memory.swap.max" else str(LIMIT_BYTES))
            return Group(folder, counter)
        folder.rmdir()
    return None
