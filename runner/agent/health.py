"""Slurm's question every minute whether this host is well -> it is drained with the reason, and later resumed."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from runner.agent import cards, clock, docker_socket, inventory, membership, needs, strangers
from runner.errors import EngineError
from runner.lock import held
from runner.slurm.client import run_folder

logger = logging.getLogger(__name__)

OURS = "pushtrain: "
"""Begins the reason of every drain that this program may undo."""
DOCKER_FAILURES = 2
DOCKER_WITHIN_S = 8.0
_TURN_WITHIN_S = 20.0
_EPILOG = "Epilog error"
_FULL = "is nearly full"
_STATE = "health.json"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What one check leaves to the next. `drained` is the reason that it gave; None where nobody looked yet."""

    docker_failures: int = 0
    drained: str | None = None


def faults(memory: Memory, *, home: Path) -> tuple[tuple[str, ...], Memory]:
    """Return what is wrong with this host, each with what to do, and what to remember. Changes nothing."""
    refused, root = _docker()
    failures = memory.docker_failures + 1 if refused else 0
    found = [*_gpus(inventory.read_gpus())]
    if wrong := clock.fault(clock.ahead_s(), was_off=clock.FAULT in (memory.drained or "")):
        found.append(wrong)
    if failures >= DOCKER_FAILURES:
        found.append(f"{refused}; sudo systemctl restart docker")
    for place in (home, root):
        found += [] if place is None else _disk(place, was_full=_FULL in (memory.drained or ""))
    return tuple(dict.fromkeys(found)), replace(memory, docker_failures=failures)


def decide(reason: str, *, drained: bool, said: str) -> str:
    """Return what to do with a host: "drain", "resume" or "leave". Pure.

    `reason` is what is wrong now, `drained` and `said` how Slurm has the host. What a person drained stays as it is;
    that our epilog could not end something is looked at anew.
    """
    ours = said.startswith((OURS, _EPILOG))
    if reason:
        return "leave" if drained and (not ours or said.startswith(reason)) else "drain"
    return "resume" if drained and ours else "leave"


def check(node: str) -> None:
    """Look, and tell Slurm where something changed; nothing where another looks for long.

    Safe to repeat. Raises EngineError where slurmctld is away.
    """
    with held(run_folder() / "health.lock", wait_s=_TURN_WITHIN_S) as ours:
        if ours:
            _check(node)


def _check(node: str) -> None:
    before = _load()
    found, memory = faults(before, home=inventory.default_home())
    waited = (run_folder() / strangers.WAITS).exists()
    if waited or strangers.may_be_there():
        found += tuple(filter(None, [_strangers(node)]))
    reason = OURS + "; ".join(each.removeprefix(OURS) for each in found) if found else ""
    if not reason and before.drained == "" and not waited:
        _save(memory)
        return
    # Kept also where slurmctld is away: the count of failures goes on, and the next check tells.
    _save(replace(memory, drained=before.drained))
    _save(replace(memory, drained=_tell(node, reason)))


def _tell(node: str, reason: str) -> str | None:
    """The reason that stands now; None where the next check is to look again."""
    known = membership.node(membership.cluster(), node)
    if known is None:
        return None
    todo = decide(reason, drained="DRAIN" in known.states, said=known.reason)
    if todo == "drain":
        logger.warning("drained: %s", reason)
        membership.drain(node, reason=reason)
    if todo == "resume" and (left := _strangers(node)):
        membership.drain(node, reason=left)
        return left
    if todo == "resume":
        logger.warning("resumed: what was wrong is over")
        membership.resume(node)
    return reason


def _strangers(node: str) -> str:
    """What keeps the host from being offered again, ended where it is ours."""
    cleared = strangers.clear(node, slurm=membership.cluster(), evict=False)
    flag = run_folder() / strangers.WAITS
    if cleared.reason:
        flag.write_text(cleared.reason)
    else:
        flag.unlink(missing_ok=True)
    return cleared.reason


def _gpus(expected: tuple[str, ...]) -> Iterator[str]:
    if not expected:
        return
    try:
        found = cards.readings()
    except EngineError as error:
        yield f"{error}; nvidia-smi says more, reboot the host"
        return
    yield from (reading.fault for reading in found if reading.fault)
    there = {reading.uuid for reading in found}
    gone = [uuid for uuid in expected if uuid not in there]
    if gone and not any(reading.fault and not reading.uuid for reading in found):
        yield f"gone: {', '.join(gone)}; reboot the host, or pushtrain agent start again without them"


def _docker() -> tuple[str, Path | None]:
    """Why Docker does not answer, and the folder of its images where that can be seen."""
    try:
        told = docker_socket.get("/info", within_s=DOCKER_WITHIN_S)
    except EngineError as error:
        return str(error), None
    root = Path(told.get("DockerRootDir") or "/nonexistent")
    return "", root if root.exists() else None


def _disk(place: Path, *, was_full: bool) -> Iterator[str]:
    """A disk is full at half of what a host must have to begin, and is so until it has that again."""
    if not place.exists():
        return
    disk = shutil.disk_usage(place)
    floor_bytes = needs.spare_bytes(disk.total) // (1 if was_full else 2)
    if disk.free < floor_bytes:
        yield f"the disk of {place} {_FULL}; pushtrain gc --yes, docker system prune"


def _load() -> Memory:
    try:
        return Memory(**json.loads((run_folder() / _STATE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Memory()


def _save(memory: Memory) -> None:
    part = run_folder() / f".{_STATE}.part"
    part.write_text(json.dumps(asdict(memory)))
    part.rename(run_folder() / _STATE)


def main(environ: Mapping[str, str]) -> int:
    """Slurm's HealthCheckProgram: 0, whatever it found; it is said by draining."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    node = environ.get("SLURMD_NODENAME", "")
    if not node or not run_folder().is_dir():
        return 0
    try:
        check(node)
    except EngineError as error:
        logger.info("the next check tells: %s", error)
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
