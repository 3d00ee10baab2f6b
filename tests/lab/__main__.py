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


def main() -> int:
    """0, or 1 with what could not be done."""
    asked = _parser().parse_args()
    try:
        _VERBS[asked.verb](asked)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _up(asked: argparse.Namespace) -> None:
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
    print(f"python -m tests.lab exec --folder {asked.folder} h0 -- sinfo")


def _exec(asked: argparse.Namespace) -> None:
    argv = Lab.open(asked.folder).host(asked.host).argv(*asked.argv, folder=asked.cd)
    os.execvp(argv[0], argv)


_VERBS: dict[str, Callable[[argparse.Namespace], object]] = {
    "up": _up,
    "exec": _exec,
    "down": lambda asked: Lab.open(asked.folder).down(),
    "cut": lambda asked: Lab.open(asked.folder).host(asked.host).cut(),
    "mend": lambda asked: Lab.open(asked.folder).host(asked.host).mend(),
    "off": lambda asked: Lab.open(asked.folder).host(asked.host).off(),
    "boot": lambda asked: Lab.open(asked.folder).boot(asked.host),
    "fill": lambda asked: Lab.open(asked.folder).host(asked.host).fill(),
    "empty": lambda asked: Lab.open(asked.folder).host(asked.host).empty(),
    "kill": lambda asked: print(Lab.open(asked.folder).host(asked.host).kill(asked.daemon), "killed"),
    "start": lambda asked: Lab.open(asked.folder).host(asked.host).start(asked.daemon),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in _VERBS:
        of_verb = verbs.add_parser(verb)
        of_verb.add_argument("--folder", type=Path, required=True)
        if verb == "up":
            of_verb.add_argument("--hosts", type=int, default=3)
            of_verb.add_argument("--later", type=int, default=0)
            of_verb.add_argument("--gpus", type=int, default=2)
            of_verb.add_argument("--model", default=MODEL)
            of_verb.add_argument("--slurm", choices=("plain", "none"), default="plain")
            of_verb.add_argument("--docker", action="store_true")
            of_verb.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
        elif verb != "down":
            of_verb.add_argument("host")
        if verb in {"kill", "start"}:
            of_verb.add_argument("daemon")
        if verb == "exec":
            of_verb.add_argument("--cd", type=Path)
            of_verb.add_argument("argv", nargs="+")
    return parser


if __name__ == "__main__":
    sys.exit(main())
