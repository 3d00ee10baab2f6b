"""This host's Docker: connections, removal by label, a run's leftovers.

Containers carry the mark of the host process that made them, and the id of their run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from runner.errors import DockerAway, EngineError
from runner.host.held import held_marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import docker
    from docker.models.containers import Container

NOBODY = 1000
LABEL = "pushtrain.mark"
RUN_LABEL = "pushtrain.run"
# The batch system's job, by which a host that it cleans up finds what the job left.
JOB_LABEL = "pushtrain.job"
# Whoever sees the same processes can tell whether the host process of a container still lives.
SEEN_LABEL = "pushtrain.seen"
REMOVED_WITHIN_S = 60
ENDED_FOR_S = 60
# What Docker was asked for is made by then, if it answers other questions at once meanwhile.
QUIET_S = 20.0
AT_ONCE_S = 1.0
# A Docker that does not come back for so long is left to whoever starts something here next.
GIVEN_UP_AFTER_S = 90.0
# A Docker that is being started answers by then.
STARTED_WITHIN_S = 5.0
CHUNK_BYTES = 64 * 1024
AT_ONCE = 8
"""Requests that Docker gets at the same time: with more of them it is no faster."""


def connect(*, streams: int = 0, patience_s: float = 0.0, timeout_s: int = 60) -> docker.DockerClient:
    """This host's Docker; `streams` is how many outputs are read at once, `timeout_s` how long an answer may take.

    For `patience_s` it may be just being started anew. Raises DockerAway with what to do when it does not answer.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return _connected(streams=streams, timeout_s=timeout_s)
        except EngineError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


def _connected(*, streams: int, timeout_s: int) -> docker.DockerClient:
    import docker

    try:
        client = docker.from_env(max_pool_size=streams + 2 * AT_ONCE, timeout=timeout_s)
        client.ping()
    except docker.errors.DockerException as error:
        raise DockerAway(
            f"Docker does not answer: {_why(error)}",
            tip="start it (`sudo systemctl start docker`), or use `--engine local`",
        ) from error
    return client


def _why(error: BaseException) -> str:
    """What the machine said: the libraries in between wrap it up in Python."""
    inner = error
    while (inside := inner.__cause__ or inner.__context__) is not None:
        inner = inside
    if isinstance(inner, FileNotFoundError):
        return "its socket is not there"
    return (inner.strerror or str(inner)) if isinstance(inner, OSError) else str(error)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise _refusal(what, error) from error


def _refusal(what: str, error: Exception) -> EngineError:
    import requests

    said = str(getattr(error, "explanation", None) or error)
    if isinstance(error, requests.ConnectionError):
        return DockerAway(
            f"{what}: Docker on {socket.gethostname()} does not answer any more",
            tip="sudo systemctl status docker",
        )
    if "no space left on device" in said.lower():
        return EngineError(
            f"{what}: the disk of Docker on {socket.gethostname()} is full: {said}",
            tip="there: docker system df; pushtrain gc",
        )
    return EngineError(f"{what}: {said}", tip="docker info")


@contextlib.contextmanager
def gone_is_fine() -> Iterator[None]:
    """For what is said to a container that may have ended already: that Docker refuses it then is no fault.

    Nor that it does not answer in time: whoever says it says it again.
    """
    import docker
    import requests

    with contextlib.suppress(docker.errors.APIError, requests.RequestException):
        yield


def owner() -> tuple[int, int]:
    """User and group of the training inside its container: the caller's own, but never root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)


def devices(gpus: Sequence[str]) -> list[Any] | None:
    """What gives a container these GPUs, None where there are none."""
    import docker

    return [docker.types.DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])] if gpus else None


def has_image(client: docker.DockerClient, reference: str) -> bool:
    """Whether the image is here. Raises the SDK's errors."""
    import docker

    try:
        client.images.get(reference)
    except docker.errors.ImageNotFound:
        return False
    return True


def pull(client: docker.DockerClient, reference: str) -> Iterator[dict[str, Any]]:
    """Pull an image; what Docker says of it, line by line. Raises the SDK's errors."""
    yield from client.api.pull(reference, stream=True, decode=True)


class Stream:
    """The two-way stream of a container or a command: what the SDK gives back as a socket."""

    def __init__(self, opened: Any) -> None:
        self._opened = opened
        self._socket: socket.socket = opened._sock
        self._socket.settimeout(None)

    def send(self, data: bytes) -> None:
        """Give it input. Raises OSError where it has ended."""
        self._socket.sendall(data)

    def break_off_after(self, seconds: float) -> None:
        """Take it for broken where nothing comes, or nothing is taken, for so long."""
        self._socket.settimeout(seconds)

    def end_input(self) -> None:
        """Its input has ended. Safe to repeat."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """What comes, as (1 for output or 2 for errors, data), until it ends or breaks.

        Source: https://docs.docker.com/reference/api/engine/, "Stream format". The SDK's own reader asks the kernel
        four times for each line.
        """
        waiting = b""
        with contextlib.suppress(OSError):
            while chunk := self._socket.recv(CHUNK_BYTES):
                waiting += chunk
                begin = 0
                while len(waiting) >= begin + 8:
                    stream, size = struct.unpack_from(">BxxxL", waiting, begin)
                    end = begin + 8 + size
                    if len(waiting) < end:
                        break
                    yield stream, waiting[begin + 8 : end]
                    begin = end
                waiting = waiting[begin:]

    def close(self) -> None:
        """Give its descriptor back, which the SDK does some time later. Safe to repeat."""
        self._opened.close()
        self._socket.close()


def attach(container: Container) -> Stream:
    """The output of a container that is about to be started, and its input: the lease, which ends when this is closed.

    Raises the SDK's errors.
    """
    return Stream(container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}))


def remove(container: Container) -> None:
    """Remove a container, or wait for whoever is removing it. Safe where it is gone already. Raises EngineError."""
    import docker

    with translated("a container could not be removed"):
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
            with contextlib.suppress(docker.errors.NotFound):
                container.wait(condition="removed", timeout=REMOVED_WITHIN_S)


def remove_all(containers: Iterable[Container]) -> None:
    """Remove several at once. Safe to repeat. Raises EngineError, when all have been tried."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(remove, container) for container in containers]:
            done.result()


def seen() -> str:
    """Which processes are seen from here: all that share this have the same answer to who lives."""
    return os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # no path, but a name of the kernel's


def remove_ended(client: docker.DockerClient, *, for_s: float = ENDED_FOR_S) -> None:
    """Remove what host processes left that were killed with their guardians: such containers end, and stay.

    Or they were never started, which no lease ends. What came to that within the minute is its own host process's to
    look at, and what is not started as long as that lives. Safe to repeat. Raises EngineError.
    """
    filters: dict[str, Any] = {"label": LABEL, "status": ["created", "exited", "dead"]}
    with translated("containers cannot be listed"):
        found = client.containers.list(all=True, ignore_removed=True, filters=filters)
    held = held_marks()  # Asked for later: a guardian is there before the containers are.
    before = datetime.now(UTC) - timedelta(seconds=for_s)
    for container in found:
        if container.status not in filters["status"]:
            continue  # It was listed as one that had not started, and looked at when it had.
        began = container.status == "created"
        if began and (container.labels.get(SEEN_LABEL) != seen() or container.labels[LABEL] in held):
            continue
        # To the second is enough; Docker says it to the nanosecond, which Python does not read.
        said = container.attrs["Created"] if began else container.attrs["State"]["FinishedAt"]
        if datetime.fromisoformat(said[:19] + "+00:00") < before:
            remove(container)


def remove_late(mark: str, *, quiet_s: float = QUIET_S, within_s: float = GIVEN_UP_AFTER_S) -> None:
    """Remove what Docker still makes of what a host process asked it for that has ended. Safe to repeat.

    Returns when it has made nothing for `quiet_s` and answered at once all the while, or `within_s` is over.
    """
    gives_up_s = time.monotonic() + within_s
    quiet_from_s = time.monotonic()
    while (asked_s := time.monotonic()) < min(gives_up_s, quiet_from_s + quiet_s):
        try:
            found = end_containers(mark, grace_s=0)
        except EngineError:
            found = 1  # Nobody knows.
        if found or time.monotonic() > asked_s + AT_ONCE_S:
            quiet_from_s = time.monotonic()
        time.sleep(0.5)


def end_containers(mark: str, *, grace_s: float) -> int:
    """Stop and remove every container that carries the mark. Returns how many there were. Safe to repeat."""
    client = connect()
    with translated("containers cannot be listed"):
        found = client.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}={mark}"})
    if grace_s:
        _ask_to_stop(found, grace_s=grace_s)
    remove_all(found)
    client.close()
    return len(found)


def _ask_to_stop(containers: Sequence[Container], *, grace_s: float) -> None:
    """SIGTERM to all of them at once; returns when they ended or the grace is over."""
    import requests

    deadline_s = time.monotonic() + grace_s
    for container in containers:
        with gone_is_fine():
            container.kill(signal="SIGTERM")
    for container in containers:
        with gone_is_fine(), contextlib.suppress(requests.RequestException):
            container.wait(timeout=max(0.1, deadline_s - time.monotonic()))


def end_run(run_id: str) -> None:
    """Remove every container and network of a run, whichever attempt and node. Safe to repeat. Raises EngineError."""
    import docker

    client = connect(patience_s=STARTED_WITHIN_S)
    with translated("what a run left cannot be listed"):
        label: dict[str, str | list[str] | bool] = {"label": f"{RUN_LABEL}={run_id}"}
        remove_all(client.containers.list(all=True, ignore_removed=True, filters=label))
        for network in client.networks.list(filters=label):
            with contextlib.suppress(docker.errors.NotFound):
                network.remove()
    client.close()
