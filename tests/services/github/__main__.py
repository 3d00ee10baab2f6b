"""`python -m tests.services.github --folder DIR [OWNER/NAME=FOLDER …]`: prints its address and a token, and serves."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

from tests.services.github.server import GitHub


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves a stand-in for GitHub on 127.0.0.1.")
    parser.add_argument("--folder", type=Path, required=True, help="where repositories and files are kept")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--description", type=Path, help="GitHub's OpenAPI file; without it nothing is validated"
    )
    parser.add_argument("--private", action="store_true", help="repositories are private")
    parser.add_argument("repositories", nargs="*", metavar="OWNER/NAME=FOLDER")
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    github = GitHub(given.folder.resolve(), description=given.description, port=given.port)
    for pair in given.repositories:
        name, _, folder = pair.partition("=")
        github.repository(name, Path(folder) if folder else None, private=given.private)
    print(json.dumps({"url": github.url, "token": github.token}), flush=True)
    ended.wait()
    github.close()
    for violation in github.violations:
        print(violation, flush=True)


if __name__ == "__main__":
    main()
