"""A repository and a model -> what would keep a release from being published, before a GPU is used for it."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec

from runner.errors import GitHubAbsent, GitHubDenied
from runner.github.permissions import RELEASES, ROLES
from runner.github.refusals import Call, Rejected

if TYPE_CHECKING:
    from runner.github.client import Repository

_NO_COMMIT = "0" * 40
_ACTIVE = "active"


class _Listed(msgspec.Struct):
    id: int
    enforcement: str


class _Names(msgspec.Struct):
    include: list[str] = []
    exclude: list[str] = []


class _Conditions(msgspec.Struct):
    ref_name: _Names | None = None


class _Rule(msgspec.Struct):
    type: str


class _Ruleset(msgspec.Struct):
    name: str
    current_user_can_bypass: str | None = None
    conditions: _Conditions | None = None
    rules: list[_Rule] = []


def notes(repository: Repository, model: str) -> tuple[str, ...]:
    """A sentence for each thing that would keep the model from being released; none where nothing does.

    Changes nothing and is safe to repeat: two requests, and one for each set of rules. Raises GitHubDown.
    """
    ref = f"refs/tags/{model}@v1.0.0"
    return (*_permission(repository, ref), *_rules(repository, ref))


def _permission(repository: Repository, ref: str) -> Iterator[str]:
    """No answer of GitHub tells what a job's token may. To make a tag of no commit is refused, but not for that."""
    call = Call(doing="say whether releases may be made", feature=RELEASES)
    try:
        repository.say(call, "git/refs", {"ref": ref, "sha": _NO_COMMIT}, object)
    except GitHubDenied as error:
        yield f"the model will not be released on GitHub: the token lacks `{error.permission or RELEASES.permission}`"
    except Rejected:
        return


def _rules(repository: Repository, ref: str) -> Iterator[str]:
    call = Call(doing="list the rules of tags", feature=ROLES)
    try:
        listed = tuple(repository.pages(call, "rulesets", _Listed, targets="tag"))
    except (GitHubAbsent, GitHubDenied):  # servers and plans without rules
        return
    for each in listed:
        found = (
            repository.find(call, f"rulesets/{each.id}", _Ruleset) if each.enforcement == _ACTIVE else None
        )
        if found is not None and _forbids(found, ref):
            yield (
                f"the model will not be released on GitHub: the rules {found.name!r} let nobody make "
                f"{ref.removeprefix('refs/tags/')}; let the token pass, or leave such tags out of the rules"
            )


def _forbids(rules: _Ruleset, ref: str) -> bool:
    names = rules.conditions.ref_name if rules.conditions else None
    named = names is None or (_is_one(ref, names.include) and not _is_one(ref, names.exclude))
    creation = any(rule.type == "creation" for rule in rules.rules)
    return creation and named and rules.current_user_can_bypass not in ("always", "exempt")


def _is_one(ref: str, patterns: list[str]) -> bool:
    return any(pattern == "~ALL" or fnmatchcase(ref, pattern) for pattern in patterns)
