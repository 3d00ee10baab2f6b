"""Stands in for NVML where its folder is on PYTHONPATH: the GPUs that FAKE_GPUS names.

FAKE_GPUS="NVIDIA H100 80GB HBM3:8"                      eight of one model
FAKE_GPUS="Tesla V100-SXM2-16GB:2,NVIDIA A100-SXM4-40GB:1/1g.5gb*7"   two whole ones, and one divided by MIG
Empty or not set: no driver. FAKE_GPUS=mismatch: a driver that does not answer.
"""

# ruff: noqa: N801, N802 - the names are NVML's

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

NVML_DEVICE_MIG_ENABLE = 1
NVML_DEVICE_MIG_DISABLE = 0
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


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_Uninitialized(NVMLError):
    pass


@dataclass(frozen=True)
class Device:
    uuid: str
    name: str
    instances: tuple[Device, ...] = ()


@dataclass(frozen=True)
class Memory:
    total: int
    free: int
    used: int


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
    return _devices()[index]


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
    return Memory(total=total, free=total, used=0)


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


def _check() -> None:
    if not _open:
        raise NVMLError_Uninitialized("Uninitialized")


def _devices() -> tuple[Device, ...]:
    return tuple(_named(os.environ["FAKE_GPUS"]))


def _named(text: str) -> Iterator[Device]:
    number = 0
    for entry in text.split(","):
        model, count, profile, instances = _entry(entry)
        for _ in range(count):
            parts = tuple(
                Device(uuid=f"MIG-fake-{number}-{part}", name=f"{model} MIG {profile}")
                for part in range(instances)
            )
            yield Device(uuid=f"GPU-fake-{number}", name=model, instances=parts)
            number += 1


def _entry(entry: str) -> tuple[str, int, str, int]:
    whole, _, division = entry.strip().partition("/")
    model, _, count = whole.rpartition(":")
    profile, _, instances = division.partition("*")
    return model, int(count), profile, int(instances or 0)
