"""A question to this host's Docker -> its answer, over its socket alone: light enough for every half minute."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from runner.errors import EngineError

DEFAULT = "unix:///var/run/docker.sock"
WITHIN_S = 10.0


def get(path: str, *, within_s: float = WITHIN_S, **filters: list[str]) -> Any:
    """Return what `GET PATH` answers; `filters` as Docker has them. Raises EngineError where it does not answer."""
    return _ask("GET", _with_filters(path, filters), within_s=within_s)


def post(path: str, *, within_s: float = WITHIN_S) -> None:
    """`POST PATH`; what is gone or so already is fine. Raises EngineError."""
    _ask("POST", path, within_s=within_s)


def delete(path: str, *, within_s: float = WITHIN_S) -> None:
    """`DELETE PATH`; what is gone already is fine. Raises EngineError."""
    _ask("DELETE", path, within_s=within_s)


def images_folder(*, within_s: float = WITHIN_S) -> Path | None:
    """Where Docker keeps images; None where it does not answer, or that folder cannot be seen from here."""
    try:
        told = get("/info", within_s=within_s) or {}
    except EngineError:
        return None
    root = Path(told.get("DockerRootDir") or "/nonexistent")
    return root if root.exists() else None


def answers(*, within_s: float = WITHIN_S) -> str:
    """Return why Docker does not answer, empty where it does."""
    try:
        _ask("GET", "/_ping", within_s=within_s)
    except EngineError as error:
        return str(error)
    return ""


def _with_filters(path: str, filters: dict[str, list[str]]) -> str:
    if not filters:
        return path
    return f"{path}{'&' if '?' in path else '?'}filters={quote(json.dumps(filters))}"


def _ask(method: str, path: str, *, within_s: float) -> Any:
    connection = _connection(within_s)
    try:
        connection.request(method, path, headers={"Host": "docker"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise EngineError(f"Docker does not answer: {error}", tip="sudo systemctl restart docker") from error
    finally:
        connection.close()
    # 304: it is so already; 404: it is gone; 409: somebody else is at it.
    if answer.status >= 400 and (method == "GET" or answer.status not in {404, 409}):
        said = body.decode(errors="replace").strip()
        raise EngineError(f"Docker refuses {method} {path}: {said}", tip="docker info")
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return json.loads(body) if is_json and body else None


def _connection(within_s: float) -> http.client.HTTPConnection:
    place = urlsplit(os.environ.get("DOCKER_HOST") or DEFAULT)
    if place.scheme == "unix":
        return _Unix(place.path, within_s=within_s)
    if place.scheme in {"tcp", "http"} and place.hostname:
        return http.client.HTTPConnection(place.hostname, place.port or 2375, timeout=within_s)
    raise EngineError(
        f"DOCKER_HOST is {place.geturl()}, and a host of the fleet needs the Docker of its own machine",
        tip=f"unset DOCKER_HOST, or set it to {DEFAULT}",
    )


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str, *, within_s: float) -> None:
        super().__init__("docker", timeout=within_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
