"""`emulate`, a GitHub of other people's making (npm), as a process of its own on 127.0.0.1."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.github.state import key_pair
from tests.services.process import running

_APP, _INSTALLATION, _TOKEN = 12345, 100, "peer-token"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Its address, a token of `owner`, and the app that is installed on what they have."""

    url: str
    token: str
    owner: str
    app_id: int
    installation: int
    private_key: str


@contextmanager
def emulate(node_modules: Path, folder: Path, *, owner: str = "lab") -> Iterator[Peer]:
    """Runs it with one account, `owner`, one app, and no repository, until the block ends."""
    private_key, _ = key_pair()
    app = {
        "app_id": _APP,
        "slug": "pushtrain",
        "name": "Pushtrain",
        "private_key": private_key,
        "permissions": {"contents": "write", "checks": "write", "issues": "write", "pull_requests": "write"},
        "installations": [
            {"installation_id": _INSTALLATION, "account": owner, "repository_selection": "all"}
        ],
    }
    seed = folder / "seed.json"
    seed.write_text(
        json.dumps(
            {
                "tokens": {_TOKEN: {"login": owner, "scopes": ["repo", "user"]}},
                "github": {"users": [{"login": owner}, {"login": "ann"}], "apps": [app]},
            }
        )
    )
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        "node", "--require", str(Path(__file__).with_name("loopback.cjs")), str(node_modules / "emulate/dist/index.js"),
        "start", "--service", "github", "--port", str(port), "--base-url", url, "--seed", str(seed),
    ]  # fmt: skip
    with running(command, log=folder / "emulate.log", ready=lambda: _listens(port)):
        yield Peer(
            url=url,
            token=_TOKEN,
            owner=owner,
            app_id=_APP,
            installation=_INSTALLATION,
            private_key=private_key,
        )


def _free_port() -> int:
    # It has to be told its own address beforehand.
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


def _listens(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0
