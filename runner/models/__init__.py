"""The model registry: versions with their lineage, stages, and downloads, in a store or on GitHub."""

from runner.models.download import download
from runner.models.registry import blobs, register, renumber, versions
from runner.models.shelf import GITHUB, Shelf, StoreShelf, open_shelf, option
from runner.models.stages import find, mirror, promote, rollback, stages
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
    "GITHUB",
    "Bump",
    "DataUsed",
    "Draft",
    "EnvironmentUsed",
    "Lineage",
    "ModelFile",
    "Promotion",
    "Resources",
    "Shelf",
    "StoreShelf",
    "Version",
    "blobs",
    "download",
    "find",
    "mirror",
    "open_shelf",
    "option",
    "promote",
    "register",
    "renumber",
    "rollback",
    "stages",
    "valid_name",
    "versions",
]
