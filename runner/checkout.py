"""A remote and a commit -> a work tree of it, and what differs from another commit; fetched once, kept for the next."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runner import git
from runner.errors import GitHubDenied, GitHubDown, PushtrainError, SourceError
from runner.lock import held

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_KEPT_REFS = 40
LOCK_WAIT_S = 600.0
# Pauses of 1, 2, 4, 8, 16 and 30 seconds: about a minute.
_TRIES = 7
_LONGEST_PAUSE_S = 30.0
_PATIENCE_S = 60.0
# What git (LC_ALL=C) and curl say of these.
_UNKNOWN_TOKEN = re.compile(
    r"could not read (?:Username|Password)|Authentication failed|returned error: 401|HTTP 401"
)
_MAY_NOT = re.compile(r"returned error: 403|HTTP 403")
_GONE = re.compile(r"not our ref|unadvertised object|couldn't find remote ref")
_OUTAGE = re.compile(
    r"(?:returned error:|HTTP) (?:5\d\d|429)|RPC failed|early EOF|unexpected disconnect|hung up unexpectedly"
    r"|Could not resolve host|Couldn't connect|Failed to connect|timed out|Empty reply from server|Recv failure"
    r"|Connection (?:was )?(?:reset|refused|closed)",
    re.IGNORECASE,
)


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
    """The files of a commit in a folder, which nobody else changes within the block. Raises as `fetch` does.

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
            _git(place, "checkout", "--quiet", "--force", "--detach", commit, env=remote.env)
            _git(place, "clean", "--quiet", "-ffdx")
        else:
            shutil.rmtree(place, ignore_errors=True)  # what a killed process left
            added = ("worktree", "add", "--quiet", "--force", "--detach", str(place), commit)
            _git(repository, *added, env=remote.env)
        if not isolated and (place / ".gitmodules").is_file():
            _git(place, "submodule", "update", "--init", "--recursive", "--depth", "1", env=remote.env)
        os.utime(place / ".git")
        yield place


def fetch(
    remote: Remote,
    commits: tuple[str, ...],
    *,
    home: Path,
    isolated: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Brings commits, without their history; those that are there already are not asked for. Safe to repeat.

    An outage is waited for for about a minute by `sleep`, then GitHubDown is raised. Raises GitHubDenied where the
    token is refused, and SourceError for all else, such as a commit that is gone.
    """
    repository = _repository(remote, home, isolated=isolated)
    with _alone(repository / "pushtrain.lock"):
        missing = [each for each in commits if not _has(repository, _checked(each))]
        if not missing:
            return
        wanted = [f"+{commit}:refs/pushtrain/{commit}" for commit in missing]
        options = ["--quiet", "--no-tags", "--depth=1", "--no-write-fetch-head", "--no-recurse-submodules"]

        def once() -> None:
            try:
                _git(repository, "fetch", *options, "origin", *wanted, env=remote.env)
            except SourceError as error:
                raise _reason(remote, missing, error) from None

        _patiently(once, sleep)
        _forget_old(repository)


def _patiently(step: Callable[[], None], sleep: Callable[[float], None]) -> None:
    """Repeats a step as long as GitHub is down, but not for much longer than a minute; then raises GitHubDown."""
    from tenacity import (
        RetryCallState,
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_after_delay,
        wait_exponential,
    )

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.info("%s; trying again in %.0f s", error, state.upcoming_sleep)

    Retrying(
        retry=retry_if_exception_type(GitHubDown),
        wait=wait_exponential(max=_LONGEST_PAUSE_S),
        stop=stop_after_attempt(_TRIES) | stop_after_delay(_PATIENCE_S),
        sleep=sleep,
        before_sleep=say,
        reraise=True,
    )(step)


def _reason(remote: Remote, commits: list[str], error: SourceError) -> PushtrainError:
    """What a failed fetch means for who reads of it."""
    said, names = str(error), ", ".join(each[:10] for each in commits)
    if _UNKNOWN_TOKEN.search(said):
        what = "refuses the token" if remote.token else "wants a token"
        return GitHubDenied(
            f"GitHub {what} for {remote.url}",
            tip="give the action's `token:` input a token that is valid and has `contents: read`",
        )
    if _MAY_NOT.search(said):
        return GitHubDenied(
            f"GitHub refuses the token for {remote.url}: it may not read the repository's contents",
            permission="contents: read",
            tip="add `contents: read` to the job's `permissions:`, or give the action's `token:` input another token",
        )
    if _OUTAGE.search(said) and not _GONE.search(said):
        return GitHubDown(
            f"GitHub did not give the commit {names} of {remote.url}: {said}",
            tip="see https://www.githubstatus.com, and run the job again",
        )
    return SourceError(
        f"{names} cannot be fetched from {remote.url}: {said}",
        tip=error.tip or "is the commit still there, and may the token read the repository (contents: read)?",
    )


def _git(place: Path, *arguments: str, env: Mapping[str, str] | None = None) -> bytes:
    """`git.run`, but no message tells a path of this machine: what is said here may be read by the public."""
    try:
        return git.run(place, *arguments, env=env)
    except SourceError as error:
        said = str(error).replace(f" in {place}", "", 1).replace(str(place), "the repository")
        raise SourceError(said.replace(str(place.parents[1]), "PUSHTRAIN_HOME"), tip=error.tip) from None


def changed(remote: Remote, before: str, after: str, *, home: Path) -> tuple[str, ...] | None:
    """The paths that differ between two commits, sorted; None where the older one is gone (after a forced push).

    Raises GitHubDown and GitHubDenied as `fetch` does: then nothing is known of either.
    """
    repository = _repository(remote, home, isolated=False)
    try:
        fetch(remote, (before, after), home=home, isolated=False)
    except SourceError as error:
        logger.info("what changed since %s cannot be told: %s", before[:10], error)
        return None
    listed = git.run(repository, "diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
    return tuple(sorted(each.decode(errors="replace") for each in listed.split(b"\0") if each))


def text(remote: Remote, commit: str, path: str, *, home: Path) -> str | None:
    """A file of a commit; None where that has no such file. Raises as `fetch` does."""
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
            raise SourceError(
                f"another job has held the fetched commits ({lock.name}) for {LOCK_WAIT_S:g} s already",
                tip="is a git fetch stuck?",
            )
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
