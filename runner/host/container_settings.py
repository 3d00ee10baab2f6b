"""A Job -> what Docker is told of its containers: those of ranks, and the one that holds a node together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import DatasetError, PlanError
from runner.host.docker_host import JOB_LABEL, LABEL, RUN_LABEL, SEEN_LABEL, devices, owner, seen
from runner.host.job import IN_CONTAINER, rank_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.host.job import Job
    from runner.launch import Process

WORK = Path("/workspace")

# The lease: input that the host process holds open. The kernel closes it when that process dies, however it dies, and
# Docker then ends the container's input. The one that reads it is nobody's child but that of docker-init: a training
# that waits for all of its children would wait for it too. The training itself has no input.
_LEASED = """
exec 3<&0 </dev/null
(
  trap '' TERM INT HUP QUIT
  (
    while read -r _; do :; done
    kill -s TERM -- -1
    sleep 5
    kill -s KILL -- -1
  ) <&3 3<&- >/dev/null 2>&1 &
)
exec "$@" 3<&-
"""
# Asked to stop, it asks everything in its container, waits for their end, and ends; Docker would end all with it. When
# its lease ends it does the same, and after five seconds ends all. What is left are docker-init, this, and the lease.
_HOLD = """
exec 3<&0 </dev/null 2>/dev/null
(trap '' TERM INT HUP QUIT; while read -r _; do :; done) <&3 3<&- &
lease=$!
exec 3<&-
end() {
  trap '' TERM
  tenths=0
  kill -s TERM -- -1
  while own=2; kill -s 0 "$lease" && own=3; set -- /proc/[0-9]*; [ "$#" -gt "$own" ]; do
    [ "$own" = 3 ] || tenths=$((tenths + 1))
    [ "$tenths" -lt 50 ] || kill -s KILL -- -1
    sleep 0.1
  done
  exit 0
}
trap end TERM
wait "$lease"
"""
# What a fleet, a batch system and Docker keep on a host: sockets and keys with which anything may be done on it.
_HOSTS_OWN = ("/run/pushtrain", "/run/munge", "/run/docker.sock", "/run/containerd", "/etc/munge", "/etc/slurm",
              "/var/lib/pushtrain", "/var/lib/docker", "/proc")  # fmt: skip
_END = "end"
# It holds the network of others, which may save something until they end by their own leases.
_END_LATER = "sleep 5"


def is_one_container(job: Job) -> bool:
    """Whether all processes of the node run in one container, because a launcher there starts them."""
    return any(process.kind != "direct" for process in job.processes)


def of_all(job: Job) -> dict[str, Any]:
    """What holds for every container of a run."""
    return {
        "image": job.image,
        "labels": {**labels(job, os.environ), SEEN_LABEL: seen()},
        "user": "{}:{}".format(*owner()),
        "init": True,
        "stdin_open": True,
        "pids_limit": job.limits.pids,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        # Output is read from the attached stream and kept by us; a second copy would fill the host's disk.
        "log_config": {"Type": "none"},
    }


def of_rank(job: Job, process: Process, *, datasets: Mapping[str, str]) -> dict[str, Any]:
    """The container of a rank that the host starts; its place in a network is still to be added."""
    return {
        **of_all(job),
        **_training(job, [process], datasets=datasets),
        "entrypoint": ["/bin/sh", "-c", _LEASED, "pushtrain", *job.prefixed(process.argv)],
        "name": f"pushtrain-{job.run_id}-a{job.attempt}-r{process.rank}",
    }


def of_node(job: Job, *, datasets: Mapping[str, str]) -> dict[str, Any]:
    """The container that does nothing itself: it holds network and shared memory for those of the ranks.

    Where a launcher starts the ranks it has all that they have together, since they run in it.
    """
    ranks = [process for process in job.processes if process.kind != "launcher"]
    alone = is_one_container(job)
    return {
        **of_all(job),
        **(_training(job, ranks, datasets=datasets) if alone else {}),
        "entrypoint": ["/bin/sh", "-c", _HOLD + (_END if alone else _END_LATER)],
        "name": f"pushtrain-{job.run_id}-a{job.attempt}-n{job.node_rank}",
    }


def labels(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """By what its containers are found: the node's attempt, the run, and the batch system's job where there is one."""
    batch = {JOB_LABEL: environ["SLURM_JOB_ID"]} if environ.get("SLURM_JOB_ID") else {}
    return {LABEL: job.mark, RUN_LABEL: job.run_id, **batch}


def shares_network(job: Job) -> bool:
    """Whether containers have their host's network. One isolated node has none, as everywhere."""
    return job.host_network and not (job.isolated and len(job.hostnames) == 1)


def shared_network(job: Job) -> dict[str, Any]:
    """The host's network, on which every node's name is known."""
    return {"network_mode": "host", "extra_hosts": dict(zip(job.hostnames, job.addresses, strict=False))}


def require_shareable(job: Job) -> None:
    """Raise PlanError for isolated nodes that only the hosts' own network would connect."""
    if job.isolated and shares_network(job):
        raise PlanError(
            "an isolated run of several nodes needs a network of its own, which hosts of a fleet do not have",
            tip="set resources.nodes to 1, or run it on one machine: --engine docker",
        )


def place(job: Job) -> dict[str, Any]:
    """A network and shared memory of its own, named as the node is; `network` itself is still to be added.

    On the host's network the names of all nodes lead to their hosts. Raises PlanError where isolated nodes would have
    to be on it.
    """
    name = job.hostnames[job.node_rank]
    own: dict[str, Any] = {"hostname": name, "shm_size": job.limits.shm_bytes, "ipc_mode": "shareable"}
    if shares_network(job):
        require_shareable(job)
        return {**own, **shared_network(job)}
    if job.network is None and job.isolated:
        # Some libraries look up their own name, which Docker writes down for a network of its own only.
        return {**own, "network_mode": "none", "extra_hosts": {name: "127.0.0.1"}}
    return own


def environment(job: Job, process: Process, *, datasets: Mapping[str, str]) -> dict[str, str]:
    """What a process is told in a container."""
    mounts = {name: f"/datasets/{name}" for name in datasets}
    # docker-init passes a signal on to its child alone unless it is told to reach all of the child's group.
    own = {"HOME": "/tmp", "TINI_KILL_PROCESS_GROUP": "1"}  # noqa: S108  # inside the container
    return {**own, **rank_environment(job, process, work=WORK, datasets=mounts)}


def _training(job: Job, processes: Sequence[Process], *, datasets: Mapping[str, str]) -> dict[str, Any]:
    """What these ranks need in one container: files, devices, environment and their share of the machine."""
    limits = job.limits
    told = environment(job, processes[0], datasets=datasets)
    if is_one_container(job):
        # Each process in it is told its own on top of this.
        told = {name: text for name, text in told.items() if name in job.env or name not in processes[0].env}
    gang = _meeting_place(job, processes) if job.is_gang else []
    ranks = len(processes)
    return {
        "environment": told,
        "working_dir": str(WORK),
        "volumes": [f"{job.work}:{WORK}", *data_volumes(datasets), *gang],
        "mem_limit": limits.memory_bytes * ranks if limits.memory_bytes else None,
        "nano_cpus": int(limits.cpus * ranks * 1e9) if limits.cpus else None,
        "pids_limit": limits.pids * ranks,
        "device_requests": devices(job.gpus),
    }


def data_volumes(datasets: Mapping[str, str]) -> list[str]:
    """Where data is in the container. Raises DatasetError for data that is the host's own and no training's."""
    for name, path in datasets.items():
        data = Path(path).resolve()
        for own in map(Path, (*_HOSTS_OWN, *_run_folder())):
            if data.is_relative_to(own.resolve()) or own.resolve().is_relative_to(data):
                raise DatasetError(
                    f"datasets.{name}: {path} cannot be given to a training: {own} is this host's own",
                    tip="name a folder of data alone",
                )
    return [f"{path}:/datasets/{name}:ro" for name, path in datasets.items()]


def _run_folder() -> tuple[str, ...]:
    given = os.environ.get("PUSHTRAIN_RUN")
    return (given,) if given else ()


def _meeting_place(job: Job, processes: Sequence[Process]) -> list[str]:
    """The gang folder, to be written where these ranks report and call from, and where checkpoints were brought to.

    All else in it is read by other ranks and this host. A folder that is mounted cannot be put a link in place of.
    """
    names = [f"ranks/{process.rank}" for process in processes]
    if is_one_container(job):
        names.append("calls")
    if job.brought.is_dir():
        names.append(job.brought.name)
    within = [f"{job.gang_folder / name}:{IN_CONTAINER / name}" for name in names]
    return [f"{job.gang_folder}:{IN_CONTAINER}:ro", *within]


def give_away(work: Path) -> None:
    """Let the container's user write in a folder, where this process is root. Safe to repeat."""
    if os.getuid() != 0:
        return
    user, group = owner()
    os.chown(work, user, group)
    for path in work.rglob("*"):
        os.chown(path, user, group, follow_symlinks=False)
