"""What an agent does again and again -> threads that go on whatever happens, and what the last failures were."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.slurm.client import run_folder

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

PAUSE_S = 10.0
# What fails once in a quarter of an hour, as the look at caches, is told until it was tried again.
TOLD_FOR_S = 1200.0
_NOTED = "failed-"


@dataclass(frozen=True, kw_only=True)
class Failed:
    """One of these that ended with an error nobody expected, and was begun again. `at_s` is since 1970."""

    name: str
    at_s: float
    why: str


def begin(name: str, work: Callable[[], None], *, ended: Callable[[], bool]) -> None:
    """Do `work`, which lasts until `ended`, in a thread of its own; where it fails it is begun again after a pause.

    `name` is what it sees to, in words.
    """
    threading.Thread(target=go_on, args=(name, work), kwargs={"ended": ended}, daemon=True).start()


def go_on(
    name: str, work: Callable[[], None], *, ended: Callable[[], bool], pause_s: float = PAUSE_S
) -> None:
    """As `begin`, in this thread. Raises nothing."""
    while not ended():
        try:
            work()
        except Exception as error:
            # A full disk, or no memory for a process: over after a while, and the agent has to be there then.
            logger.exception("%s: failed, and is begun again", name)
            _note(name, error)
            time.sleep(pause_s)
        else:
            return


def lately() -> tuple[Failed, ...]:
    """What failed in the last minutes, by name."""
    noted = (
        Failed(name=path.name.removeprefix(_NOTED), at_s=path.stat().st_mtime, why=path.read_text())
        for path in sorted(run_folder().glob(f"{_NOTED}*"))
    )
    return tuple(each for each in noted if time.time() - each.at_s < TOLD_FOR_S)


def _note(name: str, error: Exception) -> None:
    with contextlib.suppress(OSError):
        (run_folder() / f"{_NOTED}{name}").write_text(f"{type(error).__name__}: {error}")
