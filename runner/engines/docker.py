"""The engine `docker`: containers of this machine's Docker, several nodes on a private network of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from runner.engines.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


class DockerMachine(Machine):
    """This machine through its Docker."""

    name = "docker"
    isolates = True
    environment: Literal["venv", "image"] = "image"
    host_imports = "docker"

    def sweep(self, run_id: str) -> None:
        """Remove every container and network of the run."""
        from runner.host.containers import end_run

        end_run(run_id)


def engine(*, home: Path, store: str) -> DockerMachine:
    """The engine of this module."""
    return DockerMachine(home=home, store=store)
