"""The inputs of a train.yml -> the typed form of workflow_dispatch.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#onworkflow_dispatchinputs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.quantities import format_value
from runner.workflows.words import is_exact, key, quoted

if TYPE_CHECKING:
    from runner.quantities import Value
    from runner.spec import Input

MOST_INPUTS = 25
"""GitHub takes no more fields in a form."""

PARAMS = "params"
FRESH = "fresh"
_PARAMS_WORDS = "Inputs of train.yml as name=value, separated by blanks, quoted as in a shell"
_FRESH_WORDS = "Train even if an equal run has finished"


@dataclass(frozen=True, kw_only=True)
class Form:
    """The lines below `inputs:`, without indentation, and notes on what could not be made a field."""

    lines: tuple[str, ...]
    notes: tuple[str, ...]


def form(inputs: Mapping[str, Input]) -> Form:
    """A field for each input, or one for all of them where GitHub would not take so many."""
    if len(inputs) > MOST_INPUTS:
        note = (
            f"{len(inputs)} inputs are more than GitHub's {MOST_INPUTS}: the form has one field, {PARAMS}, "
            "for all of them"
        )
        return Form(lines=(*_params(), *_fresh()), notes=(note,))
    lines: list[str] = []
    notes: list[str] = []
    taken: set[str] = set()
    for name, declared in inputs.items():
        if name.lower() in taken:
            notes.append(
                f"{name} is no field of the form: GitHub does not tell it from one of the same letters"
            )
        else:
            lines += _field(name, declared)
        taken.add(name.lower())
    if FRESH not in taken and len(taken) < MOST_INPUTS:
        lines += _fresh()
    return Form(lines=tuple(lines), notes=tuple(notes))


def _field(name: str, declared: Input) -> Iterator[str]:
    yield f"{key(name)}:"
    if declared.description:
        yield f"  description: {quoted(declared.description)}"
    kind = _kind(declared)
    yield f"  type: {kind}"
    yield f"  required: {'true' if declared.required else 'false'}"
    if declared.options:
        yield "  options:"
        yield from (f"    - {quoted(format_value(option))}" for option in declared.options)
    if declared.default is not None:
        yield f"  default: {_default(declared.default, kind)}"


def _kind(declared: Input) -> str:
    """GitHub's type: it has one for all numbers, and a number that it cannot hold is text."""
    if declared.type not in {"number", "integer"}:
        return declared.type
    return "number" if declared.default is None or is_exact(declared.default) else "string"


def _default(value: Value, kind: str) -> str:
    return format_value(value) if kind in {"number", "boolean"} else quoted(format_value(value))


def _params() -> Iterator[str]:
    yield f"{PARAMS}:"
    yield f"  description: {quoted(_PARAMS_WORDS)}"
    yield "  type: string"
    yield "  required: false"


def _fresh() -> Iterator[str]:
    yield f"{FRESH}:"
    yield f"  description: {quoted(_FRESH_WORDS)}"
    yield "  type: boolean"
    yield "  required: false"
    yield "  default: false"
