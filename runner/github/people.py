"""A login -> what it may on the repository; our token -> the login it speaks as."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from runner.errors import GitHubDown, GitHubError
from runner.github.client import part
from runner.github.permissions import COMMENTS, ROLES
from runner.github.refusals import Call, Trouble, refused

if TYPE_CHECKING:
    from runner.github.client import Repository
    from runner.trigger.roles import Role

logger = logging.getLogger(__name__)

_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\[bot\])?")
_JOBS_LOGIN = "github-actions[bot]"
_LEGACY: dict[str, Role] = {"admin": "admin", "write": "write", "read": "read", "none": "none"}
# Which legacy permission stands for a role; a custom role may have any name, also one of these.
_ROLES: dict[str, tuple[str, Role]] = {
    "admin": ("admin", "admin"),
    "maintain": ("write", "maintain"),
    "write": ("write", "write"),
    "triage": ("read", "triage"),
    "read": ("read", "read"),
}


class _Permission(msgspec.Struct):
    permission: str
    role_name: str = ""


class _Login(msgspec.Struct):
    login: str


class _Viewer(msgspec.Struct):
    viewer: _Login


class _Viewed(msgspec.Struct):
    data: _Viewer | None = None
    errors: tuple[Trouble, ...] = ()


def role(repository: Repository, login: str) -> Role:
    """Returns what the person may on the repository at this moment; "none" for one that GitHub does not know.

    A custom role counts as the role that it is built on, as far as GitHub tells it: read, write or admin.
    https://docs.github.com/en/rest/collaborators/collaborators#get-repository-permissions-for-a-user
    """
    if not _LOGIN.fullmatch(login):
        return "none"
    call = Call(doing=f"tell the role of {login}", feature=ROLES)
    found = repository.find(call, f"collaborators/{part(login)}/permission", _Permission)
    if found is None:
        return "none"
    legacy, named = _ROLES.get(found.role_name, ("", "none"))
    return named if legacy == found.permission else _LEGACY.get(found.permission, "none")


def our_login(repository: Repository) -> str:
    """Returns the login under which our token writes; asks once for a connection, where no answer told it before."""
    known = repository.line.remembered
    if "login" not in known:
        known["login"] = _ask_login(repository)
    return known["login"]


def remember_login(repository: Repository, login: str) -> None:
    """Keeps the login that stands in an answer to what we wrote."""
    if login:
        repository.line.remembered["login"] = login


def _ask_login(repository: Repository) -> str:
    """GraphQL's `viewer` answers to every kind of token, `/user` to those of a person; the rest are tokens of jobs."""
    call = Call(doing="tell whose token this is", feature=COMMENTS)
    app = repository.line.app_login(call)
    if app:
        return app
    query = {"query": "{viewer{login}}"}
    with _unless_refused():
        viewed = repository.say(call, repository.line.graphql_url, query, _Viewed)
        if viewed.data:
            return viewed.data.viewer.login
        raise refused(call, viewed.errors)
    with _unless_refused():
        return repository.get(call, "/user", _Login).login
    return _JOBS_LOGIN


@contextmanager
def _unless_refused() -> Iterator[None]:
    try:
        yield
    except GitHubDown:
        raise
    except GitHubError:
        logger.debug("GitHub does not tell whose token this is in this way", exc_info=True)
