"""A file on the head, or the environment -> who the fleet is on GitHub."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from runner.errors import UsageError
from runner.github.identity import Auth, auth_from

AGENTS = Path("/var/lib/pushtrain/github-token")
"""Where the agent of the head keeps it."""


def auth(environ: Mapping[str, str], *, file: Path | None, agents: Path = AGENTS) -> Auth:
    """Who we are: by `file`, else the environment as for the action, else the agent's own file. Raises UsageError.

    A file holds a token, or the private key of the App that PUSHTRAIN_APP_ID names. Nobody but its owner may read it.
    """
    if file is None:
        if any(environ.get(name) for name in ("PUSHTRAIN_APP_ID", "PUSHTRAIN_TOKEN", "GITHUB_TOKEN")):
            return auth_from(environ)
        if not agents.is_file():
            tip = f"--token-file FILE, or put one into {agents} (mode 0600)"
            raise UsageError("there is no token for GitHub", tip=tip)
        file = agents
    text = _secret(file)
    named = {name: value for name, value in environ.items() if name.startswith("PUSHTRAIN_APP_")}
    if text.startswith("-----BEGIN"):
        if not named.get("PUSHTRAIN_APP_ID"):
            raise UsageError(
                f"{file} is a private key, and nothing says of which App", tip="set PUSHTRAIN_APP_ID"
            )
        return auth_from({**named, "PUSHTRAIN_APP_PRIVATE_KEY": text})
    return auth_from({"PUSHTRAIN_TOKEN": text})


def _secret(file: Path) -> str:
    try:
        with file.open() as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read().strip()
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"{file} cannot be read: {said}", tip="--token-file FILE") from error
    if mode & 0o077:
        raise UsageError(f"{file} may be read by others (mode {mode:04o})", tip=f"chmod 600 {file}")
    if not text:
        raise UsageError(f"{file} is empty", tip="put the token into it")
    return text
