"""Processes of a rank -> where each of their Python threads is, as py-spy shows it, for people to read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DUMP_WITHIN_S = 10.0
SHOWN_ARGUMENTS = 200
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")


def dump(pids: Iterable[int], *, within_s: float = DUMP_WITHIN_S) -> str:
    """What every Python process of these sessions and below these processes does now, and their own children.

    Blocks for at most `within_s` for each. What cannot be looked at is said in the text, with what to change: never
    raises. Native processes are only named.
    """
    found = family(pids)
    if not found:
        return "no process is left\n"
    program = _py_spy()
    if program is None:
        return "py-spy is not installed here: pip install py-spy\n"
    return "\n".join(_section(pid, program, within_s) for pid in found)


def family(pids: Iterable[int]) -> list[int]:
    """The processes that these lead by session or group, and all that descend from them, oldest first."""
    asked = set(pids)
    kin = _kin()
    found = {pid for pid, (_, group, session) in kin.items() if {pid, group, session} & asked}
    while more := {pid for pid, (parent, _, _) in kin.items() if parent in found} - found:
        found |= more
    return sorted(found)


def _kin() -> Mapping[int, tuple[int, int, int]]:
    """Parent, process group and session of every live process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, parent, group, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # It ended meanwhile.
        if state not in "ZX":
            found[int(entry.name)] = (int(parent), int(group), int(session))
    return found


def _section(pid: int, program: str, within_s: float) -> str:
    head = f"=== process {pid}: {_arguments(pid)}\n"
    if not _is_python(pid):
        return head
    try:
        done = subprocess.run(
            [program, "dump", "--pid", str(pid)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{head}py-spy had no answer within {within_s:g} s\n"
    except OSError as error:
        return f"{head}py-spy cannot be started: {error.strerror}\n"
    return head + (done.stdout if done.returncode == 0 else _refusal(pid, done.stderr))


def _refusal(pid: int, stderr: str) -> str:
    """Why py-spy could not look, and what to change where it was not allowed to."""
    if not Path(f"/proc/{pid}").is_dir():
        return "it ended meanwhile\n"
    if "ermission" not in stderr and "not permitted" not in stderr:
        return f"py-spy could not read it: {stderr.strip()}\n"
    try:
        scope = PTRACE_SCOPE.read_text().strip()
    except OSError:
        scope = "absent"
    return (
        f"not permitted to look into it (kernel.yama.ptrace_scope is {scope}); as root:"
        " sysctl kernel.yama.ptrace_scope=0, or run Pushtrain as root\n"
    )


def _is_python(pid: int) -> bool:
    """By its program, or by a libpython that an embedding program has loaded."""
    try:
        if Path(f"/proc/{pid}/exe").readlink().name.startswith(("python", "pypy")):
            return True
        return "/libpython" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return _arguments(pid).split(" ")[0].rpartition("/")[2].startswith("python")


def _arguments(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    text = " ".join(word.decode(errors="replace") for word in words).strip()
    return text if len(text) <= SHOWN_ARGUMENTS else f"{text[:SHOWN_ARGUMENTS]} …"


def _py_spy() -> str | None:
    """Beside this Python, or on PATH."""
    beside = Path(sys.executable).parent
    return shutil.which("py-spy", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
