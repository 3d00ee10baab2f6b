"""A Slurm of one host that keeps accounts, with slurmdbd and a MariaDB of its own on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.services.process import running

TOOLS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sacctmgr")
GPUS = 8
_SQL = Path("/usr/share/mysql")
_TABLES = ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data")
_WITHIN_S = 120.0
_PORTS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd")


def missing() -> list[str]:
    """What is not installed here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [tool for tool in TOOLS if shutil.which(tool, path=path) is None]


@contextmanager
def accounting_cluster(folder: Path, *, accounts: bool = True) -> Iterator[Path]:
    """Runs it below `folder`, which has to be new; gives its slurm.conf. Without `accounts` there is no slurmdbd."""
    ports = _free_ports()
    host = socket.gethostname().partition(".")[0]
    kept = _ACCOUNTS if accounts else ""
    names = {"folder": folder, "host": host, "gpus": GPUS, **ports}
    conf, dbd = folder / "slurm.conf", folder / "slurmdbd.conf"
    conf.write_text((_CONF + kept).format(**names))
    (folder / "gres.conf").write_text(f"Name=gpu Type=v100 File=/dev/tty[10-{9 + GPUS}]\n")
    dbd.write_text(_DBD.format(**names))
    dbd.chmod(0o600)
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    with ExitStack() as stack:
        stack.enter_context(_munged(folder))
        if accounts:
            stack.enter_context(_mariadbd(folder, ports["mariadbd"]))
            stack.enter_context(_daemon(folder, "slurmdbd", "-D", SLURM_CONF=str(dbd)))
            _until_rc0(conf, "sacctmgr", "-i", "add", "cluster", "quota")
        stack.enter_context(_daemon(folder, "slurmctld", "-D", "-f", str(conf)))
        stack.enter_context(_daemon(folder, "slurmd", "-D", "-f", str(conf)))
        _until_rc0(conf, "sh", "-c", "sinfo --noheader --states=idle | grep -q .")
        yield conf


def _munged(folder: Path) -> contextlib.AbstractContextManager[object]:
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "seed", "log")]
    argv = [
        "munged",
        "--foreground",
        "--force",
        f"--key-file={folder}/key",
        f"--socket={folder}/munge",
        *files,
    ]
    return running(argv, log=folder / "munged.out", ready=(folder / "munge").exists)


def _mariadbd(folder: Path, port: int) -> contextlib.AbstractContextManager[object]:
    """Its own tables come from Debian's files: what would make them belongs to another package."""
    database, common = folder / "db", ["mariadbd", "--no-defaults", "--user=root", f"--datadir={folder}/db"]
    database.mkdir()
    tables = "".join((_SQL / f"{name}.sql").read_text() for name in _TABLES)
    made = "create database mysql;\nuse mysql;\n" + tables
    subprocess.run([*common, "--bootstrap"], input=made, text=True, check=True, capture_output=True)
    argv = [*common, f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/sql"]
    argv += ["--skip-grant-tables", f"--pid-file={folder}/sql.pid", "--innodb-buffer-pool-size=16M"]
    return running(argv, log=folder / "mariadbd.out", ready=lambda: _listens(port))


def _daemon(folder: Path, *argv: str, **environ: str) -> contextlib.AbstractContextManager[object]:
    told = [f"{name}={value}" for name, value in environ.items()]
    return running(["env", *told, *argv], log=folder / f"{argv[0]}.out", ready=lambda: True)


def _until_rc0(conf: Path, *argv: str) -> None:
    """Again and again: the daemons need a moment, on a busy machine a long one."""
    environ = {**os.environ, "SLURM_CONF": str(conf)}
    deadline_s = time.monotonic() + _WITHIN_S
    while True:
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{argv[0]}: {done.stderr or done.stdout}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports() -> dict[str, int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return {name: int(probe.getsockname()[1]) for name, probe in zip(_PORTS, probes, strict=True)}


_CONF = """\
ClusterName=quota
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1
PriorityType=priority/multifactor
PriorityCalcPeriod=1
PriorityDecayHalfLife=0
PriorityUsageResetPeriod=NONE
KillWait=1
ReturnToService=2
MpiDefault=none
GresTypes=gpu
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 Gres=gpu:v100:{gpus}
PartitionName=p50 Nodes={host} Default=YES State=UP MaxTime=UNLIMITED
"""
_ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge
AccountingStorageEnforce=limits
AccountingStorageTRES=gres/gpu
"""
_DBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=root
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
"""
