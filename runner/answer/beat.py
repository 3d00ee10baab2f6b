"""A block that takes long -> something done again and again meanwhile, by a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from runner.errors import StoreError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def beating(step: Callable[[], object], *, every_s: float) -> Iterator[None]:
    """Call `step` every so often within the block. A store that does not answer is tried again at the next beat."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            try:
                step()
            except StoreError as error:
                logger.warning("the turn is not prolonged: %s", error)

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
