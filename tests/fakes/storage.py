"""A storage host that a download is sent on to: the line can be cut, and it keeps what it was asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Storage:
    """Holds one content; of each of the first answers no more than `cuts` bytes arrive."""

    def __init__(
        self,
        content: bytes,
        *,
        cuts: tuple[int, ...] = (),
        ranges: bool = True,
        status: int = 200,
        location: str = "",
    ) -> None:
        self.content = content
        self.status = status
        self.location = location
        self.cuts = list(cuts)
        self.ranges = ranges
        self.asked: list[dict[str, str]] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append({name.lower(): value for name, value in handler.headers.items()})
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")) if self.ranges else None
        start = int(found[1]) if found else 0
        content = self.content[start:]
        handler.send_response(206 if found else self.status)
        if self.location:
            handler.send_header("Location", self.location)
        handler.send_header("Content-Length", str(len(content)))
        if found:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        handler.wfile.write(content[: self.cuts.pop(0)] if self.cuts else content)
        handler.close_connection = True


@contextmanager
def serving(storage: Storage) -> Iterator[Storage]:
    """The storage on loopback, within the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            storage.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        storage.url = f"http://127.0.0.1:{server.server_port}"
        yield storage
        server.shutdown()
