"""A store -> the same store, which is asked again for a while where it does not answer."""

from __future__ import annotations

import errno
import functools
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from runner.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.store import Store

logger = logging.getLogger(__name__)

# Servers that are started again, or ask for fewer requests, come back within minutes.
WITHIN_S = 300.0
_PAUSE_S = 2.0


def patient(store: Store, *, within_s: float = WITHIN_S) -> Store:
    """The same store. Its calls block for up to `within_s` while it fails in a way that may pass, and raise then."""
    return cast("Store", _Patient(store, within_s))


class _Patient:
    def __init__(self, store: Store, within_s: float) -> None:
        self._store, self._within_s = store, within_s

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return functools.partial(self._call, found) if callable(found) else found

    def _call(self, do: Callable[..., object], *args: object, **options: object) -> object:
        deadline_s = time.monotonic() + self._within_s
        while True:
            try:
                return do(*args, **options)
            except StoreError as error:
                if not error.retryable or _is_full(error) or time.monotonic() > deadline_s:
                    raise
                logger.warning("%s; asking again", error)
            time.sleep(_PAUSE_S)


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk is full, which nobody mends within minutes."""
    while error is not None and getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
        error = error.__cause__
    return error is not None
