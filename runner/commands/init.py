"""`pushtrain init`: a first train.yml, and with --github the workflow files that start it there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import SpecError, UsageError

if TYPE_CHECKING:
    import argparse

    from runner.workflows import Setting, Workflow

_ACTION = r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+@[A-Za-z0-9_./-]+"
_LABEL = r"[A-Za-z0-9_.@:/ -]+"


def init(asked: argparse.Namespace) -> int:
    """Write train.yml and its schema into a folder that has none; with --github also the workflows that start it."""
    folder = Path(asked.folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", tip="pushtrain init FOLDER")
    if asked.github:
        return _check(folder, asked) if asked.check else _wire(folder, asked)
    for option in ("check", "force", "action", "runs_on"):
        if getattr(asked, option):
            raise UsageError(
                f"--{option.replace('_', '-')} goes with --github", tip="pushtrain init --github"
            )
    target = folder / "train.yml"
    if target.exists():
        raise UsageError(f"{target} is there already", tip=f"pushtrain check {asked.folder}")
    _draft(folder)
    print(f"next: pushtrain plan {asked.folder}")
    return 0


def _draft(folder: Path, *, branch: str | None = None) -> None:
    """Write a starter file and its schema, and say so; with `branch`, one that GitHub starts."""
    from runner import schema, starter

    drafted = starter.draft(folder, branch=branch)
    _write(folder / "train.yml", drafted.train_yml)
    _write(folder / "train.schema.json", json.dumps(schema.generate(), indent=2) + "\n")
    print(f"wrote {folder / 'train.yml'}, and train.schema.json beside it for editors")
    for note in drafted.notes:
        print(f"  {note}")


def _write(path: Path, text: str) -> None:
    """Write a file, and the folders it lies in. Raises UsageError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", tip=f"ls -ld {path.parent}"
        ) from error


def _wire(folder: Path, asked: argparse.Namespace) -> int:
    """Write what is missing and renew the generated lines of what is there. Nothing is written if one file refuses."""
    top = _top(folder)
    if not (folder / "train.yml").exists():
        _draft(folder, branch=_branch(top))
    wanted = _wanted(folder, top, asked)
    planned = [(each, _path(top, each), _text(top, each, force=asked.force)) for each in wanted]
    for each, path, text in planned:
        _write_one(each, path, text, shown=path.relative_to(top))
    _explain(wanted)
    return 0


def _check(folder: Path, asked: argparse.Namespace) -> int:
    """Print how the files differ from what train.yml asks for. Returns 65 if they do."""
    top = _top(folder)
    found = [line for each in _wanted(folder, top, asked) for line in _difference(top, each)]
    for line in found:
        print(line)
    if not found:
        print("the workflows fit train.yml")
        return 0
    print(f"next: pushtrain init --github {asked.folder}")
    return SpecError.exit_code


def _top(folder: Path) -> Path:
    """The top of the repository, where GitHub looks for workflows; the folder itself where there is no git yet."""
    argv = ["git", "-C", str(folder), "rev-parse", "--show-toplevel"]
    said = _said(argv)
    return Path(said) if said else folder.resolve()


def _branch(top: Path) -> str:
    """The branch that the remote calls its own, else the one that is checked out."""
    for argv in (
        ["git", "-C", str(top), "symbolic-ref", "--short", "refs/remotes/origin/HEAD"],
        ["git", "-C", str(top), "symbolic-ref", "--short", "HEAD"],
    ):
        if said := _said(argv):
            return said.removeprefix("origin/")
    return "main"


def _said(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _wanted(folder: Path, top: Path, asked: argparse.Namespace) -> tuple[Workflow, ...]:
    from runner import spec
    from runner.workflows import workflows

    return workflows(spec.load(folder / "train.yml"), _setting(folder, top, asked))


def _setting(folder: Path, top: Path, asked: argparse.Namespace) -> Setting:
    from runner.workflows import ACTION, Setting

    action = asked.action or ACTION
    if not re.fullmatch(_ACTION, action, re.ASCII):
        raise UsageError(f"{action!r} is no action", tip="pushtrain init --github --action OWNER/REPO@REF")
    labels = [label.strip() for label in (asked.runs_on or "self-hosted").split(",")]
    if not all(re.fullmatch(_LABEL, label, re.ASCII) for label in labels):
        raise UsageError(
            f"{asked.runs_on!r} are no labels", tip="pushtrain init --github --runs-on self-hosted,gpu"
        )
    train_file = (folder.resolve() / "train.yml").relative_to(top).as_posix()
    return Setting(action=action, runs_on=tuple(labels), train_file=train_file)


def _path(top: Path, workflow: Workflow) -> Path:
    return top / ".github" / "workflows" / workflow.name


def _found(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", tip=f"ls -l {path}") from error


def _text(top: Path, workflow: Workflow, *, force: bool) -> str | None:
    """What the file is to be. Raises UsageError where it is not one of ours."""
    from runner.workflows import renewed

    path = _path(top, workflow)
    found = _found(path)
    if workflow.text is None or found is None or force:
        return workflow.text
    made = renewed(found, workflow.text)
    if made is None:
        raise UsageError(
            f"{path.relative_to(top)} is there already, without the lines that are renewed",
            tip="rename it, or: pushtrain init --github --force",
        )
    return made


def _write_one(workflow: Workflow, path: Path, text: str | None, *, shown: Path) -> None:
    found = _found(path)
    if text is None:
        if found is not None:
            print(f"{shown} has no use any more: git rm {shown}")
    elif found == text:
        print(f"{shown} is as it should be")
    else:
        _write(path, text)
        print(f"{'wrote' if found is None else 'renewed'} {shown}")
    for note in (*workflow.notes, *_not_granted(workflow, text)) if text is not None else ():
        print(f"  {note}")


def _not_granted(workflow: Workflow, text: str) -> list[str]:
    """Permissions are the team's own lines, so they are not renewed: what one that is missing turns off is said."""
    return [
        f"it does not grant `{each.name}: {each.access}`: {each.why}"
        for each in workflow.permissions
        if not re.search(rf"^ +{each.name}: ({each.access}|write)\b", text, re.MULTILINE)
    ]


def _difference(top: Path, workflow: Workflow) -> list[str]:
    import difflib

    from runner.workflows import renewed

    path = _path(top, workflow)
    found, shown = _found(path), str(path.relative_to(top))
    if workflow.text is None:
        return [f"{shown} has no use any more"] if found is not None else []
    if found is None:
        return [f"{shown} is missing"]
    made = renewed(found, workflow.text)
    if made is None:
        return [f"{shown} lacks the lines that are renewed"]
    lines = difflib.unified_diff(
        found.splitlines(), made.splitlines(), shown, "as train.yml has it", lineterm=""
    )
    return list(lines)


def _explain(workflows: tuple[Workflow, ...]) -> None:
    """What the files ask GitHub for, each permission once, with the files that ask for it."""
    reasons: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for each in workflows:
        for permission in each.permissions if each.text is not None else ():
            asks = reasons.setdefault((permission.name, permission.access), (permission.why, []))
            asks[1].append(each.name.removesuffix(".yml"))
    print("permissions that they ask for, and why:")
    written = sum(each.text is not None for each in workflows)
    for (name, access), (why, files) in reasons.items():
        where = f" ({', '.join(files)} alone)" if len(files) < written else ""
        print(f"  {name}: {access}".ljust(24) + why + where)
    print("next: a runner of your own (Settings > Actions > Runners), then commit and push; docs/github.md")
