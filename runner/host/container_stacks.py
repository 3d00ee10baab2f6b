"""A container -> what each Python in it is doing now, by py-spy in a container beside it.

A training may not trace, not even itself; so a container that shares its process ids, may trace, and has no network,
is made for the moment.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import EngineError
from runner.host.docker_host import attach, remove, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from docker.models.containers import Container

PY_SPY = "/py-spy"
WITHIN_S = 30
NO_PYTHON = "no Python to be seen in it\n"
_SEPARATOR = "\x1e"

# Arguments are session ids, 0 for all: a rank's first process is often a shell, its training the child of it.
_DUMP = f"""
for session; do
  printf '\\036%s\\n' "$session"
  for entry in /proc/[0-9]*; do
    read -r line <"$entry/stat" || continue
    fields=${{line##*) }}
    set -- $fields
    [ "$session" = 0 ] || [ "$4" = "$session" ] || continue
    {PY_SPY} dump --pid "${{entry#/proc/}}" && echo
  done
done 2>/dev/null
"""


def dump(container: Container, sessions: Sequence[int], *, settings: Mapping[str, Any]) -> dict[int, str]:
    """For each session of the container's processes (0: all) the stacks of its threads, or why there are none.

    `settings` are those of any container of the run. It pauses what it looks at for some milliseconds. Blocks for half
    a second or so, at most `WITHIN_S`.
    """
    try:
        text = _run(container, sessions, settings=settings)
    except EngineError as error:
        return dict.fromkeys(sessions, f"{error}\n")
    parts = (part.partition("\n") for part in text.split(_SEPARATOR)[1:])
    return {int(session): stacks or NO_PYTHON for session, _, stacks in parts}


def _run(container: Container, sessions: Sequence[int], *, settings: Mapping[str, Any]) -> str:
    assert container.client is not None
    with translated("its stacks cannot be read"):
        beside = container.client.containers.create(
            **{
                **settings,
                "user": "0:0",
                "cap_add": ["SYS_PTRACE"],
                "pid_mode": f"container:{container.id}",
                "network_mode": "none",
                "entrypoint": ["/bin/sh", "-c", _DUMP, "pushtrain", *map(str, sessions)],
                "volumes": [f"{_py_spy()}:{PY_SPY}:ro"],
            }
        )
        try:
            with contextlib.closing(attach(beside)) as output:
                beside.start()
                with _ended_after(beside, WITHIN_S):
                    return b"".join(data for _, data in output.frames()).decode(errors="replace")
        finally:
            remove(beside)


@contextlib.contextmanager
def _ended_after(container: Container, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, remove, [container])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _py_spy() -> Path:
    """The py-spy that was installed with us: one file that needs nothing of the image. Raises EngineError."""
    beside = Path(sys.executable).with_name("py-spy")
    found = beside if beside.exists() else shutil.which("py-spy")
    if not found:
        raise EngineError("py-spy is not installed beside Pushtrain", tip="pip install py-spy")
    return Path(found).resolve()
