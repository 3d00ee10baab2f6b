"""The command line: the only place that reads arguments, configures logging and exits."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from runner import arguments_agent
from runner.errors import PushtrainError, SpecError, UsageError

EPILOG = """\
first steps:
  pushtrain init                     write a train.yml for this repository
  pushtrain plan -p lr=0.1           what a run would do, nothing touched
  pushtrain run -p lr=0.1            train, follow, keep the outputs, register the model
  pushtrain runs                     what ran; then: show, logs, outputs, compare

environment: PUSHTRAIN_HOME (this machine's state), PUSHTRAIN_STORE (a folder or s3://bucket/prefix),
PUSHTRAIN_ENGINE (local, docker or slurm), PUSHTRAIN_REGISTRY (where images are pushed and looked up)
"""

_STORE = "a folder, s3://bucket/prefix?endpoint=URL, or for models also github://OWNER/REPO"
_ENGINE = "local (a cached venv), docker (an image) or slurm (the hosts of a fleet)"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, tip=f"{self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = _Parser(
        prog="pushtrain",
        description="Train from a git repository: one train.yml, one command, a registered model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version")
    top.add_argument("-v", "--verbose", action="store_true", help="log what the stages do")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    _training(commands)
    _runs(commands)
    _models(commands)
    _github(commands)
    _watch(commands)
    _keeping(commands)
    _fleet(commands)
    return top


Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(
    commands: Commands,  # type: ignore[valid-type]  # a private class of argparse
    name: str,
    target: str,
    summary: str,
    *,
    store: str | None = None,
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)  # type: ignore[attr-defined]  # as above
    made.set_defaults(target=target)
    made.add_argument("--store", default=store, help=_STORE)
    return made


def _below(commands: Commands, name: str, target: str, summary: str) -> argparse.ArgumentParser:  # type: ignore[valid-type]  # as above
    """A command below another, where `--store` may stand before its name as well."""
    return _command(commands, name, target, summary, store=argparse.SUPPRESS)


def _training(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    for name, target, summary in (
        ("init", "init:init", "write a commented train.yml after a look at the repository"),
        ("check", "run:check", "check a train.yml: every fault at once, with its line"),
        ("plan", "run:plan", "print what a run would do; nothing is touched"),
        ("run", "run:run", "train: prepare, run, follow, keep the outputs, register the model"),
    ):
        made = _command(commands, name, target, summary)
        made.add_argument(
            "folder", nargs="?", default=".", help="the folder of train.yml (default: this one)"
        )
        if name == "init":
            _wiring(made)
        else:
            made.add_argument("-f", "--file", default="train.yml", help="another name for train.yml")
        if name in ("plan", "run"):
            made.add_argument(
                "-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="set an input"
            )
            made.add_argument("--engine", help=_ENGINE)
        if name == "plan":
            made.add_argument("--json", action="store_true", help="print the whole plan as JSON")
        if name == "run":
            made.add_argument("--fresh", action="store_true", help="train even if an equal run has finished")
            made.add_argument("-d", "--detach", action="store_true", help="start the run and return at once")
    made = _run_command(commands, "resume", "run:resume", "take up a run whose supervisor died")
    made.add_argument("-d", "--detach", action="store_true", help="start its supervisor and return at once")


def _wiring(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--github", action="store_true", help="write the workflows that start it on GitHub, too"
    )
    made.add_argument(
        "--check", action="store_true", help="only tell whether they fit train.yml (exit code 65)"
    )
    made.add_argument("--force", action="store_true", help="write them anew, whatever was changed by hand")
    made.add_argument("--action", metavar="OWNER/REPO@REF", help="the action that they use")
    made.add_argument("--runs-on", metavar="LABELS", help="the runner's labels (default: self-hosted)")


def _run_command(commands: Commands, name: str, target: str, summary: str) -> argparse.ArgumentParser:  # type: ignore[valid-type]  # as above
    made = _command(commands, name, target, summary)
    made.add_argument("run", help="a run's id, the end of one, or `last`")
    return made


def _runs(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    made = _command(commands, "runs", "runs:listing", "list runs, newest first")
    made.add_argument("--state", help="only runs in this state")
    made.add_argument("--branch", help="only runs of this branch")
    made.add_argument("--model", help="only runs that release this model")
    made.add_argument("-n", "--most", type=int, default=20, help="how many (default: 20)")
    made = _run_command(commands, "show", "runs:show", "show a run: stages, metric and curve, outputs, model")
    made.add_argument("--json", action="store_true", help="print run.json")
    made = _run_command(commands, "logs", "runs:logs", "print the output of a run")
    made.add_argument("-f", "--follow", action="store_true", help="follow it until the run ends")
    made.add_argument("--rank", type=int, help="only this rank")
    made.add_argument("--build", action="store_true", help="the log of the environment's build instead")
    made = _run_command(commands, "outputs", "runs:outputs", "list a run's outputs, or copy them here")
    made.add_argument("get", nargs="*", metavar="get PATH DEST", help="copy PATH (`.` is all) to DEST")
    made = _run_command(commands, "cancel", "runs:cancel", "stop a run: SIGTERM, its grace, outputs kept")
    made.add_argument("--kill", action="store_true", help="without grace")
    made = _command(commands, "compare", "runs:compare", "put runs side by side")
    made.add_argument("runs", nargs="+", metavar="RUN")


def _models(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    made = _command(commands, "models", "models:listing", "list registered models; show or download one")
    below = made.add_subparsers(metavar="{show,download,promote,rollback,verify,sign,keygen}")
    for name, summary in (
        ("show", "files, lineage and stages"),
        ("download", "copy its files here, verified"),
    ):
        each = _below(below, name, f"models:{name}", summary)
        each.add_argument("model", metavar="NAME[@VERSION|#STAGE]")
        if name == "download":
            each.add_argument("destination", nargs="?", help="a folder (default: the model's name)")
    for command, parent in ((_command, commands), (_below, below)):
        each = command(parent, "promote", "models:promote", "give a stage, such as production, to a version")
        each.add_argument("model", metavar="NAME@VERSION")
        each.add_argument("stage")
        each = command(parent, "rollback", "models:rollback", "give a stage back to the version before")
        each.add_argument("model", metavar="NAME")
        each.add_argument("stage")
    _signatures(below)


def _signatures(below: Commands) -> None:  # type: ignore[valid-type]  # as above
    made = _below(below, "verify", "verify:verify", "compare its files with the signed statement, offline")
    made.add_argument("model", metavar="NAME[@VERSION|#STAGE]")
    made.add_argument("folder", nargs="?", help="where its files lie (default: downloaded, and thrown away)")
    made.add_argument("--key", metavar="FILE", help="the public key of whoever may have signed it")
    made.add_argument(
        "--identity", help="who may have signed it through Sigstore: a workflow's URL, an address"
    )
    made.add_argument(
        "--issuer", metavar="URL", help="who vouches for the identity (default: GitHub Actions)"
    )
    made.add_argument("--repository", metavar="OWNER/NAME", help="any workflow of it may have signed it")
    made.add_argument("--statement", metavar="FILE", help="the statement, where it lies here already")
    made.add_argument("--unsigned-ok", action="store_true", help="be content with what the registry says")
    made = _below(below, "sign", "verify:sign", "sign its statement with the key of the environment")
    made.add_argument("model", metavar="NAME[@VERSION|#STAGE]")
    made = _below(below, "keygen", "verify:keygen", "make a pair of keys to sign models with")
    made.add_argument(
        "file", nargs="?", default="pushtrain.key", help="the private one (default: pushtrain.key)"
    )


def _github(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    top = _command(
        commands, "github", "github:listing", "for jobs of GitHub Actions: what is left to say there"
    )
    below = top.add_subparsers(metavar="{event,send,watch}")
    for name, summary in (
        ("event", "do what the job's event asks for, and follow it"),
        ("send", "say on GitHub what could not be said before"),
        ("watch", "keep GitHub up to date on runs that were left to themselves"),
    ):
        made = _command(below, name, f"github:{name}", summary)
        made.add_argument("-f", "--file", help="the path of train.yml in the repository (default: train.yml)")
        made.add_argument("--engine", help=_ENGINE)


def _watch(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    made = _command(
        commands, "watch", "watch:watch", "train what is pushed and asked for, without a workflow"
    )
    made.add_argument("repositories", nargs="*", metavar="OWNER/REPO", help="the repositories to look at")
    made.add_argument("-f", "--file", help="the path of train.yml in the repository (default: train.yml)")
    made.add_argument("--engine", help="where it trains: slurm, docker or local")
    made.add_argument("--every", default="30s", help="how often to look (default: 30s)")
    made.add_argument(
        "--once", action="store_true", help="look once, start what is new, say what is due, and end"
    )
    made.add_argument("--token-file", metavar="FILE", help="a token, or an App's private key; mode 0600")
    made.add_argument("--since", metavar="TIME", help="at the first look, begin there: 2h, 2026-11-05T12:00Z")
    made.add_argument("--from-now", action="store_true", help="take all that is there now as seen")
    made.add_argument(
        "--publish-only", action="store_true", help="start nothing; say and publish what is due"
    )


def _keeping(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    made = _command(commands, "data", "setup:data", "list registered data sets, or register one")
    made.add_argument(
        "add", nargs="*", metavar="add NAME PATH", help="register PATH as the next version of NAME"
    )
    made = _command(
        commands, "gc", "gc:collect", "remove old environments, sources and blobs that nothing refers to"
    )
    made.add_argument("--yes", action="store_true", help="remove; without it, only say what would be removed")
    made.add_argument(
        "--older-than", default="30d", help="environments and images unused for so long (default: 30d)"
    )
    made = _command(
        commands, "quota", "quota:quota", "GPUs at once and GPU-hours that a repository may have of a fleet"
    )
    made.add_argument("repository", nargs="?", metavar="OWNER/NAME")
    made.add_argument("--gpus", type=int, help="so many at once; further runs wait")
    made.add_argument("--gpu-hours", type=float, help="so many in all; then runs are refused")
    made.add_argument(
        "--user", action="append", default=[], help="another user who may start its runs (you always may)"
    )
    made.add_argument("--none", action="store_true", help="take the quota away")
    made = _command(commands, "schema", "setup:schema", "print the JSON Schema of train.yml, for editors")


def _fleet(commands: Commands) -> None:  # type: ignore[valid-type]  # as above
    for name, summary in (
        ("runners", "list the hosts of the fleet: GPUs, what is free, state, what runs there"),
        ("queue", "list what waits: for what, behind whom, and until when"),
    ):
        made = _command(commands, name, f"fleet:{name}", summary)
        made.add_argument("--json", action="store_true", help="print it as JSON")
    made = _command(
        commands, "top", "fleet:top", "show every GPU live: use, memory, heat, and who runs there"
    )
    made.add_argument("--once", action="store_true", help="print it once")
    made.add_argument("--every", default="2s", metavar="T", help="how often to look (default: 2s)")
    arguments_agent.add(
        _command(commands, "agent", "agent:status", "this machine as a head or a host of a fleet")
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Every PushtrainError is told once, here."""
    top = parser()
    try:
        asked = top.parse_args(argv)
    except UsageError as error:
        _tell(error)
        return error.exit_code
    if asked.version:
        return _version()
    if asked.command is None:
        top.print_help()
        return 0
    level = logging.INFO if asked.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    _place(asked)
    module, _, name = asked.target.partition(":")
    command: Callable[[argparse.Namespace], int] = getattr(
        importlib.import_module(f"runner.commands.{module}"), name
    )
    try:
        return command(asked)
    except PushtrainError as error:
        _tell(error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe went away; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130


def _place(asked: argparse.Namespace) -> None:
    """Let `pushtrain check other.yml` mean the file where a folder is expected."""
    folder = getattr(asked, "folder", None)
    if folder is not None and hasattr(asked, "file") and os.path.isfile(folder):  # noqa: PTH113  # pathlib costs time
        asked.folder, asked.file = os.path.split(folder)
        asked.folder = asked.folder or "."


def _version() -> int:
    from importlib.metadata import version

    print(f"pushtrain {version('pushtrain')}")
    return 0


def _tell(error: PushtrainError) -> None:
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, SpecError) and len(lines) > 1:
        lines.append(f"{len(lines)} faults")
    print("error: " + "\n       ".join(lines), file=sys.stderr)
    if error.tip:
        print(f"  tip: {error.tip}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
