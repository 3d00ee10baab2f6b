"""One thing of many that a daemon does -> what went wrong with it, so that the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runner.errors import PushtrainError

logger = logging.getLogger(__name__)


def guarded(step: Callable[[], object]) -> PushtrainError | None:
    """Does `step`; returns its error. What nobody expected is logged with its traceback, and is an error as well."""
    try:
        step()
    except PushtrainError as error:
        return error
    except Exception as error:
        logger.exception(
            "this is a fault of pushtrain's; what it was about is left as it is, the rest goes on"
        )
        return PushtrainError(f"{type(error).__name__}: {error}")
    return None
