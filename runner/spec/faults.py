"""pydantic's errors -> faults with a line, the key as people write it, and what was expected."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runner.document import Document, closest
from runner.errors import Fault
from runner.quantities import MalformedError, shown

_EXPECTED = {
    "string_type": "text (in quotes, if it looks like a number)",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list such as [a, b]",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_ABSENT = object()


def translate(error: ValidationError, document: Document, model: type[BaseModel]) -> tuple[Fault, ...]:
    """One fault for each error of validating `document` as `model`."""
    return tuple(_fault(detail, document, model) for detail in error.errors(include_url=False))


def _fault(detail: ErrorDetails, document: Document, model: type[BaseModel]) -> Fault:
    key = _key(detail, document.data)
    message, expected, suggestion = _words(detail, model)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, MalformedError) and cause.at:
        key = f"{key}.{cause.at}" if key else cause.at
    line, column = document.position(key)
    if detail["type"] == "extra_forbidden" or "[key]" in detail["loc"]:
        line, column = document.key_position(key)
    return Fault(
        path=document.path,
        line=line,
        column=column,
        key=key,
        message=message,
        expected=expected,
        suggestion=suggestion,
    )


def _key(detail: ErrorDetails, data: object) -> str:
    """The dotted key, without what pydantic adds to it (tags of unions, `[key]`)."""
    parts: list[str] = []
    last = len(detail["loc"]) - 1
    for index, part in enumerate(detail["loc"]):
        inner = _inside(data, part)
        if inner is not _ABSENT:
            data = inner
        elif detail["type"] not in {"missing", "extra_forbidden"} or index != last:
            continue
        parts.append(str(part))
    if detail["type"] == "union_tag_invalid":
        parts.append("type")
    return ".".join(parts)


def _inside(data: object, part: int | str) -> object:
    if isinstance(data, dict):
        return data.get(part, _ABSENT)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return _ABSENT


def _words(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str, str]:
    """What is wrong, what was expected, and what was probably meant."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, MalformedError):
        return cause.problem, cause.expected, cause.suggestion
    if kind == "extra_forbidden":
        return _unknown(model, detail["loc"])
    if kind == "missing":
        return "is missing", "", ""
    if kind in {"literal_error", "union_tag_invalid"}:
        return _no_choice(value, str(context.get("expected") or context.get("expected_tags")))
    if kind == "union_tag_not_found":
        return "type is missing", "type: none, mpi, tensorflow, torch or jax", ""
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{shown(value)} is out of bounds", f"{words} {context[name]:g}", ""
    problem = "is empty" if value is None else f"{shown(value)} cannot be used"
    return problem, _EXPECTED.get(kind, detail["msg"]), ""


def _no_choice(value: object, expected: str) -> tuple[str, str, str]:
    names = [name.strip("' ") for name in expected.replace(" or ", ", ").split(", ")]
    tag = value.get("type") if isinstance(value, dict) else value
    suggestion = closest(tag, names) if isinstance(tag, str) else ""
    return f"{shown(tag)} is not known", " or ".join([", ".join(names[:-1]), names[-1]]), suggestion


def _unknown(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, str, str]:
    names = sorted(_names(model, location[:-1]))
    suggestion = closest(str(location[-1]), names)
    return "is not known", "" if suggestion else f"one of {', '.join(names)}", suggestion


def _names(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """The keys allowed at `location`, found by walking the models' annotations."""
    sections = {model}
    for part in location:
        fields = [f for s in sections for name, f in s.model_fields.items() if part in {name, f.alias}]
        tagged = {s for s in sections if _tag(s) == part}
        sections = {s for f in fields for s in _sections(f.annotation)} or tagged or sections
    return {field.alias or name for section in sections for name, field in section.model_fields.items()}


def _tag(section: type[BaseModel]) -> object:
    field = section.model_fields.get("type")
    return next(iter(typing.get_args(field.annotation)), None) if field else None


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)
