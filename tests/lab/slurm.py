"""The hosts of a lab -> slurm.conf and gres.conf, and the daemons of a plain Slurm cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("/run/slurm-lab")
CONF = FOLDER / "slurm.conf"
STATE = Path("/var/spool/slurmctld-lab")
SOCKET = FOLDER / "munge.socket"
# What a host says it has: more than the machine, since several gangs are to fit.
CPUS = 8
MEMORY_MIB = 6000
FIRST_TTY = 10
_WORKING = ("IDLE", "MIXED", "ALLOCATED")


def slug(model: str) -> str:
    """The name of a GPU's model as Slurm takes it for a type."""
    return re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")


def conf(*, head: str, address: str, cluster: str) -> str:
    """slurm.conf, the same on all hosts; hosts register themselves."""
    return _CONF.format(
        head=head, address=address, cluster=cluster, socket=SOCKET, folder=FOLDER, state=STATE
    ) + "".join(
        f"PartitionName=p{tier} Nodes=pushtrain MaxTime=UNLIMITED PriorityTier={tier} State=UP"
        f"{' Default=YES' if tier == 50 else ''}\n"
        for tier in range(0, 101, 10)
    )


def gres(*, gpus: int, model: str) -> str:
    """gres.conf of one host: terminals stand for GPUs, since Slurm wants device files."""
    if not gpus:
        return ""
    return f"Name=gpu Type={slug(model)} File=/dev/tty[{FIRST_TTY}-{FIRST_TTY + gpus - 1}]\n"


def can_use(node: str) -> bool:
    """Whether Slurm can use a node of which `scontrol -o show node` says this."""
    # A slurmctld that has started again knows the nodes before they tell it of their GPUs, some 5 s later. Those
    # that it hands out before are never free again (seen with 22.05).
    told = "SlurmdStartTime=2" in node
    return told and any(f"State={state}+" in node for state in _WORKING) and "+NOT_RESPONDING" not in node


def daemon(name: str, *, host: str, address: str, gpus: int, model: str, key: Path) -> list[str]:
    """The argv of a daemon that goes to the background by itself."""
    return list(
        {"munged": _munged(key), "slurmctld": _slurmctld(), "slurmd": _slurmd(host, address, gpus, model)}[
            name
        ]
    )


def _munged(key: Path) -> Iterator[str]:
    # --force: the folder of a lab may lie below one that all may write.
    yield from ("munged", "--force", f"--key-file={key}", f"--socket={SOCKET}")
    for each in ("pid", "seed", "log"):
        yield f"--{each}-file={FOLDER}/munged.{each}"


def _slurmctld() -> Iterator[str]:
    yield from ("slurmctld", "-f", str(CONF))


def _slurmd(host: str, address: str, gpus: int, model: str) -> Iterator[str]:
    has = f"NodeAddr={address} CPUs={CPUS} RealMemory={MEMORY_MIB} Feature=pushtrain"
    if gpus:
        has += f" Gres=gpu:{slug(model)}:{gpus}"
    yield from ("slurmd", "-f", str(CONF), "-Z", "--conf", has, "-N", host)


_CONF = """\
ClusterName={cluster}
SlurmctldHost={head}({address})
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=5
SlurmUser=root
MailProg=/bin/true
StateSaveLocation={state}
SlurmdSpoolDir=/var/spool/slurmd-lab
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,batch_sched_delay=0,sched_min_interval=200000
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
SlurmdTimeout=20
KillWait=30
RequeueExit=75
MpiDefault=none
ReturnToService=2
MaxNodeCount=100
TreeWidth=65533
DebugFlags=NO_CONF_HASH
SlurmctldLogFile=/var/log/slurmctld-lab.log
SlurmdLogFile=/var/log/slurmd-lab.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeSet=pushtrain Feature=pushtrain
"""
