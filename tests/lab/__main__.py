"""`python -m tests.lab VERB --folder FOLDER …`: a lab from the command line; see README.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.lab import Lab
from tests.lab.namespaces import LabError
from tests.lab.plan import MODEL
from tests.lab.services import Registry, Store
from tests.lab.tools import missing

_WHAT = "Hosts on one machine: cut them off, switch them off, kill what runs there. See tests/lab/README.md."


def main() -> int:
    """0, or 1 with what could not be done."""
    asked = _parser().parse_args()
    if os.geteuid() != 0:
        print(f"error: a lab needs root: sudo {sys.executable} -m tests.lab {asked.verb} …", file=sys.stderr)
        return 1
    try:
        _VERBS[asked.verb](asked)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _up(asked: argparse.Namespace) -> None:
    if lacking := missing():
        raise LabError(f"not installed: {', '.join(lacking)}; run tests/services/packages")
    lab = Lab.up(
        asked.folder,
        hosts=asked.hosts,
        later=asked.later,
        gpus=asked.gpus,
        model=asked.model,
        slurm=asked.slurm,
        docker=asked.docker,
        environ=dict(each.split("=", 1) for each in asked.env),
        owned=False,
    )
    print(f"{', '.join(host.name for host in lab.hosts)} are up at {lab.plan.network}.0/24")
    first = "sinfo" if asked.slurm == "plain" else "pushtrain agent start --head"
    print(f"{sys.executable} -m tests.lab exec --folder {asked.folder} h0 -- {first}")


def _exec(asked: argparse.Namespace) -> None:
    argv = Lab.open(asked.folder).host(asked.host).argv(*asked.argv, folder=asked.cd)
    os.execvp(argv[0], argv)


def _status(asked: argparse.Namespace) -> None:
    for name, told in Lab.open(asked.folder).status().items():
        words = (f"{name:9}", f"{told['address']:24}", f"{told['state']:8}", f"{told.get('disk', ''):5}")
        print(*words, told.get("daemons", ""))


def _kill(asked: argparse.Namespace) -> None:
    """Of the fabric, the daemons are called registry and store."""
    lab = Lab.open(asked.folder)
    if asked.host == "fabric":
        print("killed", _service(lab, asked.daemon).kill())
    else:
        print("killed", lab.host(asked.host).kill(asked.daemon))


def _start(asked: argparse.Namespace) -> None:
    lab = Lab.open(asked.folder)
    if asked.host == "fabric":
        _service(lab, asked.daemon).start()
    else:
        lab.host(asked.host).start(asked.daemon)


def _service(lab: Lab, name: str) -> Registry | Store:
    services: dict[str, Registry | Store] = {"registry": lab.registry, "store": lab.store}
    if name not in services:
        raise LabError(f"no {name} on the fabric: there are registry and store")
    return services[name]


_VERBS: dict[str, Callable[[argparse.Namespace], object]] = {
    "up": _up,
    "status": _status,
    "exec": _exec,
    "cut": lambda asked: Lab.open(asked.folder).host(asked.host).cut(),
    "mend": lambda asked: Lab.open(asked.folder).host(asked.host).mend(),
    "off": lambda asked: Lab.open(asked.folder).host(asked.host).off(),
    "boot": lambda asked: Lab.open(asked.folder).boot(asked.host),
    "fill": lambda asked: Lab.open(asked.folder).host(asked.host).fill(left_mib=asked.left_mib),
    "empty": lambda asked: Lab.open(asked.folder).host(asked.host).empty(),
    "kill": _kill,
    "start": _start,
    "busy": lambda asked: Lab.open(asked.folder).store.busy(),
    "well": lambda asked: Lab.open(asked.folder).store.well(),
    "bucket": lambda asked: print(Lab.open(asked.folder).store.uri()),
    "image": lambda asked: print(Lab.open(asked.folder).pushed_image()),
    "ready": lambda asked: Lab.open(asked.folder).ready(),
    "renew": lambda asked: Lab.open(asked.folder).renew(),
    "down": lambda asked: Lab.open(asked.folder).down(),
}
_HELP = {
    "up": "make a lab",
    "status": "what there is and how it is",
    "exec": "run a command on a host",
    "cut": "take out a host's network cable",
    "mend": "put it back",
    "off": "pull a host's plug",
    "boot": "switch a host on",
    "fill": "use up a host's disk",
    "empty": "give that back",
    "kill": "kill -9 all processes of that name on a host; of the fabric: registry, store",
    "start": "start munged, slurmctld, slurmd or dockerd on a host; registry or store on the fabric",
    "busy": "the store answers 503 from now on",
    "well": "no longer",
    "bucket": "print an empty place in the store",
    "image": "push an image with Debian and Python to the registry, and print its name there",
    "ready": "wait until Slurm can use all hosts that are on",
    "renew": "all hosts as they were at the start",
    "down": "end all of it",
}
_OF_THE_LAB = {"up", "status", "busy", "well", "bucket", "image", "ready", "renew", "down"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=_WHAT)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in _VERBS:
        of_verb = verbs.add_parser(verb, help=_HELP[verb])
        of_verb.add_argument("--folder", type=Path, required=True, help="the lab's own")
        if verb not in _OF_THE_LAB:
            of_verb.add_argument("host")
        if verb == "up":
            _arguments_of_up(of_verb)
        if verb == "fill":
            of_verb.add_argument("--left-mib", type=int, default=0)
        if verb in {"kill", "start"}:
            of_verb.add_argument("daemon")
        if verb == "exec":
            of_verb.add_argument("--cd", type=Path, help="folder on the host")
            of_verb.add_argument("argv", nargs="+")
    return parser


def _arguments_of_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--later", type=int, default=0, help="more hosts, which are off")
    parser.add_argument("--gpus", type=int, default=2, help="on each host, faked")
    parser.add_argument("--model", default=MODEL, help="of these GPUs")
    parser.add_argument("--slurm", choices=("plain", "none"), default="plain")
    parser.add_argument("--docker", action="store_true", help="a daemon on each host")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="for all commands on it"
    )


if __name__ == "__main__":
    sys.exit(main())
