"""Versions and promotions <-> the JSON they are kept as; apart, since pydantic takes long to import."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from runner.errors import ModelError
from runner.models.version import Promotion, Version

T = TypeVar("T")

VERSION = TypeAdapter(Version)
PROMOTION = TypeAdapter(Promotion)


def dump(adapter: TypeAdapter[T], value: T) -> bytes:
    """Indented JSON, the fields as they are declared; NaN and infinities as strings."""
    return adapter.dump_json(value, indent=2) + b"\n"


def load(adapter: TypeAdapter[T], content: bytes, where: str) -> T:
    """The value kept at `where`; raises ModelError where it is not one."""
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{where} cannot be read: {field}: {first['msg']}",
            tip="it was written by another version of pushtrain, or by hand",
        ) from error
