"""Ranks as containers of this host's Docker: the only user of the Docker SDK.

Where a node has several ranks, a container that does nothing else holds the node's network and shared memory; the ranks
join it, so that they reach each other as on one machine while each keeps its own output, exit code and limits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError
from runner.host.job import rank_environment
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import docker
    from docker.models.containers import Container

    from runner.host.job import Job
    from runner.launch import Process

WORK = Path("/workspace")
NOBODY = 1000
LABEL = "pushtrain.mark"
RUN_LABEL = "pushtrain.run"
REMOVED_WITHIN_S = 60
NETWORK_WITHIN_S = 60.0


def connect() -> docker.DockerClient:
    """This host's Docker. Raises EngineError with what to do when it does not answer."""
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        raise EngineError(
            f"Docker does not answer: {error}",
            tip="start it (`sudo systemctl start docker`), or use `--engine local`",
        ) from error
    return client


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(
            f"{what}: {getattr(error, 'explanation', None) or error}", tip="docker info"
        ) from error


def owner() -> tuple[int, int]:
    """User and group of the training inside its container: the caller's own, but never root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)


class ContainerRank:
    """One rank in one container."""

    def __init__(
        self, process: Process, container: Container, output: Any, sink: Callable[[bytes], None]
    ) -> None:
        self.process, self._container, self._output, self._sink = process, container, output, sink

    def wait(self) -> Exit:
        """Block until the container ended and its output was read. Raises EngineError when Docker is lost."""
        with translated(f"rank {self.process.rank} was lost"):
            for chunk in self._output:
                self._sink(chunk)
            code = int(self._container.wait(timeout=None)["StatusCode"])
            self._container.reload()
            killed_by_kernel = self._container.attrs["State"]["OOMKilled"]
        return Exit.of(code, cause="out of memory: the kernel ended it" if killed_by_kernel else "")

    def signal(self, signum: int) -> None:
        """Signal the container's first process; SIGKILL ends all of it."""
        import docker

        with contextlib.suppress(docker.errors.APIError):
            self._container.kill(signal=signal.Signals(signum).name)

    def close(self) -> None:
        """Remove the container."""
        _remove(self._container)


def _remove(container: Container) -> None:
    """Remove a container, or wait for whoever is removing it. Safe where it is gone already."""
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


class ContainerRanks:
    """Starts the ranks of one node in containers without capabilities, as a user that is not root."""

    def __init__(self, job: Job, datasets: Mapping[str, str]) -> None:
        self._job, self._datasets = job, datasets
        self._client = connect()
        self._holder: Container | None = None

    def join(self) -> None:
        """Give the node its name on the run's network before any rank starts; node 0 makes the network.

        Blocks until the network is there. Raises EngineError when it does not come.
        """
        name = self._job.network
        assert name is not None
        deadline_s = time.monotonic() + NETWORK_WITHIN_S
        with translated("the run's network cannot be made"):
            while not self._client.networks.list(names=[name]):
                if self._job.node_rank == 0:
                    self._make_network(name)
                elif time.monotonic() > deadline_s:
                    raise EngineError(f"the network {name} did not come up", tip="docker network ls")
                else:
                    time.sleep(0.05)
            self._holder = self._hold()

    def _make_network(self, name: str) -> None:
        """A network of this run's nodes; that of an isolated run leads nowhere else, not even to this host.

        `internal` is a matter of the host's firewall rules, which Docker may have been told not to touch. Without an
        address of the host on the bridge there is nobody to send a packet on to.
        """
        isolated = self._job.isolated
        self._client.networks.create(
            name,
            driver="bridge",
            internal=isolated,
            options={"com.docker.network.bridge.inhibit_ipv4": "true"} if isolated else None,
            labels={RUN_LABEL: self._job.run_id},
        )

    def start(self, process: Process, sink: Callable[[bytes], None]) -> ContainerRank:
        """Start one rank. Raises EngineError when Docker refuses."""
        with translated(f"rank {process.rank} cannot be started"):
            container = self._client.containers.create(**self._settings(process))
            output = container.attach(stdout=True, stderr=True, stream=True)
            container.start()
        return ContainerRank(process, container, output, sink)

    def close(self) -> None:
        """Remove the containers of this node."""
        end_containers(self._job.mark, grace_s=0)
        self._client.close()

    def _settings(self, process: Process) -> dict[str, Any]:
        job, limits = self._job, self._job.limits
        return {
            **self._confined(),
            "entrypoint": list(process.argv),
            "name": f"pushtrain-{job.run_id}-a{job.attempt}-r{process.rank}",
            "environment": self._environment(process),
            "working_dir": str(WORK),
            "volumes": self._volumes(),
            "mem_limit": limits.memory_bytes,
            "nano_cpus": int(limits.cpus * 1e9) if limits.cpus else None,
            "device_requests": _devices(job.gpus),
            **self._place(),
        }

    def _confined(self) -> dict[str, Any]:
        """What holds for every container of a run."""
        return {
            "image": self._job.image,
            "labels": {LABEL: self._job.mark, RUN_LABEL: self._job.run_id},
            "user": "{}:{}".format(*owner()),
            "init": True,
            "pids_limit": self._job.limits.pids,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            # Output is read from the attached stream and kept by us; a second copy would fill the host's disk.
            "log_config": {"Type": "none"},
        }

    def _environment(self, process: Process) -> dict[str, str]:
        mounts = {name: f"/datasets/{name}" for name in self._datasets}
        # docker-init passes a signal on to its child alone unless it is told to reach all of the child's group.
        own = {"HOME": "/tmp", "TINI_KILL_PROCESS_GROUP": "1"}  # noqa: S108  # inside the container
        return {**own, **rank_environment(self._job, process, work=WORK, datasets=mounts)}

    def _volumes(self) -> list[str]:
        data = [f"{path}:/datasets/{name}:ro" for name, path in self._datasets.items()]
        return [f"{self._job.work}:{WORK}", *data]

    def _place(self) -> dict[str, Any]:
        """Network and shared memory: a rank's own where it is alone on its node, else those of the holder."""
        if len(self._job.processes) == 1 and self._holder is None:
            return self._node()
        if self._holder is None:
            self._holder = self._hold()
        shared = f"container:{self._holder.id}"
        return {"network_mode": shared, "ipc_mode": shared}

    def _hold(self) -> Container:
        """Start the holder. No rank can be it: Docker takes the network away from all when the holder ends."""
        job = self._job
        holder = self._client.containers.create(
            **self._confined(),
            entrypoint=["tail", "-f", "/dev/null"],
            name=f"pushtrain-{job.run_id}-a{job.attempt}-n{job.node_rank}",
            **self._node(),
        )
        holder.start()
        return holder

    def _node(self) -> dict[str, Any]:
        """The node's network and shared memory, for the container that has them."""
        name, network = self._job.hostnames[self._job.node_rank], self._job.network
        place: dict[str, Any] = {
            "hostname": name,
            "shm_size": self._job.limits.shm_bytes,
            "ipc_mode": "shareable",
        }
        if network is None:
            # Some libraries look up their own name, which Docker writes down for a network of its own only.
            alone = {"network_mode": "none", "extra_hosts": {name: "127.0.0.1"}}
            return {**place, **(alone if self._job.isolated else {})}
        config = self._client.api.create_endpoint_config(aliases=[name])
        return {**place, "network": network, "networking_config": {network: config}}


def _devices(gpus: tuple[str, ...]) -> list[Any] | None:
    import docker

    return [docker.types.DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])] if gpus else None


def end_containers(mark: str, *, grace_s: float) -> None:
    """Stop and remove every container that carries the mark. Safe to repeat."""
    client = connect()
    with translated("containers cannot be listed"):
        found = client.containers.list(all=True, ignore_removed=True, filters={"label": f"{LABEL}={mark}"})
    if grace_s:
        _ask_to_stop(found, grace_s=grace_s)
    for container in found:
        _remove(container)
    client.close()


def _ask_to_stop(containers: Sequence[Container], *, grace_s: float) -> None:
    """SIGTERM to all of them at once; returns when they ended or the grace is over."""
    import docker
    import requests

    deadline_s = time.monotonic() + grace_s
    for container in containers:
        with contextlib.suppress(docker.errors.APIError):
            container.kill(signal="SIGTERM")
    for container in containers:
        with contextlib.suppress(docker.errors.APIError, requests.RequestException):
            container.wait(timeout=max(0.1, deadline_s - time.monotonic()))


def end_run(run_id: str) -> None:
    """Remove every container and network of a run, whichever attempt and node. Safe to repeat."""
    import docker

    client = connect()
    with translated("what a run left cannot be listed"):
        label: dict[str, str | list[str] | bool] = {"label": f"{RUN_LABEL}={run_id}"}
        for container in client.containers.list(all=True, ignore_removed=True, filters=label):
            _remove(container)
        for network in client.networks.list(filters=label):
            with contextlib.suppress(docker.errors.NotFound):
                network.remove()
    client.close()
