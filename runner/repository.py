"""A folder -> the Source in it: its commit, its git tree with what is not committed, what changed."""

from __future__ import annotations

import os
import re
import stat
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner import git
from runner.errors import SourceError

UNCOMMITTED_LIMIT_BYTES = 1 << 30
"""More than this in files that are not committed is taken for data that git should ignore."""

DIFF_LIMIT_BYTES = 4 << 20

_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
_ATTEMPTS = 3
_FOLDER_PREFIX = "pushtrain-source-"


class Objects:
    """Where git finds a source's objects: the user's repository, and a folder of ours for the uncommitted.

    The folder is removed by `close`, when this object is collected, or at the interpreter's exit.
    """

    def __init__(self, env: Mapping[str, str], close: Callable[[], object]) -> None:
        self.env = dict(env)
        self._finalizer = weakref.finalize(self, close)

    def close(self) -> None:
        """Removes the temporary folder; safe to repeat."""
        self._finalizer()


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is in a folder now.

    `prefix` is the folder below `root`, the top of the work tree ("" at the top, else without a slash at its
    end). `tree` is the git tree of exactly the folder, with uncommitted changes and untracked files that are
    not ignored. `changed` are the paths, relative to the folder and sorted, that differ from the commit.
    `remote` has no credentials in it.
    """

    root: Path
    prefix: str
    commit: str | None
    branch: str | None
    tree: str
    dirty: bool
    remote: str | None
    changed: tuple[str, ...]
    objects: Objects = field(repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.root / self.prefix

    def close(self) -> None:
        """Gives up the uncommitted objects; `diff` and `pack` need them. Safe to repeat."""
        self.objects.close()


class Inspection:
    """Git processes that look at a folder; `finish` reads them."""

    def __init__(self, folder: Path, look: git.Look) -> None:
        self._folder = folder
        self._look = look

    def finish(self) -> Source:
        """Returns the source; blocks until git is done; raises SourceError. To be called once."""
        look = self._look
        answers = [each.finish() for each in (look.place, look.tracked, look.untracked, look.remote)]
        (missing, place, refusal), tracked, untracked, remote = answers
        if "not a git repository" in refusal:
            return _plain(self._folder)
        for status, _, said in (tracked, untracked):
            if status:
                raise git.failure(said, folder=self._folder, doing="status")
        layout = _layout(place, is_committed=not missing)
        state = _state(tracked[1])
        if layout.commit and layout.commit != state.commit:
            raise SourceError("the commit changed while it was being read", tip="run the command again")
        new = tuple(_text(name) for name in untracked[1].split(b"\0") if name)
        changed = tuple(sorted({*(_below(path, layout.prefix) for path in state.changed), *new}))
        return _source(layout, state, changed, _url(remote))


def begin(folder: Path, look: git.Look | None = None) -> Inspection:
    """Starts looking at `folder` and returns at once, so that the caller can do other work meanwhile.

    Who could not even wait for this module to be imported started a `git.Look` of the folder before.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder", tip="pushtrain run FOLDER")
    return Inspection(folder, look or git.Look(folder))


def inspect(folder: Path) -> Source:
    """Returns the source in `folder`, touching nothing in it; safe to repeat.

    A folder in no repository, or in one without commits, has no commit and is dirty. Raises SourceError where
    git refuses, files conflict, the folder is empty, or too much is uncommitted.
    """
    return begin(folder).finish()


def diff(source: Source, *, limit_bytes: int = DIFF_LIMIT_BYTES) -> bytes:
    """Returns the uncommitted changes as text for `git apply` at the root; empty for a clean source.

    Past `limit_bytes` whole files are left out, and a line at the top says so.
    """
    if not source.dirty:
        return b""
    where = f"{source.prefix}/" if source.prefix else ""
    options = ["-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv"]
    prefixes = [f"--src-prefix=a/{where}", f"--dst-prefix=b/{where}"]
    before = _committed_tree(source)
    text = git.run(
        source.folder, "diff-tree", *options, *prefixes, before, source.tree, env=source.objects.env
    )
    return text if len(text) <= limit_bytes else _shortened(text, limit_bytes)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    root: Path
    prefix: str
    commit: str | None
    tree: str | None


@dataclass(frozen=True, kw_only=True)
class _State:
    commit: str | None
    branch: str | None
    changed: tuple[str, ...]


def _layout(printed: bytes, *, is_committed: bool) -> _Layout:
    root, prefix, *ids = _text(printed).splitlines()
    commit, tree = ids if is_committed else (None, None)
    return _Layout(root=Path(root), prefix=prefix.rstrip("/"), commit=commit, tree=tree)


def _state(printed: bytes) -> _State:
    """Reads `git status --porcelain=v2 -z`, see its manual page for the columns."""
    commit = branch = None
    changed: list[str] = []
    for record in printed.split(b"\0"):
        line = _text(record)
        if line.startswith("# branch.oid "):
            commit = line.split(" ")[2]
        elif line.startswith("# branch.head "):
            branch = line.split(" ", 2)[2]
        elif line.startswith(("1 ", "u ")):
            changed.append(_changed_path(line))
    return _State(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        changed=tuple(changed),
    )


def _changed_path(line: str) -> str:
    kind, columns = line[0], 10 if line[0] == "u" else 8
    path = line.split(" ", columns)[columns]
    if kind == "u":
        raise SourceError(f"{path} has conflicts of a merge", tip="resolve them, then git add " + path)
    submodule = line.split(" ", 3)[2]
    if submodule.startswith("S") and submodule[2:] != "..":
        raise SourceError(
            f"the submodule {path} has changes of its own that are not committed", tip=f"git -C {path} commit"
        )
    return path


def _url(answer: tuple[int, bytes, str]) -> str | None:
    status, printed, _ = answer
    url = printed.decode(errors="replace").strip()
    return None if status or not url else _CREDENTIALS.sub("", url) if url.startswith("http") else url


def _source(layout: _Layout, state: _State, changed: tuple[str, ...], remote: str | None) -> Source:
    folder = layout.root / layout.prefix
    if changed:
        tree, objects = _snapshot(folder, layout.prefix, changed)
    elif layout.tree:
        tree, objects = layout.tree, Objects({}, _nothing)
    else:
        return _plain(folder)
    dirty = tree != layout.tree
    return Source(
        root=layout.root,
        prefix=layout.prefix,
        commit=state.commit,
        branch=state.branch,
        tree=tree,
        dirty=dirty,
        remote=remote,
        changed=changed if dirty else (),
        objects=objects,
    )


def _snapshot(folder: Path, prefix: str, changed: tuple[str, ...]) -> tuple[str, Objects]:
    """Writes the tree of the folder as it is, into objects and an index of our own."""
    _check_size(folder, changed)
    place, close = _temporary_folder()
    index, objects = _git_paths(folder)
    env = {
        "GIT_INDEX_FILE": str(place / "index"),
        "GIT_OBJECT_DIRECTORY": str(place / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": _alternates(objects),
    }
    (place / "objects").mkdir()
    kept = Objects(env, close)
    if index.exists():
        import shutil

        shutil.copy2(index, place / "index")  # With its time: git trusts no file as new as its index.
    _add(folder, env)
    options = [f"--prefix={prefix}/"] if prefix else []
    return _text(git.run(folder, "write-tree", *options, env=env)).strip(), kept


def _plain(folder: Path) -> Source:
    """Reads a folder in no repository, by a repository of our own beside it."""
    folder = folder.resolve()
    place, close = _temporary_folder()
    env = {"GIT_DIR": str(place / "git"), "GIT_WORK_TREE": str(folder)}
    kept = Objects(env, close)
    git.run(place, "init", "-q", "--template=", ".", env={"GIT_DIR": env["GIT_DIR"]})
    listed = git.run(folder, "ls-files", "-z", "--others", "--exclude-standard", env=env)
    changed = tuple(sorted(_text(name) for name in listed.split(b"\0") if name))
    if not changed:
        raise SourceError(f"{folder} holds no files that git would take", tip="see .gitignore")
    _check_size(folder, changed)
    _add(folder, env)
    return Source(
        root=folder,
        prefix="",
        commit=None,
        branch=None,
        tree=_text(git.run(folder, "write-tree", env=env)).strip(),
        dirty=True,
        remote=None,
        changed=changed,
        objects=kept,
    )


def _add(folder: Path, env: Mapping[str, str]) -> None:
    """A file that is deleted after it was seen makes git fail: at the next attempt it is not seen."""
    quiet = (
        "-c",
        "core.splitIndex=false",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "advice.addEmbeddedRepo=false",
    )
    for left in reversed(range(_ATTEMPTS)):
        try:
            git.run(folder, *quiet, "add", "-A", "--", ".", env=env)
            return
        except SourceError:
            if not left:
                raise


def _check_size(folder: Path, changed: tuple[str, ...]) -> None:
    sizes = sorted(((_size_bytes(folder / path), path) for path in changed), reverse=True)
    total_bytes = sum(size for size, _ in sizes)
    if total_bytes > UNCOMMITTED_LIMIT_BYTES:
        names = ", ".join(f"{path} ({size / 2**20:,.0f} MiB)" for size, path in sizes[:3])
        raise SourceError(
            f"{total_bytes / 2**30:.1f} GiB in {folder} is not committed, most of it in {names}",
            tip="name data in .gitignore and give it to the run as a data set",
        )


def _size_bytes(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:  # deleted, which is a change too
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _git_paths(folder: Path) -> tuple[Path, Path]:
    options = ("--path-format=absolute", "--git-path", "index", "--git-path", "objects")
    index, objects = _text(git.run(folder, "rev-parse", *options)).splitlines()
    return Path(index), Path(objects)


def _alternates(objects: Path) -> str:
    """Quotes a folder as git wants it in a list that is divided by colons."""
    text = str(objects)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _committed_tree(source: Source) -> str:
    if source.commit:
        name = f"{source.commit}:{source.prefix}"
        status, printed, _ = git.start(source.root, "rev-parse", "--verify", "--quiet", name).finish()
        if not status:
            return _text(printed).strip()
    # The empty tree: git knows it without any object.
    return _text(
        git.run(source.folder, "hash-object", "-t", "tree", "--stdin", env=source.objects.env)
    ).strip()


def _shortened(text: bytes, limit_bytes: int) -> bytes:
    """Keeps whole files, in their order, as long as they fit; git skips the line before the first of them."""
    first, *others = text.split(b"\ndiff --git ")
    files = [first, *(b"diff --git " + each for each in others)]
    kept: list[bytes] = []
    for each in files:
        if sum(map(len, kept)) + len(each) <= limit_bytes:
            kept.append(each.removesuffix(b"\n") + b"\n")
    left_out = len(files) - len(kept)
    note = f"# {left_out} of {len(files)} changed files left out: more than {limit_bytes:,} bytes\n"
    return note.encode() + b"".join(kept)


def _below(path: str, prefix: str) -> str:
    return path.removeprefix(f"{prefix}/") if prefix else path


def _text(printed: bytes) -> str:
    try:
        return printed.decode()
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{os.fsdecode(printed)!r}: a file name is not UTF-8", tip="rename the file"
        ) from error


def _nothing() -> None:
    """Closes objects that need no closing."""


def _temporary_folder() -> tuple[Path, Callable[[], object]]:
    """Makes a folder and what removes it; also removes those whose processes were killed.

    The lock in it is held as long as this process lives, also where process ids are not comparable.
    """
    import fcntl
    import shutil
    import tempfile

    for old in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        if _is_abandoned(old):
            shutil.rmtree(old, ignore_errors=True)
    place = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
    lock = os.open(place / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)

    def close() -> None:
        shutil.rmtree(place, ignore_errors=True)
        os.close(lock)

    return place, close


def _is_abandoned(place: Path) -> bool:
    import fcntl

    try:
        lock = os.open(place / "lock", os.O_RDWR)
    except OSError:  # being made just now, or somebody else's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)
