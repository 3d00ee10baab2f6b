"""A provider's machines for tests: hosts of the lab behind a button that its head can press, over HTTP."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import Host, Lab

# What elastic.yml of the head names; curl is not on every machine.
BUTTON = """
import os, sys, urllib.request, urllib.error
verb, names = sys.argv[2], sys.argv[3:]
body = open(os.environ["PUSHTRAIN_TOKEN_FILE"], "rb").read() if verb == "start" else b""
url = f"http://{sys.argv[1]}/{verb}/{','.join(names)}?{os.environ['PUSHTRAIN_ALONE']}"
try:
    print(urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60).read().decode(), end="")
except urllib.error.HTTPError as error:
    sys.exit(error.read().decode())
"""


@dataclass
class Machines:
    """Those of a lab: `lab-1` is its host h1. `refusal` is said to who starts one; `joins` is whether one joins."""

    lab: Lab
    refusal: str = ""
    joins: bool = True
    asked: list[str] = field(default_factory=list)
    port: int = 0
    path: Path = Path("/nonexistent")

    def search(self, host: Host) -> str:
        """PATH on a host, with programs that this machine lacks."""
        return f"{self.path}:{host.environ['PATH']}"

    def answer(self, verb: str, names: list[str], token: bytes, alone_s: str) -> str:
        self.asked.append(f"{verb} {','.join(names)}")
        if verb == "start":
            if self.refusal:
                raise RuntimeError(self.refusal)
            for name in names:
                self.start(name, token, alone_s)
        if verb == "stop":
            for name in names:
                self.lab.host(_host(name)).off()
        return "".join(
            f"lab-{host.name[1:]} {host.address}\n" for host in self.lab.hosts if host.name != "h0"
        )

    def start(self, name: str, token: bytes, alone_s: str) -> None:
        host = self.lab.host(_host(name))
        self.lab.boot(host.name)
        off = ("--alone", f"{alone_s}s", "--off", "kill -TERM 1")
        host.run("pushtrain", "agent", "power", "deadman", name, *off)
        host.run("sh", "-c", "umask 077; cat >/run/token", given=token.decode())
        if self.joins:
            head = ("--join", self.lab.head.address, "--token-file", "/run/token")
            start = ("pushtrain", "agent", "start", *head, "--name", name, "--foreground")
            host.spawn(*start, environ={"PATH": self.search(host)}, log="start.log")

    def settings(self, folder: Path) -> str:
        """The part of elastic.yml that names them."""
        button = folder / "button.py"
        button.write_text(BUTTON)
        call = f"python3 {button} {self.lab.plan.outside}:{self.port}"
        return f"command: {{start: {call} start, stop: {call} stop, list: {call} list}}\n"


def _host(name: str) -> str:
    return "h" + name.removeprefix("lab-")


@contextlib.contextmanager
def serving(lab: Lab) -> Iterator[Machines]:
    """The button, while the block lasts."""
    machines = Machines(lab=lab)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path, _, alone_s = self.path.partition("?")
            _, verb, names = path.split("/")
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            try:
                text, status = machines.answer(verb, [n for n in names.split(",") if n], body, alone_s), 200
            except RuntimeError as error:
                text, status = str(error), 503
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer((lab.plan.outside, 0), Handler)
    machines.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield machines
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
