"""The processes of one node in containers of this host's Docker.

A rank that the host starts has a container of its own: its own output, exit code and limits. Where a node has several,
a container that does nothing else holds the node's network and shared memory; the ranks join it, so that they reach
each other as on one machine. Where a launcher starts the ranks, all of them run in that container.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError
from runner.host import container_settings, container_stacks
from runner.host.container_exec import Execution, LauncherRank, Signaller
from runner.host.docker_host import (
    AT_ONCE,
    RUN_LABEL,
    Stream,
    attach,
    connect,
    end_containers,
    end_run,
    gone_is_fine,
    owner,
    remove,
    remove_ended,
    translated,
)
from runner.host.leash import end_processes
from runner.host.ranks import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from docker.models.containers import Container

    from runner.host.job import Job
    from runner.launch import Process

__all__ = ["ContainerRank", "ContainerRanks", "connect", "end_containers", "end_run", "owner"]

NETWORK_WITHIN_S = 60.0
# A Docker that was ended is soon started again, by what looks after it.
DOCKER_WITHIN_S = 30.0

# The counter is in another place with each version of control groups.
_KERNEL_KILLS = """
cat "/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/memory.events" \
    /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null
"""


class ContainerRank:
    """One rank in one container."""

    def __init__(
        self,
        process: Process,
        container: Container,
        output: Stream,
        *,
        sink: Callable[[bytes], None],
        discard: Callable[[Container], None],
    ) -> None:
        self.process, self._container, self._output = process, container, output
        self._sink, self._discard = sink, discard

    def wait(self) -> Exit:
        """Block until the container ended and its output was read. Raises EngineError when Docker is lost."""
        with translated(f"rank {self.process.rank} was lost"):
            with contextlib.closing(self._output) as output:
                for _, chunk in output.frames():
                    self._sink(chunk)
            code = int(self._container.wait(timeout=None)["StatusCode"])
            self._container.reload()
            killed_by_kernel = self._container.attrs["State"]["OOMKilled"]
        return Exit.of(code, cause="out of memory: the kernel ended it" if killed_by_kernel else "")

    def signal(self, signum: int) -> None:
        """Signal the container's first process; SIGKILL ends all of it."""
        with gone_is_fine():
            self._container.kill(signal=signal.Signals(signum).name)

    def close(self) -> None:
        """Have the container removed, beside others; `ContainerRanks.close` waits for that. Safe to repeat."""
        self._discard(self._container)


class ContainerRanks:
    """Starts the processes of one node in containers without capabilities, as a user that is not root.

    `on_makes` is told when Docker begins to make some that it may be left with, and when it is not any more.
    """

    def __init__(
        self, job: Job, datasets: Mapping[str, str], *, on_makes: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._job, self._datasets, self._on_makes = job, datasets, on_makes
        self._client = connect(streams=2 * len(job.processes) + 1, patience_s=DOCKER_WITHIN_S)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="containers")
        self._lock = threading.Lock()
        self._holder: Container | None = None
        self._created: dict[int, Container] = {}
        self._started: dict[int, Container] = {}
        self._signaller: Signaller | None = None
        self._streams: list[Execution | Stream] = []
        self._kernel_kills = 0
        # The names of those that Docker was asked for, and has not answered yet.
        self._unanswered: set[str] = set()
        self._closed = False

    def join(self) -> None:
        """Make the node's place on the run's network (node 0 makes the network) and its containers, none started.

        Blocks until the network is there. Raises EngineError when it does not come, or Docker refuses, or this is
        closed meanwhile.
        """
        with self._lock:
            self._require_open()
            self._on_makes(True)
            self._pool.submit(remove_ended, self._client)  # What comes of it is of no interest to this run.
        if self._job.network is not None:
            self._await_network(self._job.network)
        if self._needs_holder():
            self._node()
        direct = [process for process in self._job.processes if process.kind == "direct"]
        with self._lock:
            self._require_open()
            makes = {process.rank: self._pool.submit(self._create, process) for process in direct}
        for rank, made in makes.items():
            self._created[rank] = made.result()
        self._on_makes(False)

    def start(self, process: Process, sink: Callable[[bytes], None]) -> ContainerRank | LauncherRank:
        """Start one process. Blocks for 0.1 to 0.3 s; see `start_all`. Raises EngineError when Docker refuses."""
        with translated(f"rank {process.rank} cannot be started"):
            if process.kind == "launcher":
                env = container_settings.environment(self._job, process, datasets=self._datasets)
                execution = self._execute(self._job.prefixed(process.argv), env=env, stdin=False)
                return LauncherRank(process, execution, sink)
            container = self._created.pop(process.rank, None) or self._create(process)
            output = attach(container)
            self._streams.append(output)
            container.start()
        self._started[process.rank] = container
        return ContainerRank(process, container, output, sink=sink, discard=self._discard)

    def start_all(
        self, processes: Sequence[Process], sink_of: Callable[[Process], Callable[[bytes], None]]
    ) -> list[ContainerRank | LauncherRank]:
        """Start several at once, in their order where it matters: launchers after all else.

        Raises EngineError when Docker refuses one of them; those that were started are ended then.
        """
        direct = [process for process in processes if process.kind == "direct"]
        launchers = [process for process in processes if process.kind == "launcher"]
        futures = [self._pool.submit(self.start, process, sink_of(process)) for process in direct]
        try:
            ranks = [future.result() for future in futures]
            return ranks + [self.start(process, sink_of(process)) for process in launchers]
        except EngineError:
            for future in futures:
                if future.exception() is None:
                    future.result().signal(signal.SIGKILL)
            raise

    def command(self, text: str) -> Execution:
        """Have a shell of this node run `text`, for a launcher on another node. Raises EngineError."""
        job = self._job
        env = container_settings.environment(job, job.processes[0], datasets=self._datasets)
        return self._execute(job.prefixed(("/bin/sh", "-c", text)), env=env)

    def signal(self, pid: int, signum: int) -> None:
        """Signal a process group of the node's container, with SIGKILL its whole session. Safe when it ended."""
        with self._lock:
            if self._holder is None:
                return
            signaller = self._signaller = self._signaller or Signaller(self._holder)
        signaller.signal(pid, signum)

    def kernel_kills(self) -> int:
        """How many processes of the node's container the kernel ended for memory so far.

        0 where each rank has a container of its own, whose end tells that.
        """
        if self._holder is not None and container_settings.is_one_container(self._job):
            with contextlib.suppress(EngineError):
                self._kernel_kills = max(self._kernel_kills, _oom_kills(self._ask(_KERNEL_KILLS)))
        return self._kernel_kills

    def look(self) -> None:
        """Nothing to do: a container's counter is its node's alone."""

    def stacks(self, ranks: Mapping[int, int | None]) -> dict[int, str]:
        """What each rank is doing now, by py-spy: the ranks by the pid of a launched one, None of others."""
        settings = container_settings.of_all(self._job)
        told: dict[int, str] = {}
        launched = {rank: pid for rank, pid in ranks.items() if pid is not None}
        if launched and self._holder is not None:
            found = container_stacks.dump(self._holder, list(launched.values()), settings=settings)
            told |= {rank: found[pid] for rank, pid in launched.items() if pid in found}
        direct = [rank for rank, pid in ranks.items() if pid is None and rank in self._started]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            dumps = {
                rank: pool.submit(container_stacks.dump, self._started[rank], [0], settings=settings)
                for rank in direct
            }
        return told | {rank: dump.result()[0] for rank, dump in dumps.items()}

    def close(self) -> None:
        """Remove the containers of this node, those too that Docker is making, and make none from now on.

        Safe to repeat.
        """
        with self._lock:
            self._closed = True
        if self._signaller is not None:
            self._signaller.close()
        self._pool.shutdown(wait=True)
        try:
            end_containers(self._job.mark, grace_s=0)
            if not self._unanswered:
                self._on_makes(False)
        except (
            EngineError
        ):  # Without their Docker containers run on, and are processes of this machine all the same.
            end_processes(self._job.mark, grace_s=0)
            raise
        finally:
            self._release()

    def _release(self) -> None:
        for stream in self._streams:
            stream.close()
        self._client.close()

    def _discard(self, container: Container) -> None:
        with self._lock:
            if not self._closed:
                self._pool.submit(remove, container)

    def _await_network(self, name: str) -> None:
        deadline_s = time.monotonic() + NETWORK_WITHIN_S
        with translated("the run's network cannot be made"):
            while not self._client.networks.list(names=[name]):
                self._require_open()
                if self._job.node_rank == 0:
                    self._make_network(name)
                elif time.monotonic() > deadline_s:
                    raise EngineError(f"the network {name} did not come up", tip="docker network ls")
                else:
                    time.sleep(0.05)

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

    def _needs_holder(self) -> bool:
        job = self._job
        return job.network is not None or len(job.processes) > 1 or container_settings.is_one_container(job)

    def _create(self, process: Process) -> Container:
        """The container of a rank: in a network of its own where it is alone, else in that of the holder or host."""
        place = self._place()
        if self._needs_holder():
            shared = f"container:{self._node().id}"
            if container_settings.shares_network(self._job):
                place = {**place, "ipc_mode": shared}
                del place["shm_size"]
            else:
                place = {"network_mode": shared, "ipc_mode": shared}
        settings = container_settings.of_rank(self._job, process, datasets=self._datasets)
        with translated(f"rank {process.rank} cannot be started"):
            return self._make({**settings, **place})

    def _make(self, settings: dict[str, Any]) -> Container:
        """Raises the SDK's errors, EngineError where this was closed."""
        self._require_open()
        self._unanswered.add(settings["name"])
        made = self._client.containers.create(**settings)
        self._unanswered.discard(settings["name"])
        return made

    def _require_open(self) -> None:
        if self._closed:
            raise EngineError("the attempt ended before its containers were made", tip="pushtrain show")

    def _node(self) -> Container:
        """The holder. No rank can be it: Docker takes the network away from all when the holder ends."""
        with self._lock:
            if self._holder is None:
                settings = container_settings.of_node(self._job, datasets=self._datasets)
                with translated("the node's container cannot be started"):
                    holder = self._make({**settings, **self._place()})
                    self._streams.append(attach(holder))
                    holder.start()
                self._holder = holder
            return self._holder

    def _place(self) -> dict[str, Any]:
        place, network = container_settings.place(self._job), self._job.network
        if network is None:
            return place
        config = self._client.api.create_endpoint_config(aliases=[place["hostname"]])
        return {**place, "network": network, "networking_config": {network: config}}

    def _execute(self, argv: Sequence[str], *, env: Mapping[str, str], stdin: bool = True) -> Execution:
        execution = Execution(self._node(), argv, signal_group=self.signal, env=env, stdin=stdin)
        with self._lock:
            self._streams.append(execution)
        return execution

    def _ask(self, text: str) -> str:
        """What a short command in the node's container prints."""
        asked = Execution(self._node(), ("/bin/sh", "-c", text), signal_group=self.signal, stdin=False)
        printed = b"".join(data for _, data in asked.read_streams())
        asked.wait()
        return printed.decode(errors="replace")


def _oom_kills(text: str) -> int:
    """The counter in a memory.events (version 2) or memory.oom_control (version 1)."""
    words = (line.split() for line in text.splitlines())
    return sum(int(word[1]) for word in words if len(word) == 2 and word[0] == "oom_kill")
