"""What goes wrong in the host process -> the log, or an event for the supervisor: it must not end before its ranks."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import socket
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError, PushtrainError
from runner.quantities import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

# What a write that failed leaves free on a disk that is full, but for what was removed since.
FULL_BYTES = 64 * 2**20


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """A fault that must not end this process: its ranks would end with it."""
    try:
        yield
    except PushtrainError as error:
        logger.warning("%s: %s", what, error)


@contextlib.contextmanager
def disk_full(*folders: Path) -> Iterator[None]:
    """Turn what fails within because a disk of this host is full into an EngineError that says so.

    Named is the one of the `folders` with the least space. The code that wrote may have said it in words of its own:
    `__cause__` tells.
    """
    try:
        yield
    except (OSError, PushtrainError) as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
            cause = cause.__cause__
        if cause is None:
            raise
        free, folder = min((shutil.disk_usage(each).free, each) for each in folders if each.exists())
        raise EngineError(
            f"the disk of {socket.gethostname()} is full: {format_size(free)} are left at {folder}",
            tip="there: pushtrain gc, or df -h to see what fills it",
        ) from error


def disk_filled(last_lines: Iterable[str], folder: Path) -> str:
    """Which disk a rank speaks of that ended for want of room: this host's where `folder` has none left, else unknown.

    It may as well have filled its shared memory, or a disk of its own.
    """
    if not any("No space left on device" in line for line in last_lines):
        return ""
    try:
        left = shutil.disk_usage(folder).free
    except OSError:  # The training removed it, or what it lies on is away.
        return ""
    return f"the disk of {socket.gethostname()} is full" if left < FULL_BYTES else ""


def failure(error: Exception) -> PushtrainError:
    """What a thread of the host process ended with, for the supervisor, which would wait for ever otherwise."""
    if isinstance(error, PushtrainError):
        return error
    logger.error("a fault of Pushtrain's own", exc_info=error)
    return EngineError(f"{type(error).__name__}: {error}", tip="a fault of Pushtrain's own: please report it")


def error_event(error: PushtrainError) -> dict[str, Any]:
    """The event that tells it."""
    return {"event": "error", "class": type(error).__name__, "message": str(error), "tip": error.tip}
