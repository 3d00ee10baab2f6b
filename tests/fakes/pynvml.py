"""Stands in for NVML where its folder is on PYTHONPATH: the GPUs that FAKE_GPUS names.

FAKE_GPUS="NVIDIA H100 80GB HBM3:8"                      eight of one model
FAKE_GPUS="Tesla V100-SXM2-16GB:2,NVIDIA A100-SXM4-40GB:1/1g.5gb*7"   two whole ones, and one divided by MIG
Empty or not set: no driver. FAKE_GPUS=mismatch: a driver that does not answer.

FAKE_GPU_HOST=yes makes them GPU-fake-h1-0 and so on on a host h1: as real ones, no two of a fleet are called the same.
FAKE_GPU_MINORS=10 begins the minor numbers of their device files there, not at 0.
FAKE_GPU_STATE names a JSON file, read again at each question; what it does not name is idle and well:
{"GPU-fake-0": {"processes": {"4711": 1024}, "utilization": 97, "temperature": 61, "power": 310, "used": 4096,
                "fault": "ecc", "pending", "failed" or "lost"}}
"""

# ruff: noqa: N801, N802 - the names are NVML's

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NVML_DEVICE_MIG_ENABLE = 1
NVML_DEVICE_MIG_DISABLE = 0
NVML_TEMPERATURE_GPU = 0
NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
NVML_VOLATILE_ECC = 0
SLOTS_OF_A_DIVIDED_CARD = 7


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_LibRmVersionMismatch(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_FunctionNotFound(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_Uninitialized(NVMLError):
    pass


class NVMLError_GpuIsLost(NVMLError):
    pass


@dataclass(frozen=True)
class Device:
    uuid: str
    name: str
    number: int
    part: int | None = None
    instances: tuple[Device, ...] = ()


@dataclass(frozen=True)
class Memory:
    total: int
    free: int
    used: int


@dataclass(frozen=True)
class Utilization:
    gpu: int
    memory: int


@dataclass(frozen=True)
class Process:
    pid: int
    usedGpuMemory: int | None  # noqa: N815


_open = 0


def nvmlInit() -> None:
    global _open
    named = os.environ.get("FAKE_GPUS", "")
    if not named:
        raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")
    if named == "mismatch":
        raise NVMLError_LibRmVersionMismatch("Driver/library version mismatch")
    _open += 1


def nvmlShutdown() -> None:
    global _open
    _check()
    _open -= 1


def nvmlDeviceGetCount() -> int:
    _check()
    return len(_devices())


def nvmlDeviceGetHandleByIndex(index: int) -> Device:
    _check()
    device = _devices()[index]
    if _state(device).get("fault") == "lost":
        raise NVMLError_GpuIsLost("GPU is lost")
    return device


def nvmlDeviceGetUUID(device: Device) -> str:
    _check()
    return device.uuid


def nvmlDeviceGetName(device: Device) -> str:
    _check()
    return device.name


def nvmlDeviceGetMemoryInfo(device: Device) -> Memory:
    _check()
    sizes = re.findall(r"(\d+)gb", device.name.lower())
    total = int(sizes[-1] if sizes else 16) * 2**30
    used = int(_state(device).get("used", 0))
    return Memory(total=total, free=total - used, used=used)


def nvmlDeviceGetMigMode(device: Device) -> tuple[int, int]:
    _check()
    if "A100" not in device.name and "H100" not in device.name:
        raise NVMLError_NotSupported("Not Supported")
    mode = NVML_DEVICE_MIG_ENABLE if device.instances else NVML_DEVICE_MIG_DISABLE
    return mode, mode


def nvmlDeviceGetMaxMigDeviceCount(device: Device) -> int:
    _check()
    return SLOTS_OF_A_DIVIDED_CARD


def nvmlDeviceGetMigDeviceHandleByIndex(device: Device, index: int) -> Device:
    _check()
    if index >= len(device.instances):
        raise NVMLError_NotFound("Not Found")
    return device.instances[index]


def nvmlDeviceGetMinorNumber(device: Device) -> int:
    _check()
    return int(os.environ.get("FAKE_GPU_MINORS", "0")) + device.number


def nvmlDeviceGetGpuInstanceId(device: Device) -> int:
    _check()
    return _part(device) + 1


def nvmlDeviceGetComputeInstanceId(device: Device) -> int:
    _check()
    _part(device)
    return 0


def nvmlDeviceGetUtilizationRates(device: Device) -> Utilization:
    _check()
    if device.part is not None:
        raise NVMLError_NotSupported("Not Supported")
    return Utilization(gpu=int(_state(device).get("utilization", 0)), memory=0)


def nvmlDeviceGetTemperature(device: Device, sensor: int) -> int:
    _check()
    assert sensor == NVML_TEMPERATURE_GPU
    return int(_state(device).get("temperature", 30))


def nvmlDeviceGetPowerUsage(device: Device) -> int:
    _check()
    return 1000 * int(_state(device).get("power", 70))


def nvmlDeviceGetComputeRunningProcesses(device: Device) -> list[Process]:
    _check()
    running = _state(device).get("processes", {})
    return [Process(pid=int(pid), usedGpuMemory=used) for pid, used in running.items()]


def nvmlDeviceGetTotalEccErrors(device: Device, kind: int, since: int) -> int:
    _check()
    assert (kind, since) == (NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC)
    if "V100" in device.name:
        raise NVMLError_NotSupported("Not Supported")
    return 3 if _state(device).get("fault") == "ecc" else 0


def nvmlDeviceGetRemappedRows(device: Device) -> tuple[int, int, int, int]:
    _check()
    if "A100" not in device.name and "H100" not in device.name:
        raise NVMLError_NotSupported("Not Supported")
    fault = _state(device).get("fault")
    return 0, 0, int(fault == "pending"), int(fault == "failed")


def _part(device: Device) -> int:
    if device.part is None:
        raise NVMLError_NotSupported("Not Supported")
    return device.part


def _state(device: Device) -> dict[str, Any]:
    path = Path(os.environ.get("FAKE_GPU_STATE", "/nonexistent"))
    state: dict[str, Any] = json.loads(path.read_text()).get(device.uuid, {}) if path.exists() else {}
    return state


def _check() -> None:
    if not _open:
        raise NVMLError_Uninitialized("Uninitialized")


def _devices() -> tuple[Device, ...]:
    return tuple(_named(os.environ["FAKE_GPUS"]))


def _named(text: str) -> Iterator[Device]:
    number = 0
    host = f"{os.uname().nodename}-" if os.environ.get("FAKE_GPU_HOST") else ""
    for entry in text.split(","):
        model, count, profile, instances = _entry(entry)
        for _ in range(count):
            parts = tuple(
                Device(
                    uuid=f"MIG-fake-{host}{number}-{part}",
                    name=f"{model} MIG {profile}",
                    number=number,
                    part=part,
                )
                for part in range(instances)
            )
            yield Device(uuid=f"GPU-fake-{host}{number}", name=model, number=number, instances=parts)
            number += 1


def _entry(entry: str) -> tuple[str, int, str, int]:
    whole, _, division = entry.strip().partition("/")
    model, _, count = whole.rpartition(":")
    profile, _, instances = division.partition("*")
    return model, int(count), profile, int(instances or 0)
