"""`python -m tests.lab.s3 ADDRESS PORT SWITCH`: an S3 server, which answers 503 to all while there is a file SWITCH."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler  # type: ignore[attr-defined]  # it has no other place
from werkzeug.serving import make_server

# What S3 says when it is asked for too much.
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def busy_while(switch: Path, application: Application) -> Application:
    """The same application, but for the time that `switch` is there."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if not switch.exists():
            return application(environ, start)
        # The connection goes on, so what was sent has to be read.
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(_BUSY)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [_BUSY]

    return answer


def serve(address: str, port: int, switch: Path) -> None:
    """Serves for ever."""
    application = busy_while(switch, DomainDispatcherApplication(create_backend_app))
    make_server(address, port, application, threaded=True, request_handler=MotoRequestHandler).serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
