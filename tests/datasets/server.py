"""A loopback HTTP server with one file, ranges, and faults to order."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and what was asked: `asked` has method, path and Range header of every request.

    `faults` are used up one a GET: a status to answer with, or how many bytes to send before hanging up.
    """

    content: bytes = b"0123456789" * 100
    etag: str | None = None
    modified: str = "Mon, 05 Oct 2026 10:00:00 GMT"
    says_length: bool = True
    head_status: int = 200
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"' if self.etag is None else self.etag


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_HEAD(self) -> None:
        self._note()
        self._answer(404 if self.path.startswith("/missing") else self.site.head_status, self.site.content)

    def do_GET(self) -> None:
        self._note()
        site = self.site
        if self.path.startswith("/missing"):
            self._answer(404, b"nothing")
        elif site.statuses:
            self._answer(site.statuses.pop(0), b"")
        else:
            self._send()

    def _send(self) -> None:
        site, start = self.site, 0
        asked = self.headers.get("Range", "")
        if asked and self.headers.get("If-Range") in {site.tag, site.modified}:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        rest = site.content[start:]
        span = f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"
        self._answer(206 if start else 200, rest, span=span if start else "")
        cut = site.cuts.pop(0) if site.cuts else len(rest)
        self.wfile.write(rest[:cut])
        if cut < len(rest) or not site.says_length:
            self.close_connection = True

    def _answer(self, status: int, content: bytes, *, span: str = "") -> None:
        self.send_response(status)
        if self.site.tag:
            self.send_header("ETag", self.site.tag)
        if self.site.modified:
            self.send_header("Last-Modified", self.site.modified)
        if self.site.says_length:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()

    def _note(self) -> None:
        self.site.asked.append((self.command, self.path, self.headers.get("Range", "")))

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    handler = type("SiteHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
