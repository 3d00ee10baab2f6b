"""A remote and a commit -> a work tree of it, and what differs from another commit; fetched once, kept for the next."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import git
from runner.errors import SourceError
from runner.lock import held

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_KEPT_REFS = 40
LOCK_WAIT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A repository to fetch from. The token travels in git's environment: no argument list and no file has it."""

    url: str
    token: str | None

    @property
    def env(self) -> dict[str, str]:
        """What git has to be told, besides the URL."""
        if not self.token:
            return {}
        basic = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        number = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
        return {
            "GIT_CONFIG_COUNT": str(number + 1),
            f"GIT_CONFIG_KEY_{number}": f"http.{self.url}.extraheader",
            f"GIT_CONFIG_VALUE_{number}": f"AUTHORIZATION: basic {basic}",
        }


@contextlib.contextmanager
def work_tree(remote: Remote, commit: str, *, home: Path, isolated: bool) -> Iterator[Path]:
    """The files of a commit in a folder, which nobody else changes within the block. Raises SourceError.

    The folder stays, `home/commits/COMMIT`, for a run reads data from it that lies beside the source; `pushtrain gc`
    removes it once no run needs it. What was fetched stays below `home/repositories`, so that the next commit costs
    its difference. An `isolated` work tree has no links (a fork's would be followed out of it while the run is
    planned) and no submodules.
    """
    repository = _repository(remote, home, isolated=isolated)
    fetch(remote, (commit,), home=home, isolated=isolated)
    place = home / "commits" / (f"{commit}-isolated" if isolated else commit)
    with _alone(place.parent / f"{place.name}.lock"):
        if (place / ".git").exists():
            git.run(place, "checkout", "--quiet", "--force", "--detach", commit, env=remote.env)
            git.run(place, "clean", "--quiet", "-ffdx")
        else:
            shutil.rmtree(place, ignore_errors=True)  # what a killed process left
            added = ("worktree", "add", "--quiet", "--force", "--detach", str(place), commit)
            git.run(repository, *added, env=remote.env)
        if not isolated and (place / ".gitmodules").is_file():
            git.run(place, "submodule", "update", "--init", "--recursive", "--depth", "1", env=remote.env)
        os.utime(place / ".git")
        yield place


def fetch(remote: Remote, commits: tuple[str, ...], *, home: Path, isolated: bool) -> None:
    """Brings commits, without their history; those that are there already are not asked for. Raises SourceError."""
    repository = _repository(remote, home, isolated=isolated)
    with _alone(repository / "pushtrain.lock"):
        missing = [each for each in commits if not _has(repository, _checked(each))]
        if not missing:
            return
        wanted = [f"+{commit}:refs/pushtrain/{commit}" for commit in missing]
        options = ["--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--no-recurse-submodules"]
        try:
            git.run(repository, "fetch", *options, "origin", *wanted, env=remote.env)
        except SourceError as error:
            raise SourceError(
                f"{', '.join(each[:10] for each in missing)} cannot be fetched from {remote.url}: {error}",
                tip="is the commit still there, and may the token read the repository (contents: read)?",
            ) from error
        _forget_old(repository)


def changed(remote: Remote, before: str, after: str, *, home: Path) -> tuple[str, ...] | None:
    """The paths that differ between two commits, sorted; None where the older one is gone (after a forced push)."""
    repository = _repository(remote, home, isolated=False)
    try:
        fetch(remote, (before, after), home=home, isolated=False)
    except SourceError as error:
        logger.info("what changed since %s cannot be told: %s", before[:10], error)
        return None
    listed = git.run(repository, "diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
    return tuple(sorted(each.decode(errors="replace") for each in listed.split(b"\0") if each))


def text(remote: Remote, commit: str, path: str, *, home: Path) -> str | None:
    """A file of a commit; None where that has no such file. Raises SourceError."""
    fetch(remote, (commit,), home=home, isolated=False)
    repository = _repository(remote, home, isolated=False)
    status, content, _ = git.start(repository, "cat-file", "blob", f"{commit}:{path}").finish()
    if status:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} of {commit[:10]} is no text in UTF-8", tip="save it as UTF-8") from error


def _repository(remote: Remote, home: Path, *, isolated: bool) -> Path:
    """The bare repository that keeps what was fetched; made where there is none."""
    name = hashlib.sha256(remote.url.encode()).hexdigest()[:20] + ("-isolated" if isolated else "")
    place = home / "repositories" / name
    if (place / "pushtrain.ready").exists():
        return place
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place / "pushtrain.lock"):
        git.run(place, "init", "--quiet", "--bare", "--template=", ".")
        for key, value in (
            ("remote.origin.url", remote.url),
            ("gc.auto", "0"),
            ("core.symlinks", "false" if isolated else "true"),
            # What a repository of somebody else's says of submodules is not followed to this machine's files.
            ("protocol.file.allow", "never"),
            ("protocol.ext.allow", "never"),
        ):
            git.run(place, "config", key, value)
        (place / "pushtrain.ready").touch()
    return place


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with held(lock, wait_s=LOCK_WAIT_S) as mine:
        if not mine:
            raise SourceError(f"{lock} is held for {LOCK_WAIT_S:g} s already", tip="is a git fetch stuck?")
        yield


def _has(repository: Path, commit: str) -> bool:
    status, _, _ = git.start(
        repository, "rev-parse", "--verify", "--quiet", f"refs/pushtrain/{commit}"
    ).finish()
    return status == 0


def _checked(commit: str) -> str:
    if not _COMMIT.fullmatch(commit):
        raise SourceError(f"{commit!r} is no full commit id")
    return commit


def _forget_old(repository: Path) -> None:
    """Keeps the newest commits, so that a fetch does not tell the server of thousands; their objects go in time."""
    listed = git.run(
        repository, "for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/pushtrain"
    )
    for name in listed.decode().splitlines()[_KEPT_REFS:]:
        git.run(repository, "update-ref", "-d", name)


__all__ = ["Remote", "changed", "fetch", "text", "work_tree"]
