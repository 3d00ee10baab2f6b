"""A parameter as train.yml declares it, and text from a command line -> its typed value."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from runner.document import closest
from runner.quantities import MalformedError, Value, format_value, shown
from runner.spec.fields import AS_IT_IS
from runner.spec.section import Section

Type = Literal["number", "integer", "string", "boolean", "choice"]

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_WORDS = {"number": "a number", "integer": "a whole number", "string": "text", "boolean": "true or false"}
_SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})


def _scalar(value: object) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        raise MalformedError(f"{value} is not a number", expected="a finite number")
    if isinstance(value, str) and "\0" in value:
        raise MalformedError("text with a NUL character", expected="text that a program can be given")
    if not isinstance(value, bool | int | float | str):
        raise MalformedError(f"{shown(value)} is not a value", expected="text, a number, true or false")
    return value


def _options(value: object) -> tuple[Value, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise MalformedError(
            f"{shown(value)} is not a list of options", expected="a list such as [adam, sgd]"
        )
    return tuple(_scalar(option) for option in value)


Scalar = Annotated[Value, PlainValidator(_scalar), AS_IT_IS, _SCALAR]
Options = Annotated[
    tuple[Value, ...],
    PlainValidator(_options),
    AS_IT_IS,
    WithJsonSchema({"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1}),
]


class Input(Section):
    """A parameter of the training, with the values it may take."""

    type: Type = Field(description="What kind of value it is; found from the default where it is left out.")
    description: str = Field("", description="Shown to whoever starts a run.")
    default: Scalar | None = Field(None, description="The value of a run that does not set it.")
    required: bool = Field(False, description="Must be given for each run; so without a default.")
    options: Options | None = Field(None, description="For a choice: the values to choose from.")
    min: float | None = Field(None, description="The smallest number allowed.", allow_inf_nan=False)
    max: float | None = Field(None, description="The largest number allowed.", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        """Fills in what follows from the rest: `lr: 0.1` alone is a number of that default."""
        if not isinstance(data, dict):
            data = {"default": _scalar(data)}
        data = dict(data)
        default = data.get("default")
        if "type" not in data:
            data["type"] = "choice" if data.get("options") else _NAMES.get(type(default), "string")
        data.setdefault("required", default is None)
        if data["type"] == "number" and isinstance(default, int) and not isinstance(default, bool):
            data["default"] = float(default)  # 1 and 1.0 are one default, and give one plan
        return data

    @model_validator(mode="after")
    def _agree(self) -> Input:
        numeric = self.type in {"number", "integer"}
        if (self.type == "choice") != (self.options is not None):
            wrong = f"a {self.type} has no options" if self.options else "a choice without options"
            raise MalformedError(wrong, expected="options for a choice only", at="options")
        if not numeric and (self.min is not None or self.max is not None):
            bound = "min" if self.min is not None else "max"
            raise MalformedError(f"{self.type} has no bounds", expected="min and max for numbers", at=bound)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise MalformedError(f"max {self.max:g} is below min {self.min:g}", at="max")
        self._check_default()
        return self

    def _check_default(self) -> None:
        if self.default is None:
            if not self.required:
                raise MalformedError("neither default nor required", expected="a default, or required: true")
            return
        if self.required:
            raise MalformedError("required, with a default", expected="one of the two", at="required")
        try:
            self.accept(self.default)
        except MalformedError as error:
            raise MalformedError(
                error.problem, expected=error.expected, suggestion=error.suggestion, at="default"
            ) from error

    def parse(self, text: str) -> Value:
        """The value that `text` stands for, as in `-p name=text`.

        Raises MalformedError, a ValueError, where it is of another type, out of bounds or no option.
        """
        if self.type == "choice":
            options = self.options or ()
            value = next((option for option in options if format_value(option) == text), text)
        else:
            value = self._convert(text)
        return self.accept(value)

    def _convert(self, text: str) -> Value:
        word = text.strip()
        if self.type == "number" and _NUMBER.fullmatch(word):
            return float(word)
        if self.type == "integer" and _INTEGER.fullmatch(word):
            return int(word)
        if self.type == "boolean" and word.lower() in {"true", "false"}:
            return word.lower() == "true"
        return text

    def accept(self, value: Value) -> Value:
        """`value` itself, where the declaration allows it. Raises MalformedError elsewhere."""
        if self.type == "choice":
            return self._accept_option(value)
        kinds = {"number": float, "integer": int, "string": str, "boolean": bool}
        if type(value) is not kinds[self.type]:
            raise MalformedError(f"{shown(value)} cannot be used", expected=self._expected())
        if isinstance(value, float | int) and not isinstance(value, bool):
            self._check_bounds(value)
        return _scalar(value)

    def _accept_option(self, value: Value) -> Value:
        options = self.options or ()
        for option in options:
            if option == value and type(option) is type(value):
                return value
        names = [format_value(option) for option in options]
        raise MalformedError(
            f"{shown(value)} is not an option",
            expected=f"one of {', '.join(names)}",
            suggestion=closest(format_value(value), names),
        )

    def _check_bounds(self, value: float) -> None:
        low, high = self.min, self.max
        outside = (low is not None and value < low) or (high is not None and value > high)
        if outside or not math.isfinite(value):
            raise MalformedError(f"{format_value(value)} is out of bounds", expected=self._expected())

    def _expected(self) -> str:
        text = _WORDS[self.type]
        if self.min is not None:
            text += f" of at least {self.min:g}"
        if self.max is not None:
            text += f"{' and' if self.min is not None else ' of'} at most {self.max:g}"
        return text
