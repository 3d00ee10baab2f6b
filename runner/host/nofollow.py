"""Names that a training may have replaced by links -> folders and files that are opened as such, or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def folder(path: str, *, below: Path | int) -> Iterator[int]:
    """A descriptor of the folder at `path` below a folder that is trusted; each step must be a folder and no link.

    Raises OSError.
    """
    here = os.open(below, _FOLDER) if not isinstance(below, int) else os.dup(below)
    try:
        for part in PurePath(path).parts:
            there = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = there
        yield here
    finally:
        os.close(here)


def regular(name: str, *, within: int | None = None) -> int:
    """A descriptor to read the file of that name in a folder. Raises OSError where it is no regular file."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=within)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{name} is no file")
    return file


def write_anew(name: str, content: bytes, *, within: int) -> None:
    """Put a new file into a folder, in place of what has the name. Raises OSError, as where that is a folder."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)  # a Path knows no folder descriptors
    made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=within)
    with os.fdopen(made, "wb") as file:
        file.write(content)
