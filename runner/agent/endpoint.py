"""GET /metrics, /version, /settings -> what `metrics.text` and `skew` say, to whoever shows the fleet's token."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING

from runner.agent import metrics, skew

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# Whoever asks sends two short lines; one that says nothing is not waited for.
ASKS_WITHIN_S = 5.0
MOST_AT_ONCE = 8
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Endpoint:
    """The server while it answers; `port` is the one it has got."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._ends = False
        self.port: int = server.server_address[1]
        self._thread = threading.Thread(target=self._answer, daemon=True, name="metrics")
        self._thread.start()

    def close(self) -> None:
        """Answer no more. Call it once."""
        self._ends = True
        # It waits for whoever comes next.
        place = (self._server.server_name, self.port)
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=1):
            self._thread.join(ASKS_WITHIN_S)
        self._server.server_close()

    def _answer(self) -> None:
        # Not serve_forever, which wakes up twice a second for nothing.
        while not self._ends:
            self._server.handle_request()


def serve(address: str, port: int, token: str, *, text: Callable[[], bytes] = metrics.text) -> Endpoint:
    """Answer from now on, in a thread. Without the token only where `address` is this host's loopback.

    Raises OSError where the port is taken or the address is none of this host.
    """
    return Endpoint(_Server(address, port, token=token, text=text))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, port: int, *, token: str, text: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.token = "" if _is_loopback(address) else token
        self.text = text
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        # NVML is no quicker for many that ask at once.
        self.looking = threading.Lock()
        if not _is_loopback(address) and not token:
            raise OSError(f"metrics at {address} need a token")
        super().__init__((address, port), _Handler)

    def server_bind(self) -> None:
        """As its base, which would also ask the DNS for this host's name, however long that takes."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: object, client_address: object) -> None:
        """As its base, but for no more than MOST_AT_ONCE."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]  # a socket
            return
        try:
            super().process_request(request, client_address)  # type: ignore[arg-type]  # as above
        except RuntimeError:  # No thread could be started: then none lets go of it.
            self._free.release()
            raise

    def process_request_thread(self, request: object, client_address: object) -> None:
        """As its base."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]  # as above
        finally:
            self._free.release()

    def handle_error(self, *_: object) -> None:
        """Whoever went away, or what went wrong: told, and the next is answered."""
        logger.info("a reader of the metrics was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = ASKS_WITHIN_S
    server_version, sys_version = "pushtrain", ""

    def do_GET(self) -> None:
        if not self._may():
            self._answer(HTTPStatus.UNAUTHORIZED, b"the fleet's token is needed\n")
        elif self.path == "/version":
            self._answer(HTTPStatus.OK, skew.answer())
        elif self.path == "/settings":
            self._answer(HTTPStatus.OK, skew.answer_settings())
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"there is /metrics\n")
        else:
            with self.server.looking:
                told = self.server.text()
            self._answer(HTTPStatus.OK, told)

    def _may(self) -> bool:
        shown = self.headers.get("Authorization", "").encode(errors="replace")
        return not self.server.token or hmac.compare_digest(shown, f"Bearer {self.server.token}".encode())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", _TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        logger.debug(format, *args)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
