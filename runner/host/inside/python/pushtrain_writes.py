"""Files that this Python opens for writing under outputs and logs -> lines of JSON: `outputs/model.h5`, each once.

Python's own files are seen by an audit hook, those that C++ writes by the Python function before it: torch.save, h5py,
safetensors, tf.io.gfile, tf.train.Checkpoint and SavedModel. Summary writers are left out: the names of their files are
unique. Not seen: files of other programs, and of C++ without Python before it.
"""

from __future__ import annotations

import _thread
import os
import sys

import pushtrain_imports as imports

TYPE_CHECKING = False  # Importing `typing` takes longer than all of this.
if TYPE_CHECKING:
    from typing import Any

MOST = 20_000
"""Files that one process remembers; more are not told."""

_told: set[str] = set()
_elsewhere: set[str] = set()
_busy: set[int] = set()


def watch(path: str) -> None:
    """Append to the file `path` from now on, until the process ends."""
    roots = {}
    for name in ("outputs", "logs"):
        folder = os.environ.get("PUSHTRAIN_" + name.upper())
        if folder:
            roots[os.path.realpath(folder)] = name
    if roots:
        _watch_roots(path, roots)


def _watch_roots(path: str, roots: dict[str, str]) -> None:
    writing = os.O_WRONLY | os.O_RDWR

    def tell(file: Any) -> None:
        _tell(path, roots, file)

    def audit(event: str, args: Any) -> None:
        # Of every event of this Python, so what is not meant must leave here at once.
        if event == "open":
            if type(args[2]) is int and args[2] & writing:
                tell(args[0])
        elif event == "os.rename":
            tell(args[1])

    sys.addaudithook(audit)
    _watch_libraries(tell)


def _tell(path: str, roots: dict[str, str], file: Any) -> None:
    """Note the file, if it lies in one of the folders and was not noted before. Raises nothing."""
    me = _thread.get_ident()
    if me in _busy:
        return  # What it opens itself.
    _busy.add(me)
    try:
        _note(path, roots, file)
    except Exception:
        pass
    finally:
        _busy.discard(me)


def _note(path: str, roots: dict[str, str], file: Any) -> None:
    if isinstance(file, int):
        return
    name = os.fsdecode(file)
    absolute = os.path.isabs(name)
    if absolute and (name in _told or name in _elsewhere):
        return
    real = os.path.realpath(name)
    for root, kind in roots.items():
        if real.startswith(root + os.sep):
            if real not in _told and len(_told) < MOST:
                _append(path, kind + real[len(root) :])
                _told.add(real)
            return
    if absolute and len(_elsewhere) < MOST:
        _elsewhere.add(name)


def _append(path: str, name: str) -> None:
    import json

    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    file = os.open(path, flags, 0o666)
    try:
        os.write(file, json.dumps(name).encode() + b"\n")
    finally:
        os.close(file)


def _watch_libraries(tell: Any) -> None:
    def torch(module: Any) -> None:
        _before(module._open_zipfile_writer_file, "__init__", lambda given: tell(given(1, "name")))

    def h5py(module: Any) -> None:
        _before(
            module.File, "__init__", lambda given: given(2, "mode", "r") != "r" and tell(given(1, "name"))
        )

    def safetensors(module: Any) -> None:
        _before(module, "serialize_file", lambda given: tell(given(1, "filename")))

    def gfile(module: Any) -> None:
        def opened(given: Any) -> None:
            if "r" not in str(given(2, "mode")):
                tell(given(1, "name"))

        _before(module.FileIO, "__init__", opened)
        _before(module, "rename_v2", lambda given: tell(given(1, "dst")))
        _before(module, "copy_v2", lambda given: tell(given(1, "dst")))

    def checkpoint(module: Any) -> None:
        _before(
            module.TrackableSaver, "save", lambda given: tell(os.fspath(given(1, "file_prefix")) + ".index")
        )

    imports.when("torch.serialization", torch)
    imports.when("h5py._hl.files", h5py)
    imports.when("safetensors", safetensors)
    imports.when("tensorflow.python.lib.io.file_io", gfile)
    imports.when("tensorflow.python.checkpoint.checkpoint", checkpoint)


def _before(owner: Any, name: str, act: Any) -> None:
    """Have `owner.name` call `act` first, with what gives an argument by number and name; it may fail in silence."""
    import functools

    function = getattr(owner, name)

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            act(lambda number, name, *other: args[number] if len(args) > number else kwargs.get(name, *other))
        except Exception:
            pass
        return function(*args, **kwargs)

    setattr(owner, name, watched)
