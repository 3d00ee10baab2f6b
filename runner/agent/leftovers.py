"""This host's containers and processes -> what of them belongs to which run and job, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from runner.agent import cards, docker_socket
from runner.errors import EngineError
from runner.host.docker_host import JOB_LABEL, LABEL, RUN_LABEL
from runner.host.held import held_marks
from runner.host.leash import LEASH_GRACE_S, MARK
from runner.lock import held
from runner.slurm.client import run_folder

LOG, ENDED = "strangers.log", "strangers-ended"
LOG_BYTES = 2**20
GRACE_S = 5.0
GONE_WITHIN_S = 20.0
# Slurm's own: its programs, and the scripts that it runs around a job, such as this one.
_SLURM = frozenset({"slurmd", "slurmstepd", "slurmctld"})
_SCRIPT = b"SLURM_SCRIPT_CONTEXT"
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Left:
    """A container or a process. `run`, `mark` and `job` are empty where it carries none; `gpu` is one that it uses."""

    kind: Literal["container", "process"]
    id: str
    name: str
    run: str = ""
    mark: str = ""
    job: str = ""
    user: str = ""
    gpu: str = ""

    def __str__(self) -> str:
        where = f" on {self.gpu}" if self.gpu else ""
        whose = f" of {self.run}" if self.run else f" of {self.user}" if self.user else ""
        return f"{self.kind} {self.id[:12]} ({self.name}){whose}{where}"


def containers() -> tuple[Left, ...]:
    """Return all containers that Pushtrain made, those too that have ended. Raises EngineError."""
    rows = docker_socket.get("/containers/json?all=1", label=[RUN_LABEL])
    return tuple(
        Left(
            kind="container",
            id=row["Id"],
            name=row["Names"][0].removeprefix("/") if row["Names"] else "",
            run=row["Labels"][RUN_LABEL],
            mark=row["Labels"].get(LABEL, ""),
            job=row["Labels"].get(JOB_LABEL, ""),
        )
        for row in rows
    )


def processes() -> tuple[Left, ...]:
    """Return all processes that carry the mark of a run or belong to a job of Slurm, but for Slurm's own."""
    found = (_process(pid) for pid in _pids())
    return tuple(left for left in found if left is not None and (left.mark or left.job))


def on_gpus() -> tuple[Left, ...]:
    """Return all processes that compute on a GPU. Raises EngineError where the driver does not answer."""
    pairs = [(pid, reading.uuid) for reading in cards.readings() for pid, _ in reading.processes]
    found = ((_process(pid), uuid) for pid, uuid in pairs)
    return tuple(replace(left, gpu=uuid) for left, uuid in found if left is not None)


def began_s(left: Left) -> float | None:
    """Return when a process began, in seconds since 1970 by this host's clock; None where it has ended."""
    rest = _read(int(left.id), "stat").decode(errors="replace").rpartition(")")[2].split()
    if not rest:
        return None
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(booted.split()[1]) + int(rest[19]) / os.sysconf("SC_CLK_TCK")


def is_held(left: Left, marks: Iterable[str]) -> bool:
    """Return whether a living host process answers for it. Pure."""
    return bool(left.mark) and any(left.mark.startswith(mark) for mark in marks)


def end(
    found: Callable[[], tuple[Left, ...]], *, grace_s: float = GRACE_S
) -> tuple[tuple[Left, ...], tuple[Left, ...]]:
    """End what `found` finds: SIGTERM, after the grace SIGKILL. Blocks for half a minute at most.

    Returns what there was, and what is there still. Those that a guardian is ending are left to it for its own grace.
    """
    if any(is_held(left, held_marks()) for left in found()):
        _until_none(
            lambda: [each for each in found() if is_held(each, held_marks())], within_s=2 * LEASH_GRACE_S
        )
    first = found()
    for left in first:
        _ask(left)
    if first and grace_s:
        _until_none(found, within_s=grace_s)
    deadline_s = time.monotonic() + GONE_WITHIN_S
    while (still := found()) and time.monotonic() < deadline_s:
        for left in still:
            _kill(left)
        time.sleep(_POLL_S)
    return first, still


def remove_networks(run_ids: Iterable[str]) -> None:
    """Remove the networks of runs that have nothing here any more. Safe to repeat. Raises EngineError."""
    for run_id in set(run_ids):
        for row in docker_socket.get("/networks", label=[f"{RUN_LABEL}={run_id}"]):
            docker_socket.delete(f"/networks/{row['Id']}")


def report(ended: Iterable[Left], *, by: str) -> None:
    """Write into the log of strangers, and count for the metrics, what was ended. Safe from several processes."""
    rows = [json.dumps({"time_s": round(time.time(), 1), "by": by, **asdict(left)}) for left in ended]
    folder = run_folder()
    if not rows or not folder.is_dir():
        return
    with held(folder / f".{LOG}.lock", wait_s=5.0):
        log, count = folder / LOG, folder / ENDED
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.rename(folder / f"{LOG}.1")
        with log.open("a") as file:
            file.write("".join(f"{row}\n" for row in rows))
        before = int(count.read_text()) if count.exists() else 0
        part = folder / f".{ENDED}.part"
        part.write_text(f"{before + len(rows)}\n")
        part.rename(count)


def unanswered(question: Callable[[], tuple[Left, ...]]) -> tuple[tuple[Left, ...], str]:
    """Return the answer; where Docker or the driver gives none, nothing and why."""
    try:
        return question(), ""
    except EngineError as error:
        return (), str(error)


def _until_none(found: Callable[[], Iterable[Left]], *, within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while any(True for _ in found()) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)


def _ask(left: Left) -> None:
    with contextlib.suppress(EngineError, ProcessLookupError):
        if left.kind == "container":
            docker_socket.post(f"/containers/{left.id}/kill?signal=SIGTERM")
        else:
            os.kill(int(left.id), signal.SIGTERM)


def _kill(left: Left) -> None:
    with contextlib.suppress(EngineError, ProcessLookupError):
        if left.kind == "container":
            docker_socket.delete(f"/containers/{left.id}?force=1&v=1", within_s=GONE_WITHIN_S)
        else:
            os.kill(int(left.id), signal.SIGKILL)


def _pids() -> Iterator[int]:
    for entry in os.listdir("/proc"):  # noqa: PTH208  # only names, of some thousand
        if entry.isdigit() and int(entry) != os.getpid():
            yield int(entry)


def _process(pid: int) -> Left | None:
    """What is known of a process; None for one that has ended, and for those that are none of ours to judge."""
    stat = _read(pid, "stat").decode(errors="replace")
    name, _, rest = stat.partition("(")[2].rpartition(")")
    if not rest or rest.split()[0] in "ZX" or name in _SLURM:
        return None
    told = dict(entry.partition(b"=")[::2] for entry in _read(pid, "environ").split(b"\0"))
    if _SCRIPT in told:
        return None
    mark = told.get(MARK.encode(), b"").decode(errors="replace")
    return Left(
        kind="process",
        id=str(pid),
        name=name,
        run=mark.partition(":")[0],
        mark=mark,
        job=told.get(b"SLURM_JOB_ID", b"").decode(errors="replace"),
        user=_user(pid),
    )


def _user(pid: int) -> str:
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # It ended meanwhile.
