"""A folder -> the regular files in it, with what tells whether they changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

SHOWN_CHARACTERS = 200
"""Of a path that is too long for the file system."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """What differs as soon as a file was written to or replaced."""

    size_bytes: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A file as it was seen: its name below the folder, divided by slashes, and where it is."""

    name: str
    path: str
    stamp: Stamp
    executable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """The files of a folder, unsorted, and what was left out: name -> why."""

    files: tuple[Found, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)


def scan(folder: str | os.PathLike[str], *, within: str | os.PathLike[str] | None = None) -> Scanned:
    """Returns the files below a folder; one that does not exist is empty. Never raises for what vanishes.

    Links within the folder are followed; links out of it, sockets, pipes and devices are skipped, and so is the
    folder itself where it has become a link out of `within`.
    """
    if within is not None and not is_within(folder, within):
        return Scanned(skipped={"": "it is a link out of the working folder"})
    top = os.path.realpath(folder)
    skipped: dict[str, str] = {}
    if os.path.lexists(top) and not os.path.isdir(top):  # noqa: PTH112
        return Scanned(skipped={"": "it is no folder"})
    files = tuple(_below(top, "", _Place(top=top, chain=(top,)), skipped))
    return Scanned(files=files, skipped=skipped)


def is_within(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether `path`, all links followed, is `folder` or lies below it; not where a link cannot be followed."""
    real = os.path.realpath(folder)
    try:
        return os.path.commonpath((os.path.realpath(path), real)) == real
    except OSError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where the scan is: `chain` are the real folders it came through, so that links in circles end."""

    top: str
    chain: tuple[str, ...]


def _below(folder: str, where: str, place: _Place, skipped: dict[str, str]) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        skipped[where.rstrip("/")] = "it may not be read"
        return
    except OSError as error:  # such as a path that is too long
        skipped[where.rstrip("/")[:SHOWN_CHARACTERS]] = error.strerror or str(error)
        return
    for entry in listed:
        name = where + entry.name
        if entry.is_symlink():
            yield from _linked(entry, name, place, skipped)
        elif entry.is_dir(follow_symlinks=False):
            inner = _Place(top=place.top, chain=(*place.chain, entry.path))
            yield from _below(entry.path, f"{name}/", inner, skipped)
        else:
            yield from _file(entry, name, skipped)


def _linked(entry: os.DirEntry[str], name: str, place: _Place, skipped: dict[str, str]) -> Iterator[Found]:
    try:
        real = os.path.realpath(entry.path)
    except OSError as error:
        skipped[name] = error.strerror or str(error)
        return
    if not is_within(real, place.top):
        skipped[name] = "it is a link out of its folder"
    elif real in place.chain:
        skipped[name] = "it is a link to a folder that it lies in"
    elif entry.is_dir():
        inner = _Place(top=place.top, chain=(*place.chain, real))
        yield from _below(real, f"{name}/", inner, skipped)
    else:
        yield from _file(entry, name, skipped)


def _file(entry: os.DirEntry[str], name: str, skipped: dict[str, str]) -> Iterator[Found]:
    try:
        seen = entry.stat()
    except (FileNotFoundError, NotADirectoryError):  # deleted since it was listed, or a link to nothing yet
        return
    except OSError as error:
        skipped[name] = error.strerror or str(error)
        return
    if not stat.S_ISREG(seen.st_mode):
        skipped[name] = "it is no regular file"
        return
    if not os.access(entry.path, os.R_OK):
        skipped[name] = "it may not be read"
        return
    stamp = Stamp(size_bytes=seen.st_size, mtime_ns=seen.st_mtime_ns, inode=seen.st_ino)
    yield Found(name=name, path=entry.path, stamp=stamp, executable=bool(seen.st_mode & 0o100))
