"""`python -m runner.slurm.roll [--end RUN] [--drop RUN]`: what the host that it runs on has for this job, as JSON.

`--end` first ends what an earlier supervisor of the run left there, `--drop` removes the run's folder as well.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from runner import gpus
from runner.errors import EngineError
from runner.host.leash import KILLED_WITHIN_S, Unkillable
from runner.slurm.allocated import given
from runner.slurm.client import run_folder


def here(peers: dict[str, str]) -> dict[str, Any]:
    """This host: its name in the cluster, the interface by which it reaches its `peers`, its GPUs of this job."""
    host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    others = [address for name, address in peers.items() if name != host]
    interface, address, network = _interface(others[0] if others else "127.0.0.1")
    return {
        "host": host,
        "name": socket.gethostname(),
        "address": address,
        "interface": interface,
        "network": network,
        "cpus": float(os.cpu_count() or 1),
        "gpus": _uuids(),
        "home": os.environ["PUSHTRAIN_HOME"],
    }


def _interface(towards: str) -> tuple[str, str, str]:
    """Name, address and network of the interface by which `towards` is reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect((towards, 9))  # Sends nothing: the kernel chooses the way.
        address = line.getsockname()[0]
    text = subprocess.run(
        ["ip", "-json", "-4", "address", "show"], capture_output=True, text=True, check=True
    ).stdout
    for interface in json.loads(text):
        for each in interface["addr_info"]:
            if each["local"] == address:
                network = ipaddress.ip_network(f"{each['local']}/{each['prefixlen']}", strict=False)
                return interface["ifname"], each["local"], str(network)
    return "lo", address, "127.0.0.0/8"


def _uuids() -> list[str]:
    """The GPUs that Slurm gave: it counts them in the order of its gres.conf, which the agent wrote down."""
    numbers = given(os.environ)
    if not numbers:
        return []
    try:
        known = [each["uuid"] for each in json.loads((run_folder() / "gpus.json").read_text())]
    except FileNotFoundError:
        known = [each.uuid for each in gpus.discover()]
    return [known[number] if number < len(known) else str(number) for number in numbers]


def end(run_id: str, *, within_s: float = KILLED_WITHIN_S) -> None:
    """End every process and container of a run on this host. Safe to repeat. Raises DockerAway, Unkillable."""
    from runner.host import leash
    from runner.host.containers import end_run

    try:
        leash.end_processes(f"{run_id}:", grace_s=0, within_s=within_s)
    except Unkillable:
        # Docker cannot end it either, and may say so in words of its own.
        with contextlib.suppress(EngineError):
            end_run(run_id)
        raise
    end_run(run_id)


def drop(run_id: str) -> None:
    """Remove the run's folder on this host. Safe to repeat."""
    from runner.removal import remove

    remove(Path(os.environ["PUSHTRAIN_HOME"]) / "scratch" / run_id)


def main(argv: list[str]) -> int:
    """Print one line of JSON: what there is, or the `fault` for which this host will not do."""
    parser = argparse.ArgumentParser(prog="roll")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST=ADDRESS")
    parser.add_argument("--end", metavar="RUN")
    parser.add_argument("--drop", metavar="RUN")
    asked = parser.parse_args(argv)
    peers = dict(each.split("=", 1) for each in asked.peer)
    try:
        if asked.end:
            end(asked.end)
        if asked.drop:
            drop(asked.drop)
        told = here(peers)
    except EngineError as error:
        host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        told = {"host": host, "fault": str(error), "stuck": isinstance(error, Unkillable)}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
