"""Declared inputs and lines of name=value -> the value of each input, or every mistake at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runner.errors import PlanError
from runner.quantities import MalformedError, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.spec import Spec


def parameters(spec: Spec, overrides: Sequence[str]) -> dict[str, Value]:
    """Declared inputs with `name=value` overrides applied. Raises PlanError for every mistake at once."""
    from runner.document import closest

    values: dict[str, Value] = {n: i.default for n, i in spec.inputs.items() if i.default is not None}
    mistakes = [f"{name} is given twice" for name in _repeated(overrides)]
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            mistakes.append(f"{override!r}: expected name=value")
        elif name not in spec.inputs:
            mistakes.append(f"there is no input {name!r}{_meant(closest(name, spec.inputs))}")
        else:
            try:
                values[name] = spec.inputs[name].parse(text)
            except MalformedError as error:
                mistakes.append(f"{name}={text}: {error}{_meant(error.suggestion)}")
    mistakes += [f"input {n!r} has no value: add -p {n}=…" for n in spec.inputs if n not in values]
    if mistakes:
        declared = ", ".join(f"{n}: {i.type}" for n, i in spec.inputs.items()) or "none"
        raise PlanError("\n".join(mistakes), tip=f"the inputs of train.yml are {declared}")
    return values


def _repeated(overrides: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(name for name, equals, _ in (text.partition("=") for text in overrides) if equals)
    return tuple(name for name, count in counts.items() if count > 1)


def _meant(name: str) -> str:
    return f" (did you mean {name}?)" if name else ""
