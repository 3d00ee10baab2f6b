"""What goes wrong in the host process -> the log, or an event for the supervisor: it must not end before its ranks."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError, PushtrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """A fault that must not end this process: its ranks would end with it."""
    try:
        yield
    except PushtrainError as error:
        logger.warning("%s: %s", what, error)


def failure(error: Exception) -> PushtrainError:
    """What a thread of the host process ended with, for the supervisor, which would wait for ever otherwise."""
    if isinstance(error, PushtrainError):
        return error
    logger.error("a fault of Pushtrain's own", exc_info=error)
    return EngineError(f"{type(error).__name__}: {error}", tip="a fault of Pushtrain's own: please report it")


def error_event(error: PushtrainError) -> dict[str, Any]:
    """The event that tells it."""
    return {"event": "error", "class": type(error).__name__, "message": str(error), "tip": error.tip}
