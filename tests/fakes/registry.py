"""A registry that wants a password or a token, as those of providers do; Debian's own needs none."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD, IDENTITY, TOKEN = "alice", "correct-horse", "refresh-me", "a-token"
DIGEST = "sha256:" + "cd" * 32
Wants = Literal["nothing", "basic", "token"]


@dataclass
class Registry:
    """`images` are digests by `name:tag`. `asked` are method, path and the kind of authorization of each request."""

    wants: Wants = "nothing"
    images: Mapping[str, str] = field(default_factory=lambda: {"team/train:1": DIGEST})
    realm: str = ""
    status: int | None = None
    location: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    address: str = ""

    def allowed(self, authorization: str) -> bool:
        """Whether an image may be seen with that header."""
        return (
            self.wants == "nothing"
            or authorization == {"basic": _basic(), "token": f"Bearer {TOKEN}"}[self.wants]
        )

    def challenge(self) -> str:
        """What it says where nothing, or the wrong thing, was shown."""
        if self.wants == "basic":
            return 'Basic realm="images"'
        realm = self.realm or f"http://{self.address}/token"
        return f'Bearer realm="{realm}",service="images",scope="repository:team/train:pull"'

    def may_have_token(self, authorization: str, form: Mapping[str, list[str]]) -> bool:
        """Whether who asks for a token gets one."""
        return authorization == _basic() or form.get("refresh_token") == [IDENTITY]


def _basic() -> str:
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@contextmanager
def serving(registry: Registry, *, tls: Path | None = None, host: str = "127.0.0.1") -> Iterator[Registry]:
    """Runs it on loopback, with TLS only where there is a file with key and certificate; sets its `address`."""
    server = _Server((host, 0), _Handler)
    server.registry = registry
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.address = f"{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    registry: Registry


class _Handler(BaseHTTPRequestHandler):
    @property
    def registry(self) -> Registry:
        assert isinstance(self.server, _Server)
        return self.server.registry

    def do_HEAD(self) -> None:
        authorization = self._noted()
        name = urlsplit(self.path).path.removeprefix("/v2/").replace("/manifests/", ":")
        if self.registry.status is not None:
            self._answer(self.registry.status, {"Location": self.registry.location + self.path})
        elif not self.registry.allowed(authorization):
            self._answer(401, {"WWW-Authenticate": self.registry.challenge()})
        elif name in self.registry.images:
            self._answer(200, {"Docker-Content-Digest": self.registry.images[name]})
        else:
            self._answer(404)

    def do_CONNECT(self) -> None:
        """As a proxy to a place that does not speak TLS."""
        self._noted()
        self._answer(200)

    def do_GET(self) -> None:
        self._token({})

    def do_POST(self) -> None:
        self._token(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

    def _token(self, form: Mapping[str, list[str]]) -> None:
        allowed = self.registry.may_have_token(self._noted(), form)
        self._answer(200 if allowed else 401, body=b'{"token": "%s"}' % TOKEN.encode())

    def _noted(self) -> str:
        authorization = self.headers.get("Authorization") or ""
        self.registry.asked.append((self.command, self.path, authorization.partition(" ")[0]))
        return authorization

    def _answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what was asked is in `asked`."""
