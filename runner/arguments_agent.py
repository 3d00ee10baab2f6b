"""The arguments of `pushtrain agent …`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(top: argparse.ArgumentParser) -> None:
    """Give the command its sub-commands."""
    below = top.add_subparsers(metavar="{start,stop,status,drain,resume,leave,install,token}")
    _start(_each(below, "start", "make this machine the head or a host of a fleet; again: as the last time"))
    _each(below, "stop", "end the agent and its daemons, for a while")
    _each(below, "status", "this host, its daemons, and what the head thinks of it")
    for name, summary in (
        ("drain", "give a host no more runs; those on it go on"),
        ("resume", "give a drained host runs again"),
    ):
        made = _each(below, name, summary)
        made.set_defaults(target=f"hosts:{name}")
        made.add_argument("host", nargs="?", help="its name (default: this one)")
        if name == "drain":
            made.add_argument("--reason", help="shown to who asks why it takes no runs")
    made = _each(below, "leave", "take this host out of its fleet, when the runs on it have ended")
    made.add_argument("host", nargs="?", help="from elsewhere: one that is gone and does not answer")
    made.add_argument("--now", action="store_true", help="its runs go back into the queue")
    made = _each(below, "install", "write a systemd unit that starts the agent with the machine")
    made.add_argument("--print", action="store_true", help="print it instead")
    _power(_each(below, "power", "machines of hosts that come and go; Slurm calls it"))
    _each(below, "token", "where the token lies with which others join, and how")


def _each(
    below: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    made = below.add_parser(name, help=summary, description=summary)
    made.set_defaults(target=f"agent:{name}")
    made.add_argument("--state", type=Path, help="its lasting folder (default: /var/lib/pushtrain)")
    return made


def _power(made: argparse.ArgumentParser) -> None:
    made.set_defaults(target="power:retry")  # Never alone: one of the verbs is required.
    below = made.add_subparsers(metavar="{resume,suspend,retry,deadman}", required=True)
    for name, summary in (
        ("resume", "on the head: start the machines of hosts"),
        ("suspend", "on the head: stop the machines of hosts"),
        ("retry", "on the head: try again what was given up (default: all)"),
    ):
        verb = below.add_parser(name, help=summary, description=summary)
        verb.set_defaults(target=f"power:{name}")
        verb.add_argument("hosts", nargs="?" if name == "retry" else None, help="such as gpu-[1-3]")
    summary = "on a machine that was started: switch it off when it is alone"
    timer = below.add_parser("deadman", help=summary, description=summary)
    timer.set_defaults(target="power:deadman")
    timer.add_argument("host", help="the name it has or will have in the fleet")
    timer.add_argument("--alone", default="15m", metavar="T", help="for how long (default: 15m)")
    timer.add_argument("--off", metavar="COMMAND", help="what switches it off (default: systemctl poweroff)")


def _start(made: argparse.ArgumentParser) -> None:
    made.add_argument("--head", action="store_true", help="begin a fleet: queue and hosts are kept here")
    made.add_argument("--join", metavar="HEAD", help="the fleet of this head, by name or address")
    made.add_argument("--token-file", type=Path, metavar="F", help="a copy of the head's token, mode 0600")
    made.add_argument("--client", action="store_true", help="with --join: only submit from here, run nothing")
    made.add_argument(
        "--foreground", action="store_true", help="do not leave the terminal; for systemd, Docker"
    )
    made.add_argument("--name", help="of this host in the fleet (default: its host name)")
    made.add_argument("--address", help="at which other hosts reach this one (default: found)")
    made.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="for `labels` of train.yml"
    )
    made.add_argument("--no-gpus", action="store_true", help="leave the GPUs of this host out of the fleet")
    made.add_argument("--cpus", type=int, metavar="N", help="how many CPUs it gives (default: all)")
    made.add_argument("--memory", metavar="SIZE", help="how much memory, such as 64GiB (default: 95 %%)")
    made.add_argument(
        "--cache-quota",
        metavar="SIZE",
        help="what images, sources and data may take of the disk (default: 50%%)",
    )
    head = made.add_argument_group("with --head")
    head.add_argument("--no-work", action="store_true", help="the head itself runs nothing")
    head.add_argument("--cluster", metavar="NAME", help="the fleet's name (default: pushtrain)")
    head.add_argument("--store", default=argparse.SUPPRESS, help="where all hosts keep runs and models")
    head.add_argument(
        "--registry", metavar="HOST:PORT", help="where all hosts get images: HOST[:PORT][/PATH]"
    )
    head.add_argument("--elastic", type=Path, metavar="F", help="hosts that are started when they are needed")
    head.add_argument("--serve-registry", action="store_true", help="run that registry here, on port 5000")
