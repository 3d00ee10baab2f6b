"""The weights of one model after one step -> a line of JSON: a sketch from which ranks are compared.

A sketch is linear: weight i of a tensor is added to number i modulo 64. The distance of two sketches is therefore about
that of the weights themselves, whichever of them differ, and one pass over the weights makes it (Charikar, Chen and
Farach-Colton 2002, count sketch, without the random signs: nobody chooses weights so that they cancel out).
"""

from __future__ import annotations

import atexit
import json
import os

TYPE_CHECKING = False  # As everywhere in this folder: `typing` is imported by type checkers alone.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

BUCKETS = 64
LARGEST = 1 << 25
"""Weights of one tensor that are looked at, so that no copy takes memory that the training needs."""

_names: dict[str, int] = {}
_pid = os.getpid()


class Watched:
    """The weights that one function or optimizer trains, and how often they were updated.

    `what` is the framework, the name of what trains them, and how many weights there are. `sketch` gives the 64 numbers
    and the sum of the squares of weights that are still there, or None.
    """

    def __init__(self, what: tuple[str, str, int], path: str, sketch: Callable[[], Any]) -> None:
        self.step = 0
        self._path, self._sketch = path, sketch
        self._framework, kind, self._size = what
        self._told = 0
        self._silent = False
        # Models are numbered among those of one kind and size, so that what one rank has in addition confuses nothing.
        label = f"{self._size} weights trained by {kind}"
        _names[label] = _names.get(label, 0) + 1
        self._model = label if _names[label] == 1 else f"{label} ({_names[label]})"
        atexit.register(self.tell)

    def __reduce__(self) -> Any:
        """Nothing is left of it where an optimizer is copied or pickled with all of its attributes."""
        return type(None), ()

    def updated(self) -> None:
        """Count one update; tell at the powers of two."""
        self.step += 1
        if not self.step & (self.step - 1):
            self.tell()

    def tell(self) -> None:
        """Append the sketch of this moment, if it is not told yet. The first failure is the last."""
        if self._silent or self._told == self.step or os.getpid() != _pid:
            return
        try:
            self._tell()
        except Exception:
            self._silent = True

    def _tell(self) -> None:
        found = self._sketch()
        self._told = self.step
        if found is None:
            return
        sketch, squares = found
        line = {
            "attempt": int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0),
            "pid": _pid,
            # torchrun's own count, since an elastic gang may have fewer ranks than it was planned for.
            "world_size": int(os.environ.get("WORLD_SIZE") or os.environ["PUSHTRAIN_WORLD_SIZE"]),
            "framework": self._framework,
            "model": self._model,
            "size": self._size,
            "step": self.step,
            "squares": squares,
            "sketch": sketch,
        }
        _append(self._path, json.dumps(line))


def _append(path: str, line: str) -> None:
    """Add one line, in one write, so that processes of one rank may share the file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        os.write(file, line.encode() + b"\n")
    finally:
        os.close(file)
