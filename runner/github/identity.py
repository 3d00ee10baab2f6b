"""The environment -> who we are on GitHub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runner.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token that is given: that of a job, a fine-grained or a classic one."""

    value: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class App:
    """A GitHub App: its installation on the repository (found where None) gives tokens of an hour, renewed."""

    id: str
    private_key: str = field(repr=False)
    installation: int | None = None


Auth = Token | App


def auth_from(environ: Mapping[str, str]) -> Auth:
    """Returns who we are by the environment: a GitHub App, then PUSHTRAIN_TOKEN, then GITHUB_TOKEN.

    Raises UsageError where nothing is given, or half of it.
    """
    app_id = environ.get("PUSHTRAIN_APP_ID", "").strip()
    # A key in one line, as some secret stores give it.
    key = environ.get("PUSHTRAIN_APP_PRIVATE_KEY", "").strip().replace("\\n", "\n")
    if bool(app_id) != bool(key):
        missing = "PUSHTRAIN_APP_PRIVATE_KEY" if app_id else "PUSHTRAIN_APP_ID"
        raise UsageError(f"{missing} is missing", tip="a GitHub App needs its id and its private key")
    if app_id:
        return App(id=app_id, private_key=key, installation=_installation(environ))
    for name in ("PUSHTRAIN_TOKEN", "GITHUB_TOKEN"):
        value = environ.get(name, "").strip()
        if value and not re.fullmatch(r"[!-~]+", value):
            raise UsageError(f"{name} is no token: it has characters that no token has")
        if value:
            return Token(value=value)
    raise UsageError(
        "there is no token for GitHub", tip="set GITHUB_TOKEN: ${{ github.token }} in the workflow"
    )


def _installation(environ: Mapping[str, str]) -> int | None:
    number = environ.get("PUSHTRAIN_APP_INSTALLATION", "").strip()
    if number and not number.isdigit():
        raise UsageError("PUSHTRAIN_APP_INSTALLATION is no number", tip="leave it out: it is found")
    return int(number) if number else None
