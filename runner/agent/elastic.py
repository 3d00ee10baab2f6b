"""elastic.yml -> what slurm.conf, gres.conf and slurmctld are told of hosts that are not there yet."""

from __future__ import annotations

from pathlib import Path

from runner.agent.cards import gres_type
from runner.agent.token import write_secret
from runner.errors import UsageError
from runner.providers.settings import TIP, Elastic, Kind, load
from runner.slurm import Node
from runner.slurm.conf import ELASTIC, FEATURE, Power
from runner.slurm.labels import feature, of_gpu

FILE = "elastic.yml"
_MIB = 2**20


def keep(given: Path, state: Path) -> Elastic:
    """Check elastic.yml and keep a copy in the head's lasting folder.

    Raises UsageError where there is none, SpecError with all its faults.
    """
    if not given.is_file():
        raise UsageError(f"--elastic {given}: there is no such file", tip=TIP)
    settings = load(given, here=True)
    write_secret(state / FILE, given.read_bytes())
    return settings


def kept(state: Path) -> Elastic | None:
    """What the head was started with; None for a fleet that does not grow. Raises SpecError."""
    return load(state / FILE) if (state / FILE).exists() else None


def conf_power(settings: Elastic, *, run: Path) -> Power:
    """What slurm.conf has to say; `run` is the folder of the programs `resume` and `suspend`."""
    least = [
        _range(name, kind) + f":{kind.min_hosts}" for name, kind in settings.hosts.items() if kind.min_hosts
    ]
    return Power(
        resume_program=str(run / "resume"),
        suspend_program=str(run / "suspend"),
        suspend_time_s=max(int(settings.idle), 1),
        resume_timeout_s=max(int(settings.start_within), 1),
        suspend_timeout_s=max(int(settings.stop_within), 1),
        keep=",".join(least),
    )


def gres_lines(settings: Elastic) -> str:
    """Lines for the gres.conf of the head: slurmctld takes the GPUs of hosts that are off from there.

    The files need not be there; without them, or for lines without NodeName, it counts wrongly (Slurm 22.05).
    """
    return "".join(
        f"NodeName={_range(name, kind)} Name=gpu Type={gres_type(kind.gpu)} File=/dev/nvidia{_numbers(kind.gpus)}\n"
        for name, kind in settings.hosts.items()
        if kind.gpu is not None
    )


def differs(node: Node, kind: Kind) -> bool:
    """Whether slurmctld was told otherwise of a host of this kind."""
    gpus = {gres_type(kind.gpu): kind.gpus} if kind.gpu is not None else {}
    memory_bytes = max(kind.memory // _MIB, 1) * _MIB
    told = (node.cpus, node.memory_bytes, node.gpus, set(node.features))
    return told != (kind.cpus, memory_bytes, gpus, set(_features(kind)))


def node_words(kind: Kind) -> tuple[str, ...]:
    """How `scontrol create` is told of hosts of a kind."""
    gres = (f"Gres=gpu:{gres_type(kind.gpu)}:{kind.gpus}",) if kind.gpu is not None else ()
    memory = f"RealMemory={max(kind.memory // _MIB, 1)}"
    return (f"CPUs={kind.cpus}", memory, *gres, f"Feature={','.join(_features(kind))}", "State=CLOUD")


def _range(name: str, kind: Kind) -> str:
    return f"{name}-[1-{kind.max_hosts}]"


def _numbers(count: int) -> str:
    return f"[0-{count - 1}]" if count > 1 else "0"


def _features(kind: Kind) -> tuple[str, ...]:
    gpus = (of_gpu(gres_type(kind.gpu)),) if kind.gpu is not None else ()
    return (FEATURE, ELASTIC, *(feature(name, value) for name, value in kind.labels.items()), *gpus)
