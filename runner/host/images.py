"""A reference -> the image in this host's Docker, pulled by its digest, once for all runs that wait for it here."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import DockerAway, EngineError, EnvironmentFailed, PushtrainError
from runner.host.docker_host import connect, has_image, pull, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import docker

    from runner.host.progress import Progress

logger = logging.getLogger(__name__)

TRIED_FOR_S = 60.0
# A Docker that was killed is started again by its machine within seconds, or by nobody.
DOCKER_WITHIN_S = 20.0
LONGEST_PAUSE_S = 10.0
# A registry that is read from a slow disk says nothing for minutes.
SILENT_FOR_S = 600
DIGEST = "@sha256:"
# Trying again changes nothing.
_FINAL = (
    "not found",
    "unknown",
    "unauthorized",
    "denied",
    "no basic auth",
    "no space left",
    "invalid reference",
)


def bring(reference: str, *, cache: Path, progress: Progress) -> None:
    """Have the image here. Quick where it is; blocks while it is pulled, by this process or another. Safe to repeat.

    A registry that does not answer is asked again for a minute. Raises EnvironmentFailed where it never does, where it
    refuses, and where no registry is known from which this host could have the image; DockerAway where Docker ended and
    nobody starts it again, else EngineError for Docker.
    """
    from runner.environment import only_here, pulled

    with contextlib.closing(_docker(progress)) as client:
        with translated("the image cannot be looked up"):
            if has_image(client, reference):
                pulled.note(cache, reference)
                return
        if reference.startswith("sha256:"):
            raise EnvironmentFailed(
                f"{socket.gethostname()} has no image {reference[:19]}: it is only in the Docker of the host that "
                "has the run's first node",
                tip="docker push it to a registry that all hosts reach, and name it so in environment.image",
            )
        if DIGEST not in reference:
            raise EnvironmentFailed(
                f"{socket.gethostname()} has no image {reference}, and no registry is configured to take it from",
                tip=only_here.HOW_TO_SHARE,
            )
        with _alone(pulled.lock(cache, reference)):
            comes = not has_image(client, reference)
            if comes:
                _pull(lambda: pull(client, reference), reference, progress)
            # What came for nobody else may be removed by us.
            pulled.note(cache, reference, pulled=comes)


def _docker(progress: Progress) -> docker.DockerClient:
    try:
        return connect(timeout_s=SILENT_FOR_S)
    except DockerAway as error:
        progress.wait(f"{error}; trying again for {DOCKER_WITHIN_S:.0f} s")
    client = connect(timeout_s=SILENT_FOR_S, patience_s=DOCKER_WITHIN_S)
    progress.wait("")
    return client


def _pull(start: Callable[[], Iterable[dict[str, Any]]], reference: str, progress: Progress) -> None:
    since_s, pause_s = None, 1.0
    while failed := _failure(start, progress):
        said, is_docker = str(failed), isinstance(failed, DockerAway)
        since_s = since_s or time.monotonic()  # Much may have come before.
        deadline_s = since_s + (DOCKER_WITHIN_S if is_docker else TRIED_FOR_S)
        is_final = any(word in said.lower() for word in _FINAL)
        if is_final or time.monotonic() + pause_s > deadline_s:
            if is_docker:
                raise failed
            raise _refused(reference, said, is_final=is_final)
        logger.warning("%s: %s; asking again in %.0f s", reference, said, pause_s)
        progress.wait(said if is_docker else _waits(reference, said))
        time.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
    if since_s is not None:
        progress.wait("")


def _waits(reference: str, said: str) -> str:
    """For what the host waits, with the end of what Docker said: before that stands the way to it."""
    registry, why = reference.partition("/")[0], said.rpartition(": ")[2]
    return f"the registry {registry} does not answer ({why}); trying again for a minute"


def _failure(start: Callable[[], Iterable[dict[str, Any]]], progress: Progress) -> PushtrainError | None:
    """Pull once; what Docker said against it, None where it is done."""
    layers: dict[str, tuple[int, int]] = {}
    try:
        with translated("pull"):
            for line in start():
                if line.get("error"):
                    return EngineError(str(line["error"]))
                note(layers, line)
                progress.note(
                    sum(done for done, _ in layers.values()), sum(size for _, size in layers.values()) or None
                )
    except PushtrainError as error:
        return error
    return None


def note(layers: dict[str, tuple[int, int]], line: dict[str, Any]) -> None:
    """Take in one line of a pull: how much of each layer has come, and its size, as far as Docker says."""
    layer, status, detail = line.get("id", ""), line.get("status", ""), line.get("progressDetail") or {}
    if status == "Downloading" and detail.get("total"):
        layers[layer] = (detail.get("current", 0), detail["total"])
    elif status in ("Download complete", "Pull complete") and layer in layers:
        layers[layer] = (layers[layer][1],) * 2


def _refused(reference: str, said: str, *, is_final: bool) -> EnvironmentFailed:
    from runner.environment.client import refusal

    host, registry = socket.gethostname(), reference.partition("/")[0]
    if is_final:
        refused = refusal(f"pull {reference}", said)
        return EnvironmentFailed(f"{host}: {refused}", tip=refused.tip)
    return EnvironmentFailed(
        f"{host} cannot pull {reference}: the registry did not answer for a minute: {said}",
        tip=f"see that {registry} runs and that {host} reaches it; then: pushtrain resume",
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One pull at a time; the kernel frees the lock of a process that was killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
