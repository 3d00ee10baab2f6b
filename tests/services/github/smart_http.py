"""git's smart HTTP, answered by git's own http-backend."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from tests.services.github import git
from tests.services.github.state import Repo


@dataclass(frozen=True, kw_only=True)
class Place:
    """A path of a repository's git service: `tail` is such as /info/refs."""

    full_name: str
    tail: str

    def writes(self, request: Request) -> bool:
        return self.tail == "/git-receive-pack" or request.args.get("service") == "git-receive-pack"


def place_of(path: str) -> Place | None:
    """The repository and the rest, where the path is one of git's (with or without .git)."""
    for tail in ("/info/refs", "/git-upload-pack", "/git-receive-pack"):
        if path.endswith(tail):
            name = path[1 : -len(tail)].removesuffix(".git")
            return Place(full_name=name, tail=tail) if name.count("/") == 1 else None
    return None


def serve(repo: Repo, place: Place, request: Request, *, user: str) -> Response:
    """What git says to this request; blocks until it is done."""
    done = subprocess.run(
        ["git", "http-backend"],
        input=request.get_data(),
        capture_output=True,
        env=_environment(repo.folder, place, request, user),
        cwd=repo.folder,
    )
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    headers, status = Headers(), 200
    for line in head.decode().splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers.add(name, value.strip())
    return Response(body, status=status, headers=headers) if head else Response(done.stderr, status=500)


def _environment(folder: Path, place: Place, request: Request, user: str) -> dict[str, str]:
    made = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(folder),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH_INFO": place.tail,
        "QUERY_STRING": request.query_string.decode(),
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
    }
    if user:
        made["REMOTE_USER"] = user
    return made


def pushed(before: dict[str, str], repo: Repo) -> list[tuple[str, str, str]]:
    """The refs that moved since `before`: name, what it was, what it is."""
    after = git.snapshot(repo.folder)
    names = sorted(before.keys() | after.keys())
    moves = [(name, before.get(name, git.NOTHING), after.get(name, git.NOTHING)) for name in names]
    return [move for move in moves if move[1] != move[2]]
