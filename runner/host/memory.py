"""The kernel's own counters -> how many processes it ended for want of memory."""

from __future__ import annotations

from pathlib import Path

_MACHINE = Path("/proc/vmstat")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


class MemoryWatch:
    """Counts from the moment it is made.

    `vmstat` and `group_files` (memory.events, memory.oom_control) are the files that are read; those that cannot be
    read count nothing.
    """

    def __init__(self, vmstat: Path = _MACHINE, group_files: tuple[Path, ...] | None = None) -> None:
        self._files = (vmstat, *(own_group_files() if group_files is None else group_files))
        self._before = self._looked = self._looked_before = self._counts()

    def kills(self) -> int:
        """How many processes the kernel ended for memory since: on the machine, or in this process's own group.

        The machine's counter has those of every group and container. In a container it may be hidden, the group's not.
        """
        return self._since(self._before)

    def look(self) -> None:
        """Remember the counters for `kills_since_look`; a host that looks about once a second knows what was lately."""
        self._looked_before, self._looked = self._looked, self._counts()

    def kills_since_look(self) -> int:
        """The same as `kills`, since the look before the last: one may come between a kill and the news of it."""
        return self._since(self._looked_before)

    def _since(self, before: tuple[int, ...]) -> int:
        return max(now - then for now, then in zip(self._counts(), before, strict=True))

    def _counts(self) -> tuple[int, ...]:
        return tuple(_oom_kills(path) for path in self._files)


def own_group_files(table: Path = _OWN_GROUP, root: Path = _GROUPS) -> tuple[Path, ...]:
    """The files in which this process's own memory group counts, under either version of cgroups; none where none."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        number, controllers, folder = line.split(":", 2)
        if number == "0":
            found += [mount / folder.lstrip("/") / "memory.events" for mount in (root, root / "unified")]
        elif "memory" in controllers.split(","):
            found.append(root / "memory" / folder.lstrip("/") / "memory.oom_control")
    return tuple(path for path in found if path.is_file())


def _oom_kills(path: Path) -> int:
    """The value of `oom_kill` in a file of `name value` lines; 0 where it cannot be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(value) for name, value in (_pair(line) for line in lines) if name == "oom_kill"), 0)


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(" ")
    return name, value
