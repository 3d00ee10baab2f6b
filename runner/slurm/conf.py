"""What a fleet is set to -> its slurm.conf, a host's gres.conf and what its slurmd says of the host."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# Every host has this feature, and every partition takes the hosts that have it.
FEATURE = "pushtrain"
# Hosts that a provider starts and stops; no label has this name, for those have an underscore.
ELASTIC = "elastic"
PRIORITIES = range(0, 101, 10)
DEFAULT_PRIORITY = 50
MOST_HOSTS = 1000
# A host that is silent for so long is down, and its jobs start again elsewhere.
HOST_SILENT_S = 20
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Ports:
    """TCP ports: of the head `slurmctld` and `registry`, of every host the others.

    `srun_first` to `srun_last` lie on the host of a run's supervisor, above those that Linux gives away by itself.
    """

    slurmctld: int = 6817
    slurmd: int = 6818
    metrics: int = 6820
    registry: int = 5000
    srun_first: int = 61000
    srun_last: int = 64999


@dataclass(frozen=True, kw_only=True)
class Power:
    """How Slurm's power saving starts and stops the hosts with the feature ELASTIC; others it leaves alone.

    `keep` is what is not stopped, such as `gpu-[1-4]:2`, two of these; `lines` are further ones of slurm.conf.
    """

    resume_program: str
    suspend_program: str
    suspend_time_s: int
    resume_timeout_s: int
    suspend_timeout_s: int = 60
    keep: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What all hosts of a fleet agree on. `head` is the host name of the one with slurmctld, `address` its address."""

    name: str
    head: str
    address: str
    ports: Ports = field(default_factory=Ports)
    power: Power | None = None


# By themselves a run waits up to 2 s for the scheduler, and 3 s for its batch script. Microseconds and seconds.
_SCHEDULER = (
    "bf_interval=5",
    "bf_continue",
    "bf_max_job_test=1000",
    "batch_sched_delay=0",
    "sched_min_interval=200000",
)


def slurm_conf(
    cluster: Cluster,
    *,
    run: Path,
    epilog: Path | None = None,
    health: Path | None = None,
    closed: bool = False,
) -> str:
    """The slurm.conf of every host of the fleet; `run` is the folder of the agent that lasts until it goes down.

    With `closed` the partitions start nothing until somebody opens them: for slurmctld alone.
    """
    settings = {
        **_names(cluster, run),
        **_hosts(),
        **_scheduling(),
        **_programs(epilog, health),
        **_power(cluster.power),
    }
    lines = [f"{name}={value}" for name, value in settings.items()]
    further = (*_elastic(cluster.power), *cluster.power.lines) if cluster.power else ()
    return "\n".join(
        [_HEADING, *lines, *further, f"NodeSet={FEATURE} Feature={FEATURE}", *_partitions(closed), ""]
    )


_HEADING = "# Written by `pushtrain agent start`; what is changed here is lost at its next start."


def _names(cluster: Cluster, run: Path) -> dict[str, object]:
    return {
        "ClusterName": cluster.name,
        "SlurmctldHost": f"{cluster.head}({cluster.address})",
        "SlurmctldPort": cluster.ports.slurmctld,
        "SlurmdPort": cluster.ports.slurmd,
        "SrunPortRange": f"{cluster.ports.srun_first}-{cluster.ports.srun_last}",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        # A job that starts again waits until its old credential has run out: two minutes by default.
        "AuthInfo": f"socket={run}/munge.socket,cred_expire=5",
        "StateSaveLocation": f"{run}/state/slurmctld",
        "SlurmdSpoolDir": f"{run}/slurmd",
        "SlurmctldPidFile": f"{run}/slurmctld.pid",
        "SlurmdPidFile": f"{run}/slurmd.pid",
        "SlurmctldLogFile": f"{run}/state/log/slurmctld.log",
        "SlurmdLogFile": f"{run}/state/log/slurmd.log",
        # Hosts of different age may stand beside each other: what differs is told by the agent.
        "DebugFlags": "NO_CONF_HASH",
    }


def _hosts() -> dict[str, object]:
    return {
        "MaxNodeCount": MOST_HOSTS,
        "TreeWidth": 65533,
        "GresTypes": "gpu",
        "SlurmdTimeout": HOST_SILENT_S,
        "ReturnToService": 2,
        "KillWait": 30,
        "WaitTime": 0,
        # An srun by hand whose machine went down would hold its hosts for ever; runs are batch jobs, which it spares.
        "InactiveLimit": 60,
        "MailProg": "/bin/true",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MpiDefault": "none",
    }


def _scheduling() -> dict[str, object]:
    return {
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        # Who asks for no memory reserves none, instead of the whole host's.
        "DefMemPerCPU": 1,
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": ",".join(_SCHEDULER),
        "PriorityType": "priority/basic",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": 1,
        "RequeueExit": 75,
        "MaxJobCount": 20000,
        # What slurmctld reads has its partitions closed: `scontrol reconfigure` would close them again for good.
        "ReconfigFlags": "KeepPartState",
    }


def _programs(epilog: Path | None, health: Path | None) -> dict[str, object]:
    after = {"Epilog": epilog} if epilog else {}
    watched = {"HealthCheckProgram": health, "HealthCheckInterval": 60, "HealthCheckNodeState": "ANY"}
    return {**after, **(watched if health else {})}


def _power(power: Power | None) -> dict[str, object]:
    if power is None:
        return {}
    return {
        "ResumeProgram": power.resume_program,
        "SuspendProgram": power.suspend_program,
        **({"SuspendExcNodes": power.keep} if power.keep else {}),
        # By default it looks every ten seconds. A host that failed to start may be started again.
        "SlurmctldParameters": "idle_on_node_suspend,power_save_interval=2,power_save_min_interval=1",
        # A machine that is started anew has another address.
        "CommunicationParameters": "NoAddrCache",
        # Hosts that are off are seen too.
        "PrivateData": "cloud",
    }


def _elastic(power: Power) -> Iterable[str]:
    """Times for a partition of their own: those of the whole cluster would stop every host that is idle."""
    yield f"NodeSet={ELASTIC} Feature={ELASTIC}"
    yield (
        f"PartitionName={ELASTIC} Nodes={ELASTIC} Hidden=YES State=INACTIVE SuspendTime={power.suspend_time_s} "
        f"ResumeTimeout={power.resume_timeout_s} SuspendTimeout={power.suspend_timeout_s}"
    )


def partition(priority: int) -> str:
    """The partition of runs of that ten of priorities."""
    return f"p{priority}"


def _partitions(closed: bool) -> Iterable[str]:
    state = "DOWN" if closed else "UP"
    for priority in PRIORITIES:
        default = " Default=YES" if priority == DEFAULT_PRIORITY else ""
        yield (
            f"PartitionName={partition(priority)} Nodes={FEATURE} PriorityTier={priority}{default} "
            f"MaxTime=UNLIMITED State={state}"
        )


def gres_conf(lines: str) -> str:
    """The gres.conf of a host of these lines, one for each GPU; without any it says that there are none."""
    return f"{_HEADING}\nAutoDetect=off\n{lines}"


def host_conf(*, address: str, cpus: int, memory_bytes: int, gres: str, features: Iterable[str]) -> str:
    """What `slurmd -Z --conf` is given: what this host registers with; `gres` such as `gpu:v100:4`, or empty."""
    words = [f"NodeAddr={address}", f"CPUs={cpus}", f"RealMemory={memory_bytes // _MIB}"]
    words += [f"Gres={gres}"] if gres else []
    return " ".join([*words, "Feature=" + ",".join([FEATURE, *features])])
