"""Declared inputs and lines of name=value -> the value of each input, or every mistake at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runner.errors import PlanError
from runner.quantities import MalformedError, Value, format_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.spec import Input, Spec

_FORMS = {"number": "NUMBER", "integer": "NUMBER", "boolean": "true", "string": "TEXT"}


def parameters(spec: Spec, overrides: Sequence[str]) -> dict[str, Value]:
    """Declared inputs with `name=value` overrides applied.

    Raises PlanError for every mistake at once; its tip is all overrides as they should be: `-p name=value -p …`.
    """
    read = _Reading(spec)
    for override in overrides:
        read.take(override)
    read.complete()
    if read.mistakes:
        raise PlanError("\n".join(dict.fromkeys(read.mistakes)), tip=read.tip())
    values: dict[str, Value] = {n: i.default for n, i in spec.inputs.items() if i.default is not None}
    return values | read.values


class _Reading:
    """What was given: the values, the mistakes, and for each input the text that it should have."""

    def __init__(self, spec: Spec) -> None:
        self._inputs = spec.inputs
        self.values: dict[str, Value] = {}
        self.mistakes: list[str] = []
        self._should_be: dict[str, str] = {}
        self._guessed: dict[str, str] = {}
        self._given: set[str] = set()

    def take(self, override: str) -> None:
        from runner.document import closest

        name, equals, text = override.partition("=")
        if equals and name in self._given:
            self.mistakes.append(f"{name} is given twice")
        self._given |= {name} if equals else set()
        if name in self._inputs and equals:
            self._parse(name, text)
            return
        meant = name if name in self._inputs else closest(name, self._inputs)
        if not equals:
            self.mistakes.append(f"{override!r}: expected name=value")
        else:
            hint = _meant(meant) if self._inputs else ": train.yml declares none"
            self.mistakes.append(f"there is no input {name!r}{hint or f'; there are {self._declared()}'}")
        if meant:
            self._guessed.setdefault(meant, self._mended(meant, text if equals else ""))

    def complete(self) -> None:
        """Every input without a value is a mistake too."""
        for name, declared in self._inputs.items():
            if declared.default is None and name not in self._given:
                self.mistakes.append(f"input {name!r} has no value")
                self._guessed.setdefault(name, _example(declared))

    def tip(self) -> str:
        from runner.trigger.words import quoted

        right = self._guessed | self._should_be
        if not right:  # nothing that was given has a use here
            right = {name: _example(declared) for name, declared in list(self._inputs.items())[:1]}
        if not right:
            return "leave it out"
        return " ".join(f"-p {quoted(f'{name}={text}')}" for name, text in right.items())

    def _parse(self, name: str, text: str) -> None:
        from runner.trigger.words import quoted

        declared = self._inputs[name]
        try:
            self.values[name] = declared.parse(text)
        except MalformedError as error:
            such_as = f", such as {name}={_example(declared)}"
            self.mistakes.append(f"{quoted(f'{name}={text}')}: {error}{_meant(error.suggestion) or such_as}")
            self._guessed[name] = error.suggestion or _example(declared)
        else:
            self._should_be[name] = text

    def _mended(self, name: str, text: str) -> str:
        """The text for the input that was meant; an example where it cannot be that."""
        try:
            self._inputs[name].parse(text)
        except MalformedError as error:
            return error.suggestion or _example(self._inputs[name])
        return text or _example(self._inputs[name])

    def _declared(self) -> str:
        return ", ".join(f"{name} ({declared.type})" for name, declared in self._inputs.items())


def _example(declared: Input) -> str:
    """A value that fits, as it is typed; the kind of it in capitals where there is none to take."""
    if declared.default is not None:
        return format_value(declared.default)
    if declared.options:
        return format_value(declared.options[0])
    if declared.min is None:
        return _FORMS[declared.type]
    return format_value(math.ceil(declared.min) if declared.type == "integer" else declared.min)


def _meant(name: str) -> str:
    return f" (did you mean {name}?)" if name else ""
