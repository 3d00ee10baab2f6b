"""moto's EC2 and S3 on a free port of loopback, with faults that a test asks for; ends when its standard input does.

`GET /_faults?…` sets them: `refuse=TYPE/SUBNET:CODE` (also `*`), `throttle=N` requests, `lose=N` answers to
RunInstances, `hide=N` times all machines from who lists them, as EC2 does for a while.
The answer is what was asked for until then. moto ignores client tokens, so they are kept here as EC2 does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, parse_qsl

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler  # type: ignore[attr-defined]  # it has no other place
from werkzeug.serving import make_server

_NONE = b"<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>"
Start = Callable[..., Any]
_ERROR = (
    '<?xml version="1.0"?><Response><Errors><Error><Code>{code}</Code><Message>{code}, as the test wants</Message>'
    "</Error></Errors><RequestID>1</RequestID></Response>"
)


class Faulty:
    def __init__(self) -> None:
        self.app = DomainDispatcherApplication(create_backend_app)
        self.refuse: dict[str, str] = {}
        self.throttle = self.lose = self.hide = 0
        self.answers: dict[str, tuple[dict[str, str], bytes]] = {}
        self.launches: list[str] = []

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_faults":
            return self._set(parse_qs(environ["QUERY_STRING"]), start)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        asked = dict(parse_qsl(body.decode(errors="replace"))) if b"Action=" in body else {}
        if asked and self.throttle:
            self.throttle -= 1
            return _refused(start, "RequestLimitExceeded", status="503 Service Unavailable")
        if asked.get("Action") == "RunInstances":
            return self._run(asked, environ, start)
        if asked.get("Action") == "DescribeInstances" and self.hide:
            self.hide -= 1
            start("200 OK", [("Content-Type", "text/xml")])
            return [_NONE]
        return self.app(environ, start)  # type: ignore[no-any-return]  # untyped

    def _set(self, asked: dict[str, list[str]], start: Start) -> Iterable[bytes]:
        self.refuse = dict(each.rsplit(":", 1) for each in asked.get("refuse", ()))
        for name in ("throttle", "lose", "hide"):
            setattr(self, name, int(asked.get(name, ["0"])[0]))
        start("200 OK", [("Content-Type", "text/plain")])
        return ["\n".join(self.launches).encode()]

    def _run(self, asked: dict[str, str], environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        place = f"{asked['InstanceType']}/{asked['SubnetId']}"
        self.launches.append(place)
        if code := self.refuse.get(place) or self.refuse.get("*"):
            return _refused(start, code)
        told = {key: value for key, value in asked.items() if key not in {"Version", "Action"}}
        known = self.answers.get(asked["ClientToken"])
        if known is None:
            known = told, b"".join(self.app(environ, lambda *_: None))
            self.answers[asked["ClientToken"]] = known
        if known[0] != told:
            return _refused(start, "IdempotentParameterMismatch")
        if self.lose:
            self.lose -= 1
            return _refused(start, "InternalError", status="500 Internal Server Error")
        start("200 OK", [("Content-Type", "text/xml")])
        return [known[1]]


def _refused(start: Start, code: str, *, status: str = "400 Bad Request") -> Iterable[bytes]:
    start(status, [("Content-Type", "text/xml")])
    return [_ERROR.format(code=code).encode()]


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, Faulty(), threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(server.port, flush=True)
    server.serve_forever()
