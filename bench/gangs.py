"""A repository of a gang -> one run of it by the `pushtrain` command, and what it says of itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.pairs import seconds

PUSHTRAIN = str(Path(sys.executable).with_name("pushtrain"))
TIME = re.compile(r"here (\d+) (\d+\.\d+)")
"""A rank's number and its own clock, in unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A run that succeeded: when it was asked for (unix seconds), `run.json`, and what each rank printed."""

    asked_at_s: float
    run: Mapping[str, Any]
    logs: tuple[str, ...]

    @property
    def started_at_s(self) -> float:
        """When the gang was begun: containers and network were still to be made."""
        return float(self.run["attempts"][-1]["started_at_s"])

    def line_at_s(self, rank: int) -> float:
        """When the rank printed its first line, by its own clock."""
        return line_at_s(self.logs[rank], rank)


def line_at_s(text: str, rank: int) -> float:
    """When `rank` wrote `here RANK TIME`."""
    return next(float(when) for who, when in TIME.findall(text) if int(who) == rank)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A folder for repositories, and a state of its own."""

    folder: Path
    engine: str

    @property
    def env(self) -> dict[str, str]:
        """What commands are told."""
        home = self.folder / "home"
        return {
            **{name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ},
            "PUSHTRAIN_HOME": str(home),
            "PUSHTRAIN_STORE": str(home / "store"),
            "PUSHTRAIN_ENGINE": self.engine,
        }

    def repository(self, name: str, files: Mapping[str, str], **sections: Any) -> Path:
        """A repository whose train.yml has these sections."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        document = {"name": name, "policy": {"reuse": False}, **sections}
        (folder / "train.yml").write_text(yaml.safe_dump(document))
        for path, text in files.items():
            (folder / path).write_text(text)
        git = ("git", "-c", "user.name=bench", "-c", "user.email=bench@example.org")
        for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-qm", "all")):
            seconds((*git, *words), folder=folder)
        return folder

    def train(self, repository: Path) -> Trained:
        """Run it to its end."""
        asked_at_s = time.time()
        seconds((PUSHTRAIN, "run", str(repository)), env=self.env)
        run = json.loads(self.told("show", "last", "--json"))
        logs = tuple(self.told("logs", run["id"], "--rank", str(rank)) for rank in range(run["world_size"]))
        return Trained(asked_at_s=asked_at_s, run=run, logs=logs)

    def told(self, *words: str) -> str:
        """What a command prints."""
        env = {**os.environ, **self.env}
        done = subprocess.run((PUSHTRAIN, *words), env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return done.stdout
