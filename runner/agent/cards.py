"""NVML -> the device files of this host's GPUs, how busy they are, who uses them, and what is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import gpus

# Another prefix is for hosts that keep them elsewhere, and for those that have none: /dev/tty makes /dev/tty0, …
DEVICES = "PUSHTRAIN_GPU_DEVICES"
_MINORS = Path("/proc/driver/nvidia-caps/mig-minors")


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU, or one MIG instance of it, as Slurm is told of it.

    `files` are its device files, the one of the GPU first; `gres_type` is its model as Slurm writes types; `index` is
    NVML's number of the GPU it is or is a part of.
    """

    uuid: str
    model: str
    memory_bytes: int
    index: int
    files: tuple[str, ...]
    gres_type: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A GPU at this moment. None where NVML does not say; `utilization` is a share of 1, `processes` pid -> bytes.

    `fault` says what is wrong with it and what to do, empty where it is well.
    """

    uuid: str
    model: str
    index: int
    memory_bytes: int
    used_bytes: int
    utilization: float | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    processes: tuple[tuple[int, int], ...] = ()
    fault: str = ""


def find() -> tuple[Card, ...]:
    """Return this host's GPUs in the order in which Slurm counts them. Raises EngineError where the driver fails."""
    with gpus.driver() as nvml:
        return in_gres_order(tuple(_card(nvml, *each) for each in gpus.listed(nvml)))


def in_gres_order(cards: tuple[Card, ...]) -> tuple[Card, ...]:
    """Return the cards as slurmd sorts them, whatever the order of gres.conf: by type, then by file. Pure.

    Tried with slurmd 22.05.8: the longest name of a type first, then by name, then by the files as text.
    """
    return tuple(sorted(cards, key=lambda card: (-len(card.gres_type), card.gres_type, ",".join(card.files))))


def gres_type(model: str) -> str:
    """Return a model's name as the type of a GRES: "NVIDIA H100 80GB HBM3" is nvidia_h100_80gb_hbm3. Pure."""
    return re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")


def readings() -> tuple[Reading, ...]:
    """Return every GPU at this moment, by NVML's index, one that is lost too. Raises EngineError as `find` does."""
    with gpus.driver() as nvml:
        count = nvml.nvmlDeviceGetCount() if nvml is not None else 0
        return tuple(reading for index in range(count) for reading in _of_card(nvml, index))


def _card(nvml: Any, gpu: gpus.Gpu, card: Any, device: Any) -> Card:
    return Card(
        uuid=gpu.uuid,
        model=gpu.model,
        memory_bytes=gpu.memory_bytes,
        index=gpu.index,
        files=_files(nvml, card, device),
        gres_type=gres_type(gpu.model),
    )


def _files(nvml: Any, card: Any, device: Any) -> tuple[str, ...]:
    minor = _asked(nvml, nvml.nvmlDeviceGetMinorNumber, card)
    if minor is None:
        return ()
    whole = os.environ.get(DEVICES, "/dev/nvidia") + str(minor)
    if device is card:
        return (whole,)
    if not _MINORS.exists():
        return ()  # Two GPUs of one file: slurmd would not start.
    instance = nvml.nvmlDeviceGetGpuInstanceId(device)
    compute = nvml.nvmlDeviceGetComputeInstanceId(device)
    return (whole, *mig_files(_MINORS.read_text(), minor=minor, instance=instance, compute=compute))


def mig_files(table: str, *, minor: int, instance: int, compute: int) -> tuple[str, ...]:
    """Return the two files by which a MIG instance is used, as the driver's table of minor numbers has them. Pure.

    Source: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/, "Device Nodes and Capabilities".
    """
    minors = dict(line.split() for line in table.splitlines() if len(line.split()) == 2)
    names = (f"gpu{minor}/gi{instance}/access", f"gpu{minor}/gi{instance}/ci{compute}/access")
    return tuple(f"/dev/nvidia-caps/nvidia-cap{minors[name]}" for name in names if name in minors)


def _of_card(nvml: Any, index: int) -> Iterator[Reading]:
    try:
        card = nvml.nvmlDeviceGetHandleByIndex(index)
        fault = _fault(nvml, card)
        for gpu, whole, device in gpus.listed_of(nvml, index):
            yield _reading(nvml, gpu, whole, device, fault=fault)
    except nvml.NVMLError as error:
        yield Reading(
            uuid="", model="", index=index, memory_bytes=0, used_bytes=0,
            fault=f"GPU {index}: {error}; reboot the host, or take the GPU out",
        )  # fmt: skip


def _reading(nvml: Any, gpu: gpus.Gpu, card: Any, device: Any, *, fault: str) -> Reading:
    rates = _asked(nvml, nvml.nvmlDeviceGetUtilizationRates, device)
    milliwatts = _asked(nvml, nvml.nvmlDeviceGetPowerUsage, card)
    running = _asked(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, device) or ()
    return Reading(
        uuid=gpu.uuid,
        model=gpu.model,
        index=gpu.index,
        memory_bytes=gpu.memory_bytes,
        used_bytes=int(nvml.nvmlDeviceGetMemoryInfo(device).used),
        utilization=rates.gpu / 100 if rates is not None else None,
        temperature_c=_asked(nvml, nvml.nvmlDeviceGetTemperature, card, nvml.NVML_TEMPERATURE_GPU),
        power_w=milliwatts / 1000 if milliwatts is not None else None,
        processes=tuple((int(each.pid), int(each.usedGpuMemory or 0)) for each in running),
        fault=f"{gpu.uuid}: {fault}" if fault else "",
    )


def _fault(nvml: Any, card: Any) -> str:
    """What NVML knows to be broken.

    Source: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/, "User Visible Statistics".
    """
    uncorrected = _asked(
        nvml,
        nvml.nvmlDeviceGetTotalEccErrors,
        card,
        nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        nvml.NVML_VOLATILE_ECC,
    )
    _, _, pending, failed = _asked(nvml, nvml.nvmlDeviceGetRemappedRows, card) or (0, 0, 0, 0)
    if failed:
        return "its memory can no longer be repaired (row remapping failed); have the GPU replaced"
    if uncorrected:
        return f"{uncorrected} uncorrectable memory errors; nvidia-smi --gpu-reset, or reboot the host"
    if pending:
        return "broken rows of its memory are remapped at its next reset; nvidia-smi --gpu-reset, or reboot the host"
    return ""


def _asked(nvml: Any, question: Any, *given: Any) -> Any:
    """The answer, None where this GPU has none to this question."""
    try:
        return question(*given)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NoPermission):
        return None
