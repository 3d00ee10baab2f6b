"""A docker command line -> its output, with Docker's refusals in our words."""

from __future__ import annotations

import re
import shutil
import subprocess

from runner.errors import DockerAway, EngineError, EnvironmentFailed, PushtrainError

# What Docker's own command, and BuildKit, say where the daemon ends under them.
_AWAY = (
    "cannot connect to the docker daemon",
    "is the docker daemon running",
    "error during connect",
    "error reading from server: eof",
    "docker.sock: connect: connection refused",
    "transport is closing",
)
# A registry that is started again, or a line to it that is cut. All else it says for good: also "no such host", since
# a name that cannot be looked up at this moment is told in other words.
_PASSING = re.compile(
    r"connection (?:refused|reset)|time(?:d )?-?out|deadline exceeded|\beof\b|no route to host|network is unreachable"
    r"|server misbehaving|name resolution|internal server error|bad gateway|service unavailable|broken pipe"
    r"|(?:status(?: code)?:?|http) 50[0234]\b"
)
_INSTALL = "sudo apt-get install docker.io, or see https://docs.docker.com/engine/install/"


class Refused(EnvironmentFailed):
    """Docker did not do what was asked; `said` is its own text."""

    def __init__(self, message: str, *, said: str, tip: str = "") -> None:
        super().__init__(message, tip=tip)
        self.said = said


def executable() -> str:
    """The first `docker` on PATH. Raises EngineError where there is none."""
    found = shutil.which("docker")
    if found is None:
        raise EngineError(
            "Docker is not installed", tip=f"{_INSTALL}; without it: pushtrain run --engine local"
        )
    return found


def ask(*arguments: str) -> str:
    """The output of `docker ARGUMENTS…`, stripped.

    Raises DockerAway where the daemon does not answer, Refused (an EnvironmentFailed) where it says no.
    """
    done = subprocess.run([executable(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise refusal(" ".join(arguments[:2]), done.stderr.strip() or done.stdout.strip())
    return done.stdout.strip()


def refusal(doing: str, said: str) -> PushtrainError:
    """What to raise where `docker DOING` failed and said so."""
    low = said.lower()
    if is_away(said):
        return DockerAway("Docker does not answer", tip="sudo systemctl start docker, or use --engine local")
    if "permission denied" in low and "socket" in low:
        return EngineError("Docker refuses this user", tip="sudo usermod -aG docker $USER, then log in again")
    if "no space left on device" in low:
        return Refused("the disk of Docker is full", said=said, tip="docker system df; pushtrain gc")
    tip = (
        "docker login REGISTRY"
        if any(word in low for word in ("unauthorized", "denied", "credentials"))
        else ""
    )
    last = said.splitlines()[-1] if said else "it said nothing"
    return Refused(f"docker {doing} failed: {last}", said=said, tip=tip)


def is_away(said: str) -> bool:
    """Whether Docker's words mean that its daemon does not answer, or ended meanwhile."""
    low = said.lower()
    return any(words in low for words in _AWAY)


def is_passing(refused: Refused) -> bool:
    """Whether Docker said that a registry does not answer: trying again in a moment may help."""
    return _PASSING.search(refused.said.lower()) is not None


def is_absent(refused: Refused) -> bool:
    """Whether Docker said that there is no such image, here or in its registry."""
    low = refused.said.lower()
    words = (
        "no such image",
        "no such object",
        "not found",
        "manifest unknown",
        "name unknown",
        "does not exist",
    )
    return any(word in low for word in words)
