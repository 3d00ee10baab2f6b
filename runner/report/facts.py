"""What a report of a run on GitHub is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.manifest import FileEntry
    from runner.metrics import Series
    from runner.metrics.system import GpuSeries
    from runner.plan import Plan
    from runner.runs import Run


@dataclass(frozen=True, kw_only=True)
class Base:
    """The run to compare with: the newest that succeeded on the base branch."""

    run: Run
    series: Mapping[str, Series]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the run is told of: `server_url` such as https://github.com, `repository` OWNER/NAME, the job or empty."""

    server_url: str
    repository: str
    job_url: str

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.server_url}/{self.repository}"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """All that is known of a run at `now_s`; `release_url` and `base` are None where there is none (yet).

    `last_lines` are the ends of what the failed rank (or the environment's build) said, oldest first. `notes` are
    sentences of ours: a feature that is off, a release that is pending. `earlier` are other runs of the same pull
    request and training, newest first. `folder` is that of train.yml in the repository, `train_file` its name.
    `command` is the word that starts a run in a comment, empty where comments start none. `gpus` are what they did.
    """

    run: Run
    plan: Plan
    series: Mapping[str, Series]
    base: Base | None
    files: Sequence[FileEntry]
    sealed: bool
    last_lines: Sequence[str]
    store: str
    place: Place
    release_url: str | None
    notes: Sequence[str]
    now_s: float
    earlier: Sequence[Run] = ()
    folder: str = "."
    train_file: str = "train.yml"
    command: str = "/train"
    check_url: str = ""
    gpus: Sequence[GpuSeries] = ()
