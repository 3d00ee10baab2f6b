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
from typing import TYPE_CHECKING, Any

from runner import gpus
from runner.errors import EngineError
from runner.host.leash import KILLED_WITHIN_S, Unkillable
from runner.slurm.allocated import given
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence


def here(peers: dict[str, str]) -> dict[str, Any]:
    """This host: its name in the cluster, the interface by which it reaches its `peers`, its GPUs of this job."""
    host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    others = [address for name, address in peers.items() if name != host]
    interface, address, network = _interface(others[0] if others else "127.0.0.1")
    cards = _cards()
    return {
        "host": host,
        "name": socket.gethostname(),
        "address": address,
        "interface": interface,
        "network": network,
        "cpus": float(os.cpu_count() or 1),
        "gpus": [uuid for uuid, _ in cards],
        "models": [model for _, model in cards],
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


def _cards() -> tuple[tuple[str, str], ...]:
    """UUID and model of the GPUs that Slurm gave. Raises EngineError as `chosen`."""
    numbers = given(os.environ)
    if not numbers:
        return ()
    try:
        rows = json.loads((run_folder() / "gpus.json").read_text())
    except FileNotFoundError:
        known = [(each.uuid, each.model) for each in gpus.discover()]
        return chosen(numbers, known, confined=len(known) == len(numbers))
    return chosen(numbers, [(row["uuid"], row["model"]) for row in rows], confined=False)


def chosen(
    numbers: Sequence[int], known: Sequence[tuple[str, str]], *, confined: bool
) -> tuple[tuple[str, str], ...]:
    """Those of the GPUs that are `known` here that Slurm's numbers mean: it counts in the order of its gres.conf. Pure.

    With `confined` they are all of those: a cluster with ConstrainDevices=yes hides the others of the host from its
    jobs. Where none is known the numbers stand for themselves. Raises EngineError for a number that means none.
    """
    if not known:
        return tuple((str(number), "") for number in numbers)
    if confined:
        return tuple(known)
    if max(numbers) >= len(known):
        raise EngineError(
            f"Slurm gave the GPUs {', '.join(map(str, numbers))}, counted from 0, and {len(known)} are seen here",
            tip="there: nvidia-smi -L, and compare it with gres.conf",
        )
    return tuple(known[number] for number in numbers)


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
