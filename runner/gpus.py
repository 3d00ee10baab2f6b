"""This machine -> its GPUs, and leases on them that end with the last process of a run."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from runner.errors import EngineError

logger = logging.getLogger(__name__)

GUARD = "guard"
_BUS = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, or one MIG instance of a divided GPU (`index` is then that of the GPU it is a part of).

    `uuid` is what CUDA_VISIBLE_DEVICES and Docker take, for both kinds.
    """

    index: int
    uuid: str
    model: str
    memory_bytes: int


def discover() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine by index, as NVML names them; () where there is no NVIDIA driver.

    A driver that is there and does not answer counts as none, with a warning that says why: a run that
    needs no GPU must not fail for it. MIG instances stand in the place of a GPU that is divided into them.
    """
    try:
        with driver() as nvml:
            return tuple(gpu for gpu, _, _ in listed(nvml))
    except EngineError as error:
        logger.warning("%s, so no GPU is used", error)
        return ()


@contextmanager
def driver() -> Iterator[Any]:
    """NVML, opened for the block; None where this machine has no NVIDIA driver.

    Raises EngineError where it does not answer, and for what NVML refuses within the block.
    """
    pynvml = _nvml()
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        pynvml = None
    except pynvml.NVMLError as error:
        raise EngineError(f"The NVIDIA driver does not answer: {error}", tip="nvidia-smi") from error
    if pynvml is None:
        yield None
        return
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise EngineError(
            f"The NVIDIA driver does not say what it was asked: {error}", tip="nvidia-smi"
        ) from error
    finally:
        pynvml.nvmlShutdown()


def on_bus(devices: Path = _BUS) -> int:
    """Return how many cards of NVIDIA are plugged in, also where no driver is loaded; 0 where none can tell."""
    return sum(_is_card(device) for device in devices.iterdir()) if devices.is_dir() else 0


def _is_card(device: Path) -> bool:
    try:
        # Its sound is a device of its own, of another class.
        kind = (device / "class").read_text()
        return (device / "vendor").read_text().strip() == _NVIDIA and kind.startswith(_DISPLAY)
    except OSError:
        return False


def listed(nvml: Any) -> Iterator[tuple[Gpu, Any, Any]]:
    """Every GPU or MIG instance by index, with NVML's handles of the whole card and of itself; none for no driver.

    Raises NVML's errors.
    """
    for index in range(nvml.nvmlDeviceGetCount() if nvml is not None else 0):
        yield from listed_of(nvml, index)


def listed_of(nvml: Any, index: int) -> Iterator[tuple[Gpu, Any, Any]]:
    """As `listed`, of one card."""
    card = nvml.nvmlDeviceGetHandleByIndex(index)
    for device in _instances(nvml, card) if _is_divided(nvml, card) else (card,):
        gpu = Gpu(
            index=index,
            uuid=nvml.nvmlDeviceGetUUID(device),
            model=nvml.nvmlDeviceGetName(device),
            memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(device).total),
        )
        yield gpu, card, device


def _nvml() -> Any:
    # By name: NVML's binding has no types, and makes its error classes while it is imported.
    return importlib.import_module("pynvml")


def _is_divided(nvml: Any, card: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(card)
    except nvml.NVMLError_NotSupported:
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _instances(nvml: Any, card: Any) -> Iterator[Any]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, number)
        except nvml.NVMLError_NotFound:
            continue


def matches(gpu: Gpu, model: str | None) -> bool:
    """Return whether every word of `model` is a word of the GPU's name: "h100" and "H100-80GB" both match
    "NVIDIA H100 80GB HBM3", "H10" does not. None matches every GPU.
    """
    return model is None or _words(model) <= _words(gpu.model)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9.]+", text.lower()))


@dataclass(frozen=True, kw_only=True)
class Lease:
    """GPUs that nobody else gets while any process has `fds` open.

    Pass `fds` to the processes of the run (`Popen(pass_fds=lease.fds)`): the lease then ends with the last of
    them, however it ends. Other children do not inherit them.
    """

    gpus: tuple[Gpu, ...]
    fds: tuple[int, ...]

    def release(self) -> None:
        """Let go of this process's part; processes that were passed `fds` keep theirs. Call it once."""
        for fd in self.fds:
            # Closed, not unlocked: LOCK_UN would end the lease for the processes that share the descriptor.
            os.close(fd)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(
    folder: Path, gpus: tuple[Gpu, ...], *, count: int, model: str | None = None, holder: str
) -> Lease | None:
    """Return a lease on the first `count` free GPUs of `model` in the order given; None where fewer are free.

    All or none. Does not wait for a GPU. `folder` is the one folder in which this machine's leases are kept
    (made if missing); `holder` is what `holders` shows to others, such as the run's id.
    """
    leased: dict[int, Gpu] = {}
    with ExitStack() as undo, _guarded(folder):
        for gpu in (gpu for gpu in gpus if matches(gpu, model)):
            fd = _try_lock(folder, gpu.uuid, holder) if len(leased) < count else None
            if fd is not None:
                undo.callback(os.close, fd)
                leased[fd] = gpu
        if len(leased) < count:
            return None
        undo.pop_all()
    return Lease(gpus=tuple(leased.values()), fds=tuple(leased))


def holders(folder: Path) -> Mapping[str, str]:
    """Return who holds which GPU now, uuid -> holder. What a file says of an ended lease is not believed."""
    if not folder.is_dir():
        return {}
    with _guarded(folder):
        return {path.stem: path.read_text() for path in sorted(folder.glob("*.lock")) if _is_held(path)}


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    # One at a time: two that each grab a part of what the other wants would both go away with nothing, and a
    # look at a lock would seem a lease. Held for microseconds.
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / GUARD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _try_lock(folder: Path, uuid: str, holder: str) -> int | None:
    fd = os.open(folder / f"{uuid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    if not _lock(fd):
        os.close(fd)
        return None
    os.ftruncate(fd, 0)
    os.pwrite(fd, holder.encode(), 0)
    return fd


def _is_held(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not _lock(fd)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
