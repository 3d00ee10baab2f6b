"""This host at the moment it is asked -> Prometheus' text: GPUs, disk, daemons, and who runs on which GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner import gpus
from runner.agent import cards, inventory, layout, processes
from runner.errors import EngineError, PushtrainError
from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from runner.agent.cards import Reading

_MARK = b"PUSHTRAIN_MARK="


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What an agent tells of its host, its GPUs aside. None where it is not known.

    `daemons` says which of them run, `restarts` how often each was started again; `slots` are GPUs' UUIDs in the order
    in which Slurm counts them; `leases` says which run holds a GPU, by UUID.
    """

    version: str
    slurm: str
    disk_free_bytes: int | None = None
    cache_bytes: int | None = None
    strangers_ended: int = 0
    daemons: Mapping[str, bool] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    slots: Sequence[str] = ()
    leases: Mapping[str, str] = field(default_factory=dict)


def now() -> Snapshot:
    """The snapshot of this host, from what its agent keeps in run_folder()."""
    about, run = layout.about(), run_folder()
    home = (run / "home").resolve()
    noted = processes.load(run / "daemons.json")
    return Snapshot(
        version=about.pushtrain,
        slurm=about.slurm,
        disk_free_bytes=shutil.disk_usage(home).free if home.exists() else None,
        cache_bytes=_number(run / "cache-bytes"),
        strangers_ended=_number(run / "strangers-ended") or 0,
        daemons={name: bool(note.process and note.process.alive) for name, note in noted.items()},
        restarts={name: note.restarts for name, note in noted.items()},
        slots=inventory.read_gpus(),
        leases=gpus.holders(home / "gpus"),
    )


def text(
    snapshot: Callable[[], Snapshot] = now, *, readings: Callable[[], Sequence[Reading]] = cards.readings
) -> bytes:
    """What a scrape is answered; NVML is opened for it and closed again. A driver that fails is told as a metric."""
    from prometheus_client.exposition import generate_latest

    return generate_latest(_Scrape(snapshot, readings))


class _Scrape:
    """Looks once, when it is collected."""

    def __init__(self, snapshot: Callable[[], Snapshot], readings: Callable[[], Sequence[Reading]]) -> None:
        self._snapshot, self._readings = snapshot, readings

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        try:
            told = self._snapshot()
        except PushtrainError:
            told = Snapshot(version="", slurm="")
        yield from _of_host(told)
        driver = GaugeMetricFamily("pushtrain_gpu_driver_up", "Whether the GPUs' driver answers.")
        try:
            found = self._readings()
        except EngineError:
            driver.add_metric((), 0)
            yield driver
            return
        driver.add_metric((), 1)
        yield driver
        yield from _of_gpus(found, slots=told.slots)
        yield _jobs(found, leases=told.leases)


def _of_host(told: Snapshot) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    info = GaugeMetricFamily("pushtrain_agent_info", "The agent's versions.", labels=("version", "slurm"))
    info.add_metric((told.version, told.slurm), 1)
    yield info
    for name, value, words in (
        ("disk_free_bytes", told.disk_free_bytes, "Free space where runs and caches are kept."),
        ("cache_bytes", told.cache_bytes, "What images, sources and data sets take."),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"pushtrain_{name}", words, value=value)
    up = GaugeMetricFamily("pushtrain_daemon_up", "Whether a daemon runs.", labels=("daemon",))
    again = CounterMetricFamily(
        "pushtrain_daemon_restarts", "How often a daemon was started again.", labels=("daemon",)
    )
    for name, runs in told.daemons.items():
        up.add_metric((name,), float(runs))
        again.add_metric((name,), told.restarts.get(name, 0))
    yield up
    yield again
    words = "Processes and containers of no run that were ended on GPUs."
    yield CounterMetricFamily("pushtrain_strangers_ended", words, value=told.strangers_ended)


def _of_gpus(found: Sequence[Reading], *, slots: Sequence[str]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily

    labels = ("uuid", "model", "index", "mig", "slot")
    info = GaugeMetricFamily("pushtrain_gpu_info", "A GPU; slot is Slurm's number of it.", labels=labels)
    fault = GaugeMetricFamily(
        "pushtrain_gpu_fault_info", "What is wrong with a GPU.", labels=("uuid", "fault")
    )
    for gpu in found:
        slot = str(slots.index(gpu.uuid)) if gpu.uuid in slots else ""
        mig = str(gpu.uuid.startswith("MIG-")).lower()
        info.add_metric((_named(gpu), gpu.model, str(gpu.index), mig, slot), 1)
        if gpu.fault:
            fault.add_metric((_named(gpu), gpu.fault), 1)
    yield info
    yield fault
    for name, words, value in _FIGURES:
        family = GaugeMetricFamily(f"pushtrain_gpu_{name}", words, labels=("uuid",))
        for gpu in found:
            figure = value(gpu)
            if figure is not None:
                family.add_metric((_named(gpu),), figure)
        yield family


_FIGURES: tuple[tuple[str, str, Callable[[Reading], float | None]], ...] = (
    ("utilization_ratio", "The share of time in which it computed.", lambda gpu: gpu.utilization),
    ("memory_used_bytes", "Memory in use.", lambda gpu: gpu.used_bytes if gpu.model else None),
    ("memory_total_bytes", "Memory.", lambda gpu: gpu.memory_bytes if gpu.model else None),
    ("temperature_celsius", "Temperature.", lambda gpu: gpu.temperature_c),
    ("power_watts", "Power drawn.", lambda gpu: gpu.power_w),
    ("healthy", "0 where something is wrong with it.", lambda gpu: 0.0 if gpu.fault else 1.0),
)


def _named(gpu: Reading) -> str:
    """Its UUID; one that is lost does not tell it any more."""
    return gpu.uuid or f"lost-{gpu.index}"


def _jobs(found: Sequence[Reading], *, leases: Mapping[str, str]) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    family = GaugeMetricFamily(
        "pushtrain_gpu_job", "The run that has it, or computes on it.", labels=("uuid", "run")
    )
    pairs = {(uuid, run) for uuid, run in leases.items()}
    pairs |= {(gpu.uuid, run) for gpu in found for pid, _ in gpu.processes if (run := run_of(pid))}
    for uuid, run in sorted(pairs):
        family.add_metric((uuid, run), 1)
    return family


def run_of(pid: int) -> str:
    """The run that a process of this host belongs to, by the mark that it inherited; empty where it has none."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    marks = [entry for entry in environment.split(b"\0") if entry.startswith(_MARK)]
    return marks[0].removeprefix(_MARK).partition(b":")[0].decode(errors="replace") if marks else ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
