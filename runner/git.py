"""A git command line -> its output, with an environment that no hook or wrapper can bend."""

from __future__ import annotations

# Only what the interpreter has loaded already is imported here, the rest where it is used: `pushtrain plan` can
# start git some 15 ms after its own start, before all else.
import os
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from runner.errors import SourceError

_KEPT = (
    "GIT_EXEC_PATH",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_VALUE_",
    "GIT_CEILING_DIRECTORIES",
    "GIT_SSH",
    "GIT_SSL",
)
# Replaced objects would give one tree id two contents; optional locks would write to the user's index.
_SET = {
    "LC_ALL": "C",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
}


class Running:
    """A git process that was started; `finish` waits for it."""

    def __init__(self, pid: int, output: int, errors: int) -> None:
        self._pid = pid
        self._output = output
        self._errors = errors

    def finish(self) -> tuple[int, bytes, str]:
        """Returns exit status, output and error text; blocks until git ends; to be called once."""
        with open(self._output, "rb") as output:  # noqa: PTH123 - a descriptor, not a path
            data = output.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        with open(self._errors, "rb") as errors:  # noqa: PTH123
            errors.seek(0)
            return status, data, errors.read().decode(errors="replace").strip()


def start(folder: str | os.PathLike[str], *arguments: str) -> Running:
    """Starts `git -C folder arguments…` and returns at once; raises SourceError where there is no git."""
    reading, writing = os.pipe()
    errors = _anonymous_file()
    null = os.open(os.devnull, os.O_RDONLY)
    actions = [(os.POSIX_SPAWN_DUP2, source, to) for to, source in enumerate((null, writing, errors))]
    try:
        argv = ["git", "-C", os.fspath(folder), *arguments]
        pid = os.posix_spawnp("git", argv, environ({}), file_actions=actions)
    except FileNotFoundError as error:
        os.close(reading)
        os.close(errors)
        raise _not_installed() from error
    finally:
        os.close(writing)
        os.close(null)
    return Running(pid, reading, errors)


class Look:
    """The git processes that look at a folder; `repository.inspect` says what they saw."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = folder
        # Two processes share the work: one compares the tracked files, the other looks for untracked ones.
        status = ("status", "--porcelain=v2", "--branch", "--no-renames", "--untracked-files=no", "-z")
        others = ("ls-files", "-z", "--others", "--exclude-standard")
        self.tracked = start(folder, *status, "--", ".")
        self.untracked = start(folder, *others, "--", ".")
        self.place = start(folder, "rev-parse", "--show-toplevel", "--show-prefix", "HEAD", "HEAD:./")
        self.remote = start(folder, "ls-remote", "--get-url")


def run(
    folder: str | os.PathLike[str],
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
) -> bytes:
    """Returns the output of `git -C folder arguments…`; raises SourceError where git fails."""
    import subprocess

    argv = ["git", "-C", os.fspath(folder), *arguments]
    try:
        done = subprocess.run(
            argv,
            env=environ(env or {}),
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise _not_installed() from error
    if done.returncode:
        raise failure(done.stderr.decode(errors="replace").strip(), folder=folder, doing=arguments[0])
    return done.stdout


def environ(extra: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's environment with only those of git's variables that choose no repository."""
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    return {**kept, **_SET, **extra}


def failure(said: str, *, folder: str | os.PathLike[str], doing: str) -> SourceError:
    """Returns what to raise where git failed, with the next command to type."""
    from runner.errors import SourceError

    if "dubious ownership" in said:
        return SourceError(
            f"git refuses {os.fspath(folder)}: it belongs to another user",
            tip=_line_with(said, "safe.directory") or "git config --global --add safe.directory FOLDER",
        )
    tip = "git lfs install, then git lfs pull" if "git-lfs" in said else ""
    return SourceError(f"git {doing} failed in {os.fspath(folder)}: {said or 'it said nothing'}", tip=tip)


def _is_kept(name: str) -> bool:
    return not name.startswith("GIT_") or name.startswith(_KEPT)


def _line_with(text: str, word: str) -> str:
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    return next((line for line in lines if word in line and line.startswith("git ")), "")


def _not_installed() -> SourceError:
    from runner.errors import SourceError

    return SourceError("git is not installed", tip="apt-get install git")


def _anonymous_file() -> int:
    """A pipe for the errors could fill while the output is being read; a file cannot."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("git-errors")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
