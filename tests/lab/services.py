"""The fabric of a lab -> a registry of images and an S3 server that all hosts reach, and their faults."""

from __future__ import annotations

import signal
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.fixtures.s3 import CREDENTIALS, make_bucket
from tests.lab.fabric import Fabric
from tests.lab.namespaces import Process, awaited, named
from tests.services.registry import answers, configuration

_ROOT = Path(__file__).parents[2]


class Registry:
    """A registry that needs no login; what is in it outlives its process."""

    port = 5000

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._folder = fabric.folder / "registry"
        self.address = f"{fabric.plan.services}:{self.port}"

    def spawn(self) -> None:
        """Start it and do not wait."""
        self._folder.mkdir(parents=True, exist_ok=True)
        written = self._folder / "registry.yml"
        written.write_text(configuration(self._folder, self.address))
        self._fabric.spawn(["docker-registry", "serve", str(written)], log=self._folder / "log")

    def await_(self) -> None:
        """Blocks until it answers."""
        awaited("the registry", self.answers, log=self._folder / "log")

    def answers(self) -> bool:
        """Whether it does."""
        return answers(self.address)

    def start(self) -> None:
        """Blocks until it answers. Safe to repeat."""
        if not self.answers():
            self.spawn()
            self.await_()

    def kill(self) -> int:
        """End it with -9. Safe to repeat."""
        return _kill(self._fabric, "docker-registry")


class Store:
    """An S3 server; what is in it is gone when it ends."""

    port = 9000

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._switch = fabric.folder / "busy"
        self._log = fabric.folder / "s3.log"
        self.endpoint = f"http://{fabric.plan.services}:{self.port}"
        # What a host's command has to be given besides, to be let in.
        self.environ = dict(CREDENTIALS)

    def spawn(self) -> None:
        """Start it and do not wait."""
        self.well()
        script = ["-m", "tests.lab.s3", self._fabric.plan.services, str(self.port), str(self._switch)]
        told = ["env", "-i", "-C", str(_ROOT), "LANG=C.UTF-8", "MOTO_S3_CUSTOM_ENDPOINTS="]
        self._fabric.spawn([*told, sys.executable, *script], log=self._log)

    def await_(self) -> None:
        """Blocks until it answers."""
        awaited("the store", self._answers, log=self._log)

    def start(self) -> None:
        """Blocks until it answers. Safe to repeat."""
        if not self._answers():
            self.spawn()
            self.await_()

    def kill(self) -> int:
        """End it with -9, and lose what is in it. Safe to repeat."""
        return _kill(self._fabric, "tests.lab.s3")

    def uri(self) -> str:
        """An empty place in a bucket of its own."""
        return f"s3://{make_bucket(self.endpoint)}/team/training?endpoint={self.endpoint}&region=us-east-1"

    def busy(self) -> None:
        """From now on it answers 503 to everything. Safe to repeat."""
        self._switch.touch()

    def well(self) -> None:
        """No longer. Safe to repeat."""
        self._switch.unlink(missing_ok=True)

    def state(self) -> str:
        """`on`, `off`, or `busy` where it answers 503."""
        return ("busy" if self._switch.exists() else "on") if self._answers() else "off"

    def _answers(self) -> bool:
        if self._fabric.process is None:
            return False
        try:
            with urlopen(self.endpoint, timeout=5):
                return True
        except HTTPError as error:
            return error.code == HTTPStatus.SERVICE_UNAVAILABLE
        except (URLError, OSError):
            return False


def _kill(fabric: Fabric, name: str) -> int:
    fabric_process = fabric.process
    doomed = [Process.of(pid) for pid in named(fabric_process, name)] if fabric_process else []
    found = [process for process in doomed if process]
    for process in found:
        process.kill(signal.SIGKILL)
    awaited(f"the end of {name}", lambda: not any(process.alive for process in found))
    return len(found)
