"""An agent's endpoint over HTTP, with the fake NVML's GPUs, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = "a" * 64
_PROGRAM = """
import sys
from runner.agent import endpoint, metrics
snapshot = metrics.Snapshot(
    version="0.1.0", slurm="22.05.8", disk_free_bytes=10**12, cache_bytes=5, strangers_ended=2,
    daemons={"munged": True, "slurmd": False}, restarts={"slurmd": 3},
    slots=("GPU-fake-1", "GPU-fake-0"), leases={"GPU-fake-0": "mnist-1a2b"},
)
served = endpoint.serve(sys.argv[1], 0, sys.argv[2], text=lambda: metrics.text(lambda: snapshot))
print(served.port, flush=True)
sys.stdin.read()
served.close()
"""


@dataclass(frozen=True, kw_only=True)
class Agent:
    address: str
    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/metrics"


@contextlib.contextmanager
def agent(
    *, gpus: str = "NVIDIA H100 80GB HBM3:2", address: str = "127.0.0.1", state: Path | None = None
) -> Iterator[Agent]:
    fakes = Path(__file__).parents[1] / "fakes"
    environ = {
        **os.environ,
        "PYTHONPATH": str(fakes),
        "FAKE_GPUS": gpus,
        "FAKE_GPU_STATE": str(state or "/nonexistent"),
    }
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, address, TOKEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Agent(address=address, port=int(process.stdout.readline()), pid=process.pid)
        finally:
            process.stdin.close()
