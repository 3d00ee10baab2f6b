"""The fleet's key -> the password of the registry on its head: as the head checks it, and as Docker shows it."""

from __future__ import annotations

import base64
import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.agent.token import registry_password, write_secret
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

USER = "pushtrain"
# The registry computes it anew for each request. What makes it dear to guess is the password, of 256 random bits.
_ROUNDS = 4
_CONFIG = "config.json"
# What Docker takes no notice of: who may be shown the password without TLS. See environment/registry.py.
OURS = "pushtrain"


def write_htpasswd(path: Path, key: bytes) -> None:
    """What the registry checks passwords by, for its owner alone. Safe to repeat, also while the registry runs."""
    import bcrypt

    made = bcrypt.hashpw(registry_password(key).encode(), bcrypt.gensalt(_ROUNDS))
    write_secret(path, f"{USER}:{made.decode()}\n".encode())


def folder(run: Path) -> Path:
    """What DOCKER_CONFIG names on a machine of a fleet whose head serves images."""
    return run / "docker"


def write(run: Path, *, registry: str, key: bytes) -> None:
    """Write Docker's configuration with the login at the fleet's registry, beside what the user has of his own.

    Safe to repeat. Raises OSError where the folder cannot be written.
    """
    own, to = _own_folder(), folder(run)
    to.mkdir(mode=0o700, exist_ok=True)
    to.chmod(0o700)
    # Docker looks for its plugins, contexts and builders beside its configuration.
    for each in own.iterdir() if own.is_dir() else ():
        if each.name != _CONFIG and not os.path.lexists(to / each.name):
            (to / each.name).symlink_to(each.absolute())
    auth = base64.b64encode(f"{USER}:{registry_password(key)}".encode()).decode()
    told = merged(_own(own / _CONFIG), registry=registry, auth=auth)
    write_secret(to / _CONFIG, json.dumps(told, indent=2).encode() + b"\n")


def refresh(run: Path, *, registry: str, key: bytes) -> None:
    """Take in what the user's own configuration says since, as after a `docker login`. Does nothing without a login.

    Safe to repeat. Raises OSError where the folder cannot be written.
    """
    kept, own = folder(run) / _CONFIG, _own_folder() / _CONFIG
    if kept.exists() and own.exists() and own.stat().st_mtime_ns > kept.stat().st_mtime_ns:
        write(run, registry=registry, key=key)


def forget(run: Path) -> None:
    """Of a fleet that this machine left, or whose head serves no images. Safe to repeat."""
    shutil.rmtree(folder(run), ignore_errors=True)


def merged(own: Mapping[str, Any], *, registry: str, auth: str) -> dict[str, Any]:
    """The user's own configuration of Docker with one login more, which no helper of his is asked for. Pure."""
    auths, helpers = (
        {**told} if isinstance(told := own.get(name), dict) else {} for name in ("auths", "credHelpers")
    )
    helpers.pop(registry, None)
    if own.get("credsStore"):
        helpers[registry] = ""
    return {
        **{name: value for name, value in own.items() if name != "credHelpers"},
        **({"credHelpers": helpers} if helpers else {}),
        "auths": {**auths, registry: {"auth": auth}},
        OURS: {"plain": [registry]},
    }


def _own_folder() -> Path:
    given = os.environ.get("DOCKER_CONFIG")
    return Path(given) if given and Path(given) != folder(run_folder()) else Path.home() / ".docker"


def _own(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("the passwords of %s are not taken over: %s", path, error)
        return {}
    return told if isinstance(told, dict) else {}
