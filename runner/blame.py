"""How the processes of a gang failed -> the one that failed first for a reason of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Literal

from runner import causes
from runner.host.launched import ORPHANED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WINDOW_S = 5.0
_ASKED_TO_END = ("SIGTERM", "SIGINT", "SIGHUP")
_LOST_DAEMON = re.compile(r"Remote daemon:.* on node (\S+)")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a rank or a launcher failed, at `at_s` by its host's clock. `signal` is a name, `cause` what its host knows.

    `told_to_stop`: it ended after its host had been told to stop its ranks.
    """

    rank: int
    kind: Literal["rank", "launcher"] = "rank"
    at_s: float
    code: int
    signal: str = ""
    cause: str = ""
    last_lines: tuple[str, ...] = ()
    told_to_stop: bool = False


class _Standing(IntEnum):
    """How likely it is that the others failed because of this one: the lower, the likelier."""

    OWN = 0
    # What it raised took its time to end: meanwhile the others had died of it.
    OWN_BUT_LATE = 1
    ASKED_TO_END = 2
    LAUNCHER_KILLED = 3
    # It said nothing, but ended by itself: those that tell of another's end can mean it alone.
    CODE_BUT_LATE = 4
    CONSEQUENCE = 5
    LAUNCHER = 6
    TOLD_TO_STOP = 7
    ORPHANED = 8


def first(failures: Sequence[Failure], *, window_s: float = WINDOW_S) -> Failure:
    """The failure that the others followed from, of at least one.

    The likeliest of those that ended within `window_s` of the first, and of several the first. Ranks that ended when
    they were told to, and those whose launcher left them, count only where there is nothing else.
    """
    standing = {id(failure): _standing(failure) for failure in failures}
    apart = [failure for failure in failures if standing[id(failure)] < _Standing.TOLD_TO_STOP] or failures
    earliest_s = min(failure.at_s for failure in apart)
    near = [failure for failure in apart if failure.at_s <= earliest_s + window_s]
    return min(near, key=lambda failure: (standing[id(failure)], failure.at_s, failure.rank))


def lost_node(first: Failure, launchers_said: Sequence[str]) -> str | None:
    """The node that mpirun lost, by name, where that is why `first` ended: it ends all ranks then.

    Not where the first had a reason of its own: at the end of every gang mpirun may miss a daemon.
    """
    if first.kind == "rank" and first.cause != ORPHANED and first.signal not in _ASKED_TO_END:
        return None
    found = (_LOST_DAEMON.search(line) for line in launchers_said)
    return next((match[1] for match in found if match), None)


def silence(silent_s: float, said: Mapping[int, Sequence[str]]) -> str:
    """Say that no rank printed anything for so long, and which of them raised and did not end, if any did."""
    cause = f"timeout.silence: no output for {silent_s:.0f} s"
    if raised := stuck(said):
        cause += f"; rank {raised[0]} raised {raised[1]} and did not end"
    return f"{cause}; what each rank was doing lies in its logs, in stacks/"


def stuck(last_lines: Mapping[int, Sequence[str]]) -> tuple[int, str] | None:
    """Of ranks that are silent, by their last lines: the lowest one that raised and did not end, and what it raised.

    An MPI program waits in MPI_Finalize for ranks that wait for it, and JAX some minutes for the others at its end.
    """
    for rank, lines in sorted(last_lines.items()):
        raised = list(causes.exceptions(lines[-1:]))
        if raised and not causes.is_consequence(lines):
            return rank, raised[0]
    return None


def _standing(failure: Failure) -> _Standing:
    if failure.cause == ORPHANED:
        return _Standing.ORPHANED
    if failure.kind == "launcher":
        return _launchers(failure)
    if failure.told_to_stop:
        return _late(failure)
    if causes.is_consequence(failure.last_lines) and failure.signal != "SIGKILL":
        return _Standing.CONSEQUENCE
    return _Standing.ASKED_TO_END if failure.signal in _ASKED_TO_END else _Standing.OWN


def _launchers(failure: Failure) -> _Standing:
    if failure.told_to_stop:
        return _Standing.ORPHANED
    # mpirun passes on the code of a rank that was killed; but then that rank is among the failures.
    return _Standing.LAUNCHER_KILLED if failure.signal else _Standing.LAUNCHER


def _late(failure: Failure) -> _Standing:
    """Whether its end is its own, and not its answer to being stopped."""
    if causes.is_consequence(failure.last_lines):
        return _Standing.TOLD_TO_STOP
    raised = causes.exceptions(failure.last_lines)
    if any(not each.startswith(("KeyboardInterrupt", "SystemExit")) for each in raised):
        return _Standing.OWN_BUT_LATE  # Also where a signal then broke off its end.
    return _Standing.TOLD_TO_STOP if failure.signal else _Standing.CODE_BUT_LATE
