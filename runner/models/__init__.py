"""The model registry on a store: versions with their lineage, stages, and downloads."""

from runner.models.download import download
from runner.models.registry import blobs, names, register, versions
from runner.models.stages import find, promote, rollback, stages
from runner.models.version import (
    Bump,
    DataUsed,
    Draft,
    EnvironmentUsed,
    Lineage,
    ModelFile,
    Promotion,
    Resources,
    Version,
    valid_name,
)

__all__ = [
    "Bump",
    "DataUsed",
    "Draft",
    "EnvironmentUsed",
    "Lineage",
    "ModelFile",
    "Promotion",
    "Resources",
    "Version",
    "blobs",
    "download",
    "find",
    "names",
    "promote",
    "register",
    "rollback",
    "stages",
    "valid_name",
    "versions",
]
