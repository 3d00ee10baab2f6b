"""A Source -> a tar of its tree, or of what differs from an earlier one, the same byte for byte -> a folder."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

from runner import git
from runner.errors import SourceError, StoreError
from runner.repository import Source

_LFS = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_LIMIT_BYTES = 1024
_SMALL_BYTES = 1 << 20
_LINK_STEPS = 1000
_LINK = "120000"

HEADER_BYTES = 512
"""What a tar needs for a file besides its content."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an archive holds."""

    files: int
    size_bytes: int

    @property
    def weight_bytes(self) -> int:
        """What it costs to move: the contents and a header for each file."""
        return self.size_bytes + HEADER_BYTES * self.files


@dataclass(frozen=True, kw_only=True)
class _Entry:
    mode: str
    object_id: str
    path: str


@dataclass(frozen=True, kw_only=True)
class _Repository:
    """One work tree of the source: its top, or a submodule below it at `where`."""

    folder: Path
    where: str
    env: Mapping[str, str]
    entries: tuple[_Entry, ...]

    def listed(self) -> Iterator[tuple[str, str]]:
        return ((self.where + entry.path, f"{entry.mode} {entry.object_id}") for entry in self.entries)

    def without(self, known: Mapping[str, str]) -> _Repository:
        """Leaves out what is known already, but for links: where one leads depends on the others."""
        left = zip(self.entries, self.listed(), strict=True)
        entries = (entry for entry, (path, kept) in left if entry.mode == _LINK or known.get(path) != kept)
        return replace(self, entries=tuple(entries))


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The entries of a source's git tree and of its submodules' trees."""

    repositories: tuple[_Repository, ...]

    @property
    def files(self) -> dict[str, str]:
        """Path -> mode and object id, which say all about a file: equal ones have equal contents."""
        return {path: kept for repository in self.repositories for path, kept in repository.listed()}


def read(source: Source) -> Tree:
    """Returns what is to be archived: everything that git has in the tree, whatever `export-ignore` says.

    Submodules are taken at their commits; raises SourceError where one of these is not on this machine.
    """
    return Tree(repositories=tuple(_repositories(source)))


def write(tree: Tree, file: BinaryIO) -> Contents:
    """Writes the tree as an uncompressed tar and returns what it holds.

    Files of git-lfs are written with their contents instead of their pointers. Raises SourceError where these
    are not on this machine, and for symbolic links out of the folder.
    """
    archive = _Archive(file)
    for repository in tree.repositories:
        archive.add(repository)
    return archive.finish()


def write_changes(
    tree: Tree, file: BinaryIO, *, known: Mapping[str, str], limit_bytes: int
) -> Contents | None:
    """Writes only what is not `known`, the `files` of another tree, as `write` does; symbolic links always.

    Returns None, and stops, where that weighs more than `limit_bytes`. Raises SourceError.
    """
    archive = _Archive(file, limit_bytes)
    for repository in tree.repositories:
        archive.add(repository.without(known))
        if archive.is_full:
            return None
    return archive.finish()


def extract(
    path: Path, folder: Path, *, unchanged: Path | None = None, removed: Collection[str] = ()
) -> None:
    """Brings an archive's files, made read-only, to the new `folder`; `path` may be compressed.

    Of what `write_changes` wrote, the other tree's files are taken from the folder `unchanged`, but for those
    `removed`: they are linked, not read. Raises StoreError where the archive names anything outside of the
    folder, OSError and TarError.
    """
    links: dict[str, str] = {}
    with tarfile.open(path) as tar:
        names = {_extract(tar, member, folder, links) for member in tar}
    if unchanged:
        _link_files(unchanged, folder, left_out=names.union(removed))
    _make_links(folder, links)


class _Archive:
    def __init__(self, file: BinaryIO, limit_bytes: int | None = None) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self._limit_bytes = limit_bytes
        self._links: dict[str, str] = {}
        self._absent: list[str] = []
        self._files = 0
        self._size_bytes = 0

    @property
    def is_full(self) -> bool:
        return self._limit_bytes is not None and self._contents.weight_bytes > self._limit_bytes

    @property
    def _contents(self) -> Contents:
        return Contents(files=self._files, size_bytes=self._size_bytes)

    def add(self, repository: _Repository) -> None:
        if not repository.entries:
            return
        with _contents(repository) as stream:
            for entry in repository.entries:
                size_bytes = _size_bytes(stream, entry)
                self._add(repository, entry, size_bytes, stream)
                stream.read(1)
                if self.is_full:
                    return

    def finish(self) -> Contents:
        self._tar.close()
        if self._absent:
            raise SourceError(f"git-lfs files are not here: {_some(self._absent)}", tip="git lfs pull")
        leaving = [path for path in self._links if _leaves(path, self._links)]
        if leaving:
            raise SourceError(
                f"symbolic links lead out of the source folder: {_some(leaving)}",
                tip="name data under datasets: in train.yml, or copy the files into the folder",
            )
        return self._contents

    def _add(self, repository: _Repository, entry: _Entry, size_bytes: int, stream: IO[bytes]) -> None:
        info = _header(repository.where + entry.path, entry.mode)
        info.size = size_bytes
        self._files += 1
        if size_bytes > _SMALL_BYTES and not info.issym():
            self._put(info, stream)
            return
        data = stream.read(size_bytes)
        if info.issym():
            self._add_link(info, data)
        elif size_bytes <= _POINTER_LIMIT_BYTES and data.startswith(_LFS):
            self._add_large(repository, entry, info, data)
        else:
            self._put(info, io.BytesIO(data))

    def _put(self, info: tarfile.TarInfo, stream: IO[bytes]) -> None:
        self._size_bytes += info.size
        self._tar.addfile(info, stream)

    def _add_link(self, info: tarfile.TarInfo, target: bytes) -> None:
        info.size = 0
        info.linkname = self._links[info.name] = _text(target)
        self._tar.addfile(info)

    def _add_large(
        self, repository: _Repository, entry: _Entry, info: tarfile.TarInfo, pointer: bytes
    ) -> None:
        path = _large_file(repository, entry, pointer)
        if path is None:
            self._absent.append(info.name)
            return
        with path.open("rb") as file:
            info.size = path.stat().st_size
            self._put(info, file)


def _repositories(source: Source) -> Iterator[_Repository]:
    waiting = [(source.folder, "", source.objects.env, source.tree)]
    while waiting:
        folder, where, env, tree = waiting.pop()
        listed = git.run(folder, "ls-tree", "-r", "-z", "--full-tree", tree, env=env)
        entries = [_entry(record) for record in listed.split(b"\0") if record]
        yield _Repository(
            folder=folder,
            where=where,
            env=env,
            entries=tuple(entry for entry in entries if entry.mode != "160000"),
        )
        modules = [entry for entry in entries if entry.mode == "160000"]
        for entry in reversed(modules):
            path = folder / entry.path
            _check_submodule(path, where + entry.path, entry.object_id)
            waiting.append((path, f"{where}{entry.path}/", {}, entry.object_id))


def _entry(record: bytes) -> _Entry:
    columns, path = _text(record).split("\t", 1)
    mode, _, object_id = columns.split(" ")
    return _Entry(mode=mode, object_id=object_id, path=path)


def _check_submodule(folder: Path, name: str, commit: str) -> None:
    tip = "git submodule update --init --recursive"
    if not (folder / ".git").exists():
        raise SourceError(f"the submodule {name} is not checked out", tip=tip)
    if git.start(folder, "cat-file", "-e", f"{commit}^{{tree}}").finish()[0]:
        raise SourceError(f"the submodule {name} does not have its commit {commit}", tip=tip)
    if git.run(folder, "status", "--porcelain"):
        raise SourceError(
            f"the submodule {name} has changes of its own that are not committed", tip=f"git -C {name} status"
        )


@contextmanager
def _contents(repository: _Repository) -> Iterator[IO[bytes]]:
    """Gives what `git cat-file --batch` prints; the wish list is a file, so that neither side waits."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as wanted:
        wanted.writelines(f"{entry.object_id}\n".encode() for entry in repository.entries)
        wanted.seek(0)
        argv = ["git", "-C", str(repository.folder), "cat-file", "--batch", "--buffer"]
        env = git.environ(repository.env)
        with subprocess.Popen(argv, stdin=wanted, stdout=subprocess.PIPE, env=env) as process:
            try:
                yield process.stdout or io.BytesIO()
            finally:
                process.kill()


def _size_bytes(stream: IO[bytes], entry: _Entry) -> int:
    answer = stream.readline().decode().split()
    if len(answer) != 3 or not answer[2].isdigit():
        raise SourceError(
            f"git does not have the content of {entry.path} ({entry.object_id})",
            tip="git fsck, or clone again",
        )
    return int(answer[2])


def _header(path: str, mode: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mode = 0o755 if mode == "100755" else 0o644
    if mode == _LINK:
        info.type = tarfile.SYMTYPE
    return info


def _large_file(repository: _Repository, entry: _Entry, pointer: bytes) -> Path | None:
    """Returns where the content is that a git-lfs pointer names: checked out, or in git-lfs's own folder.

    The format is https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
    """
    named = dict(line.split(" ", 1) for line in pointer.decode(errors="replace").splitlines() if " " in line)
    digest = named.get("oid", "").removeprefix("sha256:")
    kept = _text(git.run(repository.folder, "rev-parse", "--git-common-dir", env=repository.env)).strip()
    own = repository.folder / kept / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    for path in (repository.folder / entry.path, own):
        if path.is_file() and str(path.stat().st_size) == named.get("size") and _sha256(path) == digest:
            return path
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _leaves(path: str, links: Mapping[str, str]) -> bool:
    """Says whether a link leads out of the folder, through other links of the tree where there are some."""
    at = path.split("/")[:-1]
    ahead = _parts(links[path])
    for _ in range(_LINK_STEPS):
        if not ahead:
            return False
        part = ahead.pop()
        if part == "/" or (part == ".." and not at):
            return True
        if part == "..":
            at.pop()
        elif (target := links.get("/".join([*at, part]))) is not None:
            ahead.extend(_parts(target))
        else:
            at.append(part)
    return False  # it leads in circles


def _parts(target: str) -> list[str]:
    """Returns the steps of a link, the last one first."""
    steps = [part for part in target.split("/") if part not in {"", "."}]
    return ["/", *steps][::-1] if target.startswith("/") else steps[::-1]


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, links: dict[str, str]) -> str:
    """Writes a file, or notes a link: these are made last, so that nothing is ever written through one."""
    name = _inside(member.name)
    if member.issym():
        links[name] = member.linkname
        return name
    content = tar.extractfile(member)
    if content is None:
        raise StoreError(f"{name} in a source archive is neither a file nor a link")
    with _opened(f"{folder}/{name}") as file:
        shutil.copyfileobj(content, file, _SMALL_BYTES)
        os.fchmod(file.fileno(), 0o555 if member.mode & 0o100 else 0o444)
    return name


def _inside(name: str) -> str:
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise StoreError(f"a source archive names {name!r}, outside of its folder")
    return name


def _opened(path: str) -> BinaryIO:
    """Opens a new file; its folder is most often there already."""
    with suppress(FileNotFoundError):
        return Path(path).open("xb")
    Path(path).parent.mkdir(parents=True)
    return Path(path).open("xb")


def _link_files(old: Path, new: Path, *, left_out: Collection[str]) -> None:
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(f"{old}/{below}") as found:
            entries = list(found)
        waiting += [f"{below}{entry.name}/" for entry in entries if entry.is_dir(follow_symlinks=False)]
        names = (f"{below}{entry.name}" for entry in entries if entry.is_file(follow_symlinks=False))
        kept = [name for name in names if name not in left_out]
        if kept:  # git knows no empty folders
            (new / below).mkdir(parents=True, exist_ok=True)
        for name in kept:
            _link_file(f"{old}/{name}", f"{new}/{name}")


def _link_file(old: str, new: str) -> None:
    try:
        os.link(old, new)
    except OSError:  # the file system's limit of links, or one that has none
        shutil.copy(old, new)


def _make_links(folder: Path, links: Mapping[str, str]) -> None:
    if leaving := [name for name in links if _leaves(name, links)]:
        raise StoreError(f"symbolic links of a source archive lead out of its folder: {_some(leaving)}")
    # What would lie below another link is made before that one, which is refused then.
    for name in sorted(links, reverse=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(links[name])


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _text(printed: bytes) -> str:
    try:
        return printed.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{printed!r}: a file name is not UTF-8", tip="rename the file") from error
