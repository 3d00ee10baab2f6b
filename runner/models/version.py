"""What a release is made of: a draft becomes a version, with files by digest and where it all came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Bump = Literal["major", "minor", "patch"]

FIRST = "1.0.0"

# The name of GTO's tags (`NAME@v1.2.0`, `NAME#STAGE#3`), less the slash.
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_-]{0,98}[a-zA-Z0-9])?")
NAME_RULE = "letters, digits, - and _ in between, at most 100"


# How saved state is read (`saved.py`): what a dataclass does not know is an error, NaN is a string.
STRICT = {"extra": "forbid", "ser_json_inf_nan": "strings"}


def valid_name(text: str) -> bool:
    """True for what can name a model or a stage, in the store as in a tag of git."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One file of a model: its path below the model's folder, with `/`, and the digest of its blob."""

    __pydantic_config__ = STRICT

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class EnvironmentUsed:
    """The environment that the training ran in: an image with its digest, or a venv (digest None)."""

    __pydantic_config__ = STRICT

    kind: str
    key: str
    digest: str | None


@dataclass(frozen=True, kw_only=True)
class DataUsed:
    """A data set that the training read, pinned by its digest."""

    __pydantic_config__ = STRICT

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a version came from. `commit` is None outside git, `branch` also on a detached head.

    `tree` is the git tree that was trained; it differs from the commit's where `dirty`.
    """

    __pydantic_config__ = STRICT

    commit: str | None
    branch: str | None
    dirty: bool
    tree: str
    plan_hash: str
    run_id: str
    environment: EnvironmentUsed
    data: tuple[DataUsed, ...]
    inputs: Mapping[str, bool | int | float | str]
    metrics: Mapping[str, float]
    started_by: str


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What serving the model needs; None where train.yml does not say."""

    __pydantic_config__ = STRICT

    cpu: float | None
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A model to register; `bump` says which part of the latest version to raise. Times are unix seconds.

    `after` is a version that is known elsewhere, so that the next one is newer than that too; None for none.
    """

    name: str
    bump: Bump
    framework: str | None
    framework_version: str | None
    resources: Resources
    files: tuple[ModelFile, ...]
    lineage: Lineage
    created_at_s: float
    after: str | None = None


@dataclass(frozen=True, kw_only=True)
class Version:
    """A registered model: immutable once it is there. `version` is SemVer, such as 1.2.0."""

    __pydantic_config__ = STRICT

    name: str
    version: str
    framework: str | None
    framework_version: str | None
    resources: Resources
    files: tuple[ModelFile, ...]
    lineage: Lineage
    created_at_s: float

    @property
    def tag(self) -> str:
        """The tag that GTO reads: `NAME@v1.2.0`."""
        return f"{self.name}@v{self.version}"

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in self.files)


def faulty_path(path: str) -> str:
    """What keeps a file's path from being a place below the model's folder; empty where nothing does."""
    pure = PurePosixPath(path)
    if not path or path != str(pure) or pure == PurePosixPath("."):
        return "it is not a plain relative path"
    if pure.is_absolute() or ".." in pure.parts:
        return "it leaves the model's folder"
    if "\\" in path or "\0" in path:
        return "it has a backslash or a null byte"
    return ""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The `n`th time (from 1) that a stage was given to a version; `at_s` is in unix seconds.

    `restores` is the promotion that a rollback went back to, itself never a rollback; None for any other.
    """

    __pydantic_config__ = STRICT

    n: int
    name: str
    version: str
    stage: str
    by: str
    at_s: float
    restores: int | None = None

    @property
    def tag(self) -> str:
        """The tag that GTO reads: `NAME#STAGE#N`."""
        return f"{self.name}#{self.stage}#{self.n}"
