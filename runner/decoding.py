"""JSON, or what is made of it already -> a value of a type, checked; from several threads too."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

Kind = TypeVar("Kind")

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


def from_json(data: bytes | str, kind: type[Kind]) -> Kind:
    """The value that JSON text is. Raises msgspec's DecodeError, a ValueError."""
    value: Kind = _decoder(kind).decode(data)
    return value


def from_objects(found: object, kind: type[Kind]) -> Kind:
    """The value that dicts, lists and scalars are. Raises msgspec's ValidationError, a ValueError."""
    _decoder(kind)
    return msgspec.convert(found, kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """One for each type, made once.

    With msgspec 0.22 a process dies of SIGSEGV where a second thread reads a type that the first one is just getting to
    know, as that type itself or within another.
    """
    made = _decoders.get(kind)
    if made is None:
        with _making:
            made = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return made
