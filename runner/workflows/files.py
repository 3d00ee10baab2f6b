"""A Spec -> workflow files for GitHub Actions, each with the lines that follow train.yml marked as such."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.workflows.blocks import block
from runner.workflows.form import form
from runner.workflows.words import key, quoted

if TYPE_CHECKING:
    from runner.spec import Spec

ACTION = "pushtrain/pushtrain@v1"
LONGEST_MINUTES = 5 * 24 * 60
"""What GitHub gives a job on a runner of one's own."""

# Not given to the command as secrets: they belong to the runner, the shell, the loader, Python or Pushtrain itself.
_NOT_OURS = re.compile(
    r"(PATH|HOME|IFS|ENV|BASH_.*|SHELLOPTS|LD_.*|PYTHON.*|CI|(RUNNER|ACTIONS|PUSHTRAIN|GITHUB)_.*)"
)
_GITHUBS_WORD_FOR = {
    "ref": "${{ github.ref }}",
    "branch": "${{ github.ref_name }}",
    "commit": "${{ github.sha }}",
}
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PLACEHOLDER = re.compile(r"\$\{\{\s*([A-Za-z.]+[^{}\s]*)\s*\}\}")


@dataclass(frozen=True, kw_only=True)
class Permission:
    """One line of `permissions:`, and why it is there."""

    name: str
    access: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.access} # {self.why}"


_CONTENTS = Permission(
    name="contents",
    access="write",
    why="models become tags and releases",
)
_READ = Permission(
    name="contents", access="read", why="train.yml and the commit; write, if a model is to be released"
)
_CHECKS = Permission(name="checks", access="write", why="the check on the commit, with its progress")
_PULLS = Permission(name="pull-requests", access="write", why="the report in the pull request")
_REACTIONS = Permission(name="issues", access="write", why="reactions on the command: seen, done, failed")
_IDENTITY = Permission(name="id-token", access="write", why="releases are signed by this workflow's identity")


def _permissions(spec: Spec) -> tuple[Permission, ...]:
    return (_CONTENTS, _CHECKS, _PULLS, _IDENTITY) if spec.release else (_READ, _CHECKS, _PULLS)


PERMISSIONS = (_CONTENTS, _CHECKS, _PULLS, _REACTIONS, _IDENTITY)
"""All that the workflows ask for, whatever the train.yml."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the team's own choice: the action (OWNER/REPO@REF), labels of the runner, the path of train.yml."""

    action: str = ACTION
    runs_on: tuple[str, ...] = ("self-hosted",)
    train_file: str = "train.yml"


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A file of .github/workflows. `text` is None for one that this train.yml has no use for."""

    name: str
    text: str | None
    permissions: tuple[Permission, ...]
    notes: tuple[str, ...] = ()


def workflows(spec: Spec, setting: Setting) -> tuple[Workflow, ...]:
    """The three files that start trainings: by push and clock, by comment and button of a check, by form."""
    return (_on_push(spec, setting), _on_comment(spec, setting), _dispatch(spec, setting))


def _on_push(spec: Spec, setting: Setting) -> Workflow:
    permissions = _permissions(spec)
    triggers = tuple(_triggers(spec))
    text = (
        _head("Trains what is pushed, and what the clock asks for, as `on:` of train.yml says.", setting)
        + f"name: {_named('train on push', setting)}\non:\n"
        + block("triggers", triggers, indent=2)
        + "permissions: {}\n"
        + block("concurrency", _concurrency(spec, setting))
        + _job(setting, permissions)
        + "    # What `[skip train]` passes over takes no runner.\n"
        + "    if: ${{ !github.event.deleted"
        + " && !contains(github.event.head_commit.message, '[skip train]') }}\n"
        + _steps(spec, setting)
    )
    return Workflow(
        name=_file("train-on-push", setting),
        text=text if triggers else None,
        permissions=permissions,
        notes=_secret_notes(spec),
    )


def _on_comment(spec: Spec, setting: Setting) -> Workflow:
    contents, *others = _permissions(spec)
    # No release is made of a pull request, so no identity is lent to what it trains.
    permissions = (contents, *(each for each in others if each is not _IDENTITY), _REACTIONS)
    command = spec.on.comment.command if spec.on.comment else "/train"
    says = " || ".join(f"contains(github.event.comment.body, '{word}')" for word in (command, "/promote"))
    condition = (
        "if: >-",
        "  ${{ github.event_name == 'check_run' || (github.event.issue.pull_request",
        "  && github.event.comment.user.type != 'Bot'",
        # With a person's token, our own comments are that person's, and they name the command.
        "  && !startsWith(github.event.comment.body, '<!-- pushtrain:')",
        f"  && ({says})) }}}}",
    )
    text = (
        _head(f"Answers {command} and /promote in pull requests, and the buttons of a check.", setting)
        + f"name: {_named('train on comment', setting)}\n"
        + "on:\n"
        + "  issue_comment: # zizmor: ignore[dangerous-triggers] no code of the pull request is run in this job\n"
        + "    types: [created, edited]\n"
        + "  # GitHub tells of these only where the check was made by a GitHub App of your own (app-id below).\n"
        + "  check_run:\n    types: [requested_action, rerequested]\n"
        + "permissions: {}\n"
        + _each_alone("A second command must neither wait for a training nor end it.")
        + _job(setting, permissions)
        + "    # Other comments take no runner. The action asks GitHub whether this person may.\n"
        + block("condition", condition, indent=4)
        + _steps(spec, setting)
    )
    return Workflow(
        name=_file("train-on-comment", setting),
        text=text if spec.on.comment else None,
        permissions=permissions,
    )


def _dispatch(spec: Spec, setting: Setting) -> Workflow:
    permissions = _permissions(spec)
    fields = form(spec.inputs)
    inputs = ("inputs:", *(f"  {line}" for line in fields.lines))
    text = (
        _head("A form on the Actions page: trains the branch or tag that is chosen there.", setting)
        + f"name: {_named('train', setting)}\n"
        + "on:\n  workflow_dispatch:\n"
        + block("inputs", inputs, indent=4)
        + "permissions: {}\n"
        + _each_alone("Two of them are two trainings; `concurrency` of train.yml says which wait.")
        + _job(setting, permissions)
        + _steps(spec, setting)
    )
    return Workflow(
        name=_file("train-dispatch", setting),
        text=text if spec.on.dispatch else None,
        permissions=permissions,
        notes=fields.notes,
    )


def promotion(setting: Setting) -> Workflow:
    """The form that gives a stage to a version. It does not depend on a train.yml."""
    fields = (
        ("model", "The model's name", ""),
        ("version", "Its version, such as 1.2.0", ""),
        ("stage", "The stage to give to it", "production"),
    )
    inputs = "".join(
        f"      {name}:\n        description: {words}\n        type: string\n        required: true\n"
        + (f"        default: {default}\n" if default else "")
        for name, words, default in fields
    )
    permissions = (Permission(name="contents", access="write", why="a promotion is a tag, NAME#STAGE#N"),)
    text = (
        "# A form on the Actions page: gives a stage, such as production, to a version of a model.\n"
        "name: promote\non:\n  workflow_dispatch:\n    inputs:\n"
        + inputs
        + "permissions: {}\n"
        + "# One at a time for each stage, in the order in which they were asked for.\n"
        + "concurrency:\n"
        + "  group: promote-${{ inputs.model }}-${{ inputs.stage }}\n"
        + "  cancel-in-progress: false\n"
        + _job(setting, permissions, name="promote", minutes=15)
        + f"    steps:\n      - name: Promote\n        uses: {_action(setting)}\n        with:\n"
        + "          promote: ${{ inputs.model }}@${{ inputs.version }}\n"
        + "          stage: ${{ inputs.stage }}\n"
    )
    return Workflow(name="promote.yml", text=text, permissions=permissions)


def _file(name: str, setting: Setting) -> str:
    """A train.yml in a folder of the repository has files of its own."""
    return f"{name}{_suffix(setting)}.yml"


def _suffix(setting: Setting) -> str:
    words = re.findall(r"[A-Za-z0-9]+", _place(setting))
    return "".join(f"-{word.lower()}" for word in words)


def _named(name: str, setting: Setting) -> str:
    """The name that the Actions page shows."""
    place = _place(setting)
    return quoted(f"{name} ({place})") if place else name


def _place(setting: Setting) -> str:
    """The folder of a train.yml that is not at the top, or its name where that is another."""
    return re.sub(r"(/?train)?\.ya?ml$", "", setting.train_file)


def _head(words: str, setting: Setting) -> str:
    again = "pushtrain init --github"
    folder = setting.train_file.rpartition("/")[0]
    if folder:
        again += f" {folder}"
    return (
        f"# {words}\n"
        f"# Lines between `pushtrain: begin` and `end` follow train.yml: `{again}` renews them.\n"
        "# All else is yours to change.\n"
    )


def _triggers(spec: Spec) -> Iterator[str]:
    push = spec.on.push
    if push is not None:
        yield "push:"
        yield from _listed("branches", push.branches or (() if push.tags else ("**",)))
        yield from _listed("tags", push.tags)
        yield from _listed("paths", push.paths)
    if spec.on.schedule:
        yield "schedule:"
        yield from (f"  - cron: {quoted(line)}" for line in spec.on.schedule)


def _listed(name: str, values: Iterable[str]) -> Iterator[str]:
    lines = [f"    - {quoted(value)}" for value in values]
    if lines:
        yield f"  {name}:"
        yield from lines


def _concurrency(spec: Spec, setting: Setting) -> Iterator[str]:
    """Where a newer push cancels an older run, the older job has to give its runner free for that."""
    wish = spec.concurrency
    group = _group(wish.group) if wish and wish.cancel_in_progress else None
    yield "concurrency:"
    if group is None:
        yield "  group: ${{ github.workflow }}-${{ github.run_id }}"
        yield "  cancel-in-progress: false"
    else:
        yield f"  group: {quoted('train-on-push' + _suffix(setting) + '-' + group)}"
        yield "  cancel-in-progress: true"


def _group(template: str) -> str | None:
    """The group in GitHub's words; None where it has no word for something in it."""
    names = set(_PLACEHOLDER.findall(template))
    if names - _GITHUBS_WORD_FOR.keys():
        return None
    return _PLACEHOLDER.sub(lambda found: _GITHUBS_WORD_FOR[found[1]], template)


def _each_alone(why: str) -> str:
    return (
        f"# {why}\n"
        "concurrency:\n"
        "  group: ${{ github.workflow }}-${{ github.run_id }}\n"
        "  cancel-in-progress: false\n"
    )


def _job(
    setting: Setting,
    permissions: Iterable[Permission],
    *,
    name: str = "train",
    minutes: int = LONGEST_MINUTES,
) -> str:
    lines = "".join(f"      {each}\n" for each in permissions)
    labels = ", ".join(key(label) for label in setting.runs_on)
    why = " # five days, the most that GitHub gives a job" if minutes == LONGEST_MINUTES else ""
    return (
        f"jobs:\n  {name}:\n    name: {name}\n    runs-on: [{labels}]\n"
        f"    timeout-minutes: {minutes}{why}\n    permissions:\n{lines}"
    )


def _action(setting: Setting) -> str:
    """A name that can move is meant; a linter that wants commits is told so."""
    if _COMMIT.fullmatch(setting.action.rpartition("@")[2]):
        return setting.action
    return f"{setting.action} # zizmor: ignore[unpinned-uses] to pin it: --action OWNER/REPO@COMMIT"


def _steps(spec: Spec, setting: Setting) -> str:
    return (
        f"    steps:\n      - name: Train\n        uses: {_action(setting)}\n"
        + block("secrets", _secrets(spec), indent=8)
        + f"        with:\n          train-file: {quoted(setting.train_file)}\n"
    )


def _secrets(spec: Spec) -> Iterator[str]:
    names = sorted(dict.fromkeys((*spec.secrets, *spec.environment.build_secrets)))
    lines = [f"  {key(name)}: ${{{{ secrets.{name} }}}}" for name in names if _may_be_passed(name)]
    if lines:
        yield "env:"
        yield from lines


def _may_be_passed(name: str) -> bool:
    return name == "GITHUB_TOKEN" or not _NOT_OURS.fullmatch(name.upper())


def _secret_notes(spec: Spec) -> tuple[str, ...]:
    return tuple(
        f"the secret {name} is not passed on: variables of that name belong to the runner; give it another"
        for name in dict.fromkeys((*spec.secrets, *spec.environment.build_secrets))
        if not _may_be_passed(name)
    )
