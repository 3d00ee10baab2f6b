"""A proxy before an S3 server that loses requests or answers, as told."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["busy", "answer lost", "body cut"]


class Flaky(ThreadingHTTPServer):
    """Commits the next of `faults` at each request until none is left; counts `committed`."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(endpoint).netloc
        self.faults: deque[Fault] = deque()
        self.committed = 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def handle_any(self) -> None:
        assert isinstance(self.server, Flaky)
        fault = self.server.faults.popleft() if self.server.faults else None
        self.server.committed += fault is not None
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "busy":
            self.send_error(503)
            return
        status, headers, data = self._forward(self.server.behind, body)
        if fault == "answer lost":
            self.send_error(503)
            return
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in {"connection", "transfer-encoding", "server", "date"}:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "body cut" else data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815  # names of http.server

    def _forward(self, behind: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(behind)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def flaky(endpoint: str) -> Iterator[Flaky]:
    """Runs a proxy before `endpoint`."""
    with Flaky(endpoint) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
