"""Bare git repositories on disk -> what GitHub's API tells of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NOTHING = "0" * 40
_CONFIG = {
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
    "http.receivepack": "true",
    "gc.auto": "0",
    "core.logAllRefUpdates": "false",
}
Files = Mapping[str, str | bytes | None]


class GitFailed(Exception):
    """git said no; the message is what it wrote."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who, and when in unix seconds."""

    name: str
    email: str
    at_s: float


@dataclass(frozen=True, kw_only=True)
class Commit:
    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Identity
    committer: Identity
    message: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, folder, symbolic link or submodule in a tree."""

    mode: str
    kind: str
    sha: str
    size_bytes: int
    path: str


@dataclass(frozen=True, kw_only=True)
class Ref:
    name: str
    kind: str
    sha: str


@dataclass(frozen=True, kw_only=True)
class Change:
    path: str
    status: str
    sha: str | None
    additions: int
    deletions: int
    previous: str | None


def run(
    folder: Path, *args: str, content: bytes | None = None, env: Mapping[str, str] | None = None
) -> bytes:
    """What `git args` printed in the bare repository `folder`."""
    done = subprocess.run(
        ["git", *args],
        cwd=folder,
        input=content,
        stdin=subprocess.DEVNULL if content is None else None,
        capture_output=True,
        env=_environment(folder) | dict(env or {}),
    )
    if done.returncode:
        raise GitFailed(done.stderr.decode(errors="replace").strip() or f"git {args[0]}: {done.returncode}")
    return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "GIT_DIR": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
    }


def text(folder: Path, *args: str) -> str:
    return run(folder, *args).decode(errors="replace").strip()


def create(folder: Path, *, branch: str) -> None:
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", f"--initial-branch={branch}", folder], check=True)
    _configure(folder)


def fork(parent: Path, folder: Path, *, branch: str) -> None:
    """A repository with the same branches, and with the same objects: forks on GitHub share them."""
    create(folder, branch=branch)
    for name in ("pack", "info"):
        (folder / "objects" / name).rmdir()
    (folder / "objects").rmdir()
    (folder / "objects").symlink_to((parent / "objects").resolve())
    lines = [f"create {ref.name} {ref.sha}\n" for ref in refs(parent, "refs/heads/")]
    run(folder, "update-ref", "--stdin", content="".join(lines).encode())


def _configure(folder: Path) -> None:
    lines = []
    for name, value in _CONFIG.items():
        section, _, key = name.partition(".")
        lines.append(f"[{section}]\n\t{key} = {value}\n")
    with (folder / "config").open("a") as config:
        config.writelines(lines)


def files_of(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Every file of a folder with its git mode, but git's own."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] == ".git":
            continue
        if path.is_symlink():
            found[name] = ("120000", str(path.readlink()).encode())
        elif path.is_file():
            found[name] = ("100755" if os.access(path, os.X_OK) else "100644", path.read_bytes())
    return found


def modes_of(files: Files) -> dict[str, tuple[str, bytes] | None]:
    made: dict[str, tuple[str, bytes] | None] = {}
    for name, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        made[name] = None if raw is None else ("100644", raw)
    return made


def commit(
    folder: Path,
    files: Mapping[str, tuple[str, bytes] | None],
    message: str,
    *,
    parent: str | None,
    by: Identity,
) -> str:
    """Makes a commit (no ref moves) of `parent` with these files put or, where None, taken away; its id."""
    who = f"{by.name} <{by.email}> {int(by.at_s)} +0000"
    scratch = "refs/stand-in/scratch"
    stream: list[bytes] = [f"commit {scratch}\nmark :1\nauthor {who}\ncommitter {who}\n".encode()]
    stream.append(_block(message.encode()))
    if parent:
        stream.append(f"from {parent}\n".encode())
    for name, entry in files.items():
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        if entry is None:
            stream.append(f"D {quoted}\n".encode())
        else:
            stream += [f"M {entry[0]} inline {quoted}\n".encode(), _block(entry[1])]
    stream.append(f"get-mark :1\nreset {scratch}\nfrom {NOTHING}\n\n".encode())
    made = run(folder, "fast-import", "--quiet", "--force", content=b"".join(stream))
    return made.decode().strip()


def _block(content: bytes) -> bytes:
    return b"data %d\n" % len(content) + content + b"\n"


def merge(folder: Path, base: str, head: str, message: str, *, by: Identity) -> str:
    """Makes a merge commit (no ref moves); raises GitFailed on a conflict."""
    tree = text(folder, "merge-tree", "--write-tree", base, head).splitlines()[0]
    env = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", by.name), ("EMAIL", by.email), ("DATE", f"{int(by.at_s)} +0000"))
    }
    args = ("commit-tree", tree, "-p", base, "-p", head, "-m", message)
    return run(folder, *args, env=env).decode().strip()


def make_tag(folder: Path, *, name: str, sha: str, kind: str, message: str, by: Identity) -> str:
    """Makes an annotated tag's object (no ref); its id. Raises GitFailed for an object that is not there."""
    who = f"{by.name} <{by.email}> {int(by.at_s)} +0000"
    content = f"object {sha}\ntype {kind}\ntag {name}\ntagger {who}\n\n{message.rstrip()}\n"
    return run(folder, "mktag", content=content.encode()).decode().strip()


def set_ref(folder: Path, name: str, sha: str) -> None:
    run(folder, "update-ref", name, sha)


def delete_ref(folder: Path, name: str) -> None:
    run(folder, "update-ref", "-d", name)


def refs(folder: Path, *prefixes: str) -> list[Ref]:
    """The refs whose names begin with one of these, folders or not, by name."""
    listed = text(folder, "for-each-ref", "--format=%(refname) %(objecttype) %(objectname)")
    found = []
    for line in listed.splitlines():
        name, kind, sha = line.split(" ")
        if not prefixes or name.startswith(prefixes):
            found.append(Ref(name=name, kind=kind, sha=sha))
    return found


def ref(folder: Path, name: str) -> Ref | None:
    return next((found for found in refs(folder, name) if found.name == name), None)


def resolve(folder: Path, name: str) -> str | None:
    """The commit that a branch, a tag or an id means, as GitHub reads it; None if it means none."""
    if name == NOTHING or name.startswith("-"):
        return None
    for candidate in (f"refs/heads/{name}", f"refs/tags/{name}", f"refs/{name}", name):
        try:
            return text(
                folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{candidate}^{{commit}}"
            )
        except GitFailed:
            continue
    return None


def kind_of(folder: Path, sha: str) -> str | None:
    try:
        return text(folder, "cat-file", "-t", sha)
    except GitFailed:
        return None


_FORMAT = "%H%x00%T%x00%P%x00%an%x00%ae%x00%at%x00%cn%x00%ce%x00%ct%x00%B%x01"


def commits(folder: Path, *args: str) -> list[Commit]:
    """The commits that `git log args` tells, newest first unless told otherwise."""
    listed = text(folder, "log", f"--format={_FORMAT}", *args)
    return [_commit(record.lstrip("\n")) for record in listed.split("\x01") if record.strip()]


def commit_of(folder: Path, sha: str) -> Commit:
    return commits(folder, "-1", sha)[0]


def _commit(record: str) -> Commit:
    sha, tree, parents, name, email, at, c_name, c_email, c_at, message = record.split("\x00")
    return Commit(
        sha=sha,
        tree=tree,
        parents=tuple(parents.split()),
        author=Identity(name=name, email=email, at_s=float(at)),
        committer=Identity(name=c_name, email=c_email, at_s=float(c_at)),
        message=message.rstrip("\n"),
    )


def entries(folder: Path, commit: str, path: str) -> list[Entry] | None:
    """What lies in a folder of a commit; the one entry of a file; None where there is nothing."""
    if path:
        own = _entries(folder, commit, path)
        if not own or own[0].kind != "tree":
            return own or None
        path += "/"
    return _entries(folder, commit, path)


def entry(folder: Path, commit: str, path: str) -> Entry | None:
    found = _entries(folder, commit, path)
    return found[0] if found else None


def _entries(folder: Path, commit: str, path: str) -> list[Entry]:
    args = [path] if path else []
    listed = run(
        folder, "--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", *args
    ).decode()
    found = []
    for line in filter(None, listed.split("\0")):
        facts, _, name = line.partition("\t")
        mode, kind, sha, size = facts.split()
        found.append(
            Entry(mode=mode, kind=kind, sha=sha, size_bytes=0 if size == "-" else int(size), path=name)
        )
    return found


def blob(folder: Path, sha: str) -> bytes:
    return run(folder, "cat-file", "blob", sha)


def merge_base(folder: Path, one: str, other: str) -> str | None:
    try:
        return text(folder, "merge-base", one, other)
    except GitFailed:
        return None


def is_ancestor(folder: Path, one: str, of: str) -> bool:
    return merge_base(folder, one, of) == one


_STATUS = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}


def changes(folder: Path, before: str, after: str) -> list[Change]:
    """The files that differ between two commits."""
    raw = _fields(folder, "diff-tree", "-r", "-z", "-M", "--raw", "--no-abbrev", before, after)
    numbers = _numbers(folder, before, after)
    found = []
    for head in raw:
        _, _, _, sha, letter = head.split(" ")
        previous = next(raw) if letter[0] in "RC" else None
        path = next(raw)
        added, deleted = numbers.get(path, (0, 0))
        found.append(
            Change(
                path=path,
                status=_STATUS[letter[0]],
                sha=None if sha == NOTHING else sha,
                additions=added,
                deletions=deleted,
                previous=previous,
            )
        )
    return found


def _fields(folder: Path, *args: str) -> Iterator[str]:
    printed = run(folder, *args).decode(errors="replace").rstrip("\0")
    return iter(printed.split("\0") if printed else [])


def _numbers(folder: Path, before: str, after: str) -> dict[str, tuple[int, int]]:
    found = {}
    fields = (
        field for field in _fields(folder, "diff-tree", "-r", "-z", "-M", "--numstat", before, after) if field
    )
    for head in fields:
        added, deleted, path = head.split("\t")
        if not path:
            next(fields)
            path = next(fields)
        found[path] = (0 if added == "-" else int(added), 0 if deleted == "-" else int(deleted))
    return found


def snapshot(folder: Path) -> dict[str, str]:
    """Every branch and tag and what it stands for."""
    return {ref.name: ref.sha for ref in refs(folder, "refs/heads/", "refs/tags/")}
