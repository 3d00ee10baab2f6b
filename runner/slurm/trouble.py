"""What a command of Slurm said, and the slurm.conf it went by -> what is wrong, and what to type."""

from __future__ import annotations

import re
from pathlib import Path

from runner.errors import EngineError

# As slurmctld's commands say it where nobody listens on the head, or the head is off.
_SILENT = ("Unable to contact slurm controller", "Socket timed out", "Connection refused", "standby mode")
# As its commands say it where no slurm.conf tells them of a cluster, or they are not there.
_NONE = ("configuration source", "there is no command", "there is no sbatch", "cannot stat file")
_HEAD = re.compile(r"^\s*SlurmctldHost\s*=\s*([^\s(]+)(?:\(([^)\s]+)\))?", re.MULTILINE | re.IGNORECASE)


def explained(command: str, said: str, *, conf: Path | None) -> EngineError:
    """The error for what `command` said; `conf` is None where Slurm's commands find their own."""
    ours = conf is not None and of_agent(conf)
    if any(word in said for word in _SILENT):
        return EngineError(f"{_head(conf)} does not answer; {command}: {said}", tip=_look(conf, ours=ours))
    if "ermission denied" in said:
        return EngineError(f"{command}: {said}", tip="only root and operators of Slurm may: sudo pushtrain …")
    if ours:
        return EngineError(
            f"{command}: {said}",
            tip=f"sudo pushtrain agent status; SLURM_CONF={conf} sinfo -R; the same on the head",
        )
    return EngineError(f"{command}: {said}", tip="sinfo -R")


def stopped(conf: Path | None, said: str = "") -> EngineError | None:
    """The error where nothing of Slurm works because the agent that wrote `conf` does not run; None where not for that.

    `said` is what a command said, empty before it: a munged that was killed leaves its socket. Daemons of an agent that
    was killed go on, so that it counts where munged is missing alone.
    """
    if conf is None or not of_agent(conf):
        return None
    if ("unge" not in said and (conf.parent / "munge.socket").exists()) or _runs(conf.parent):
        return None
    return EngineError("the agent of this host does not run", tip="sudo pushtrain agent start")


def no_cluster(error: EngineError) -> bool:
    """Whether a command failed since this machine is of no cluster."""
    return any(word in str(error) for word in _NONE)


def of_agent(conf: Path) -> bool:
    """Whether an agent of this machine wrote that slurm.conf."""
    return (conf.parent / "agent.json").exists()


def _runs(folder: Path) -> bool:
    """By its number: only root may look at its lock, which an agent that starts may not find taken."""
    try:
        pid = int((folder / "agent.pid").read_text())
        return b"runner.agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _head(conf: Path | None) -> str:
    try:
        found = _HEAD.search(conf.read_text()) if conf is not None else None
    except OSError:
        found = None
    if found is None:
        return "the head (slurmctld)"
    return f"the head {found[1]}" + (f" ({found[2]})" if found[2] else "")


def _look(conf: Path | None, *, ours: bool) -> str:
    name = _head(conf).split()[2] if conf is not None else ""
    there = "sudo pushtrain agent status" if ours else "systemctl status slurmctld"
    port = "; its TCP port 6817 has to be open to this machine" if ours else ""
    return f"is it on, and reachable from here (ping {name or 'HEAD'})? there: {there}{port}"
