"""A registry of images for tests, on loopback, with a folder of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.services.process import running

_CONFIGURATION = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: "{folder}/data"}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""


@contextmanager
def image_registry(folder: Path) -> Iterator[str]:
    """Runs an empty registry below `folder`; gives its address, `127.0.0.1:PORT`."""
    address = f"127.0.0.1:{_free_port()}"
    written = folder / "registry.yml"
    written.write_text(configuration(folder, address))
    argv = ["docker-registry", "serve", str(written)]
    with running(argv, log=folder / "registry.log", ready=lambda: answers(address)):
        yield address


def configuration(folder: Path, address: str) -> str:
    """What a registry is told that keeps its images below `folder`."""
    return _CONFIGURATION.format(folder=folder, address=address)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    """Whether a registry answers there."""
    try:
        with urlopen(f"http://{address}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
