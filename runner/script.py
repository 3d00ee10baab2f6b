"""A Python script -> the command line options it takes and the libraries it imports, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runner.quantities import Value

_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}
_FLAG_TYPES = {
    "DEFINE_integer": "integer",
    "DEFINE_float": "number",
    "DEFINE_string": "string",
    "DEFINE_bool": "boolean",
    "DEFINE_boolean": "boolean",
}
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option as a parameter: `kind` is a type of train.yml's inputs; `default` is None where there is none."""

    name: str
    kind: str
    default: Value | None = None
    required: bool = False
    options: tuple[Value, ...] = ()
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What was read of a script; `unread` names what takes a value that no input can stand for."""

    options: tuple[Option, ...]
    unread: tuple[str, ...]
    imports: frozenset[str]


def read(source: str) -> Script:
    """Options of argparse, click and absl.flags, and top-level names of imports. Raises SyntaxError, ValueError."""
    options: dict[str, Option] = {}
    unread: list[str] = []
    imports: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        imports.update(_imported(node))
        if not isinstance(node, ast.Call):
            continue
        for found in _options(node):
            if isinstance(found, str):
                unread.append(found)
            else:
                options.setdefault(found.name, found)
    return Script(options=tuple(options.values()), unread=tuple(unread), imports=frozenset(imports))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name.partition(".")[0]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def _options(call: ast.Call) -> Iterator[Option | str]:
    """The option that a call declares, or the name of one that cannot be an input."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if function in {"add_argument", "option"}:
        names = [value for value in map(_literal, call.args) if isinstance(value, str)]
        long = next((name for name in names if name.startswith("--")), "")
        if long:
            yield _option(long.split("/")[0].removeprefix("--"), words)
        elif names and function == "add_argument":
            yield names[0]
    if function in _FLAG_TYPES and len(call.args) >= 2:
        name, default, *rest = (_literal(argument) for argument in call.args)
        if isinstance(name, str):
            yield _typed(name, _FLAG_TYPES[function], default, description=_text(rest[:1]))


def _literal(node: ast.expr | None) -> object:
    """The value of a literal; the Ellipsis for anything that has to be computed."""
    if node is None:
        return None
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...
    return value


def _text(values: Sequence[object]) -> str:
    return next((value for value in values if isinstance(value, str)), "")


def _option(name: str, words: dict[str, ast.expr]) -> Option | str:
    description = _text([_literal(words.get("help"))])
    action = _literal(words.get("action"))
    if action in {"store_true", "store_false"} or _literal(words.get("is_flag")) is True:
        return Option(name=name, kind="boolean", default=False, description=description)
    if "nargs" in words or action not in {None, "store"} or _literal(words.get("multiple")) is True:
        return f"--{name}"
    default = _literal(words.get("default"))
    choices = _literal(words.get("choices"))
    if isinstance(choices, list | tuple) and all(type(choice) in _KINDS for choice in choices):
        return _choice(name, tuple(choices), default, description=description, words=words)
    kind = _TYPES.get(getattr(words.get("type"), "id", ""), "")
    if "type" in words and not kind and not isinstance(default, str):
        return f"--{name}"
    required = _literal(words.get("required")) is True
    return _typed(name, kind, default, description=description, required=required)


def _choice(
    name: str, choices: tuple[Value, ...], default: object, *, description: str, words: dict[str, ast.expr]
) -> Option | str:
    if default is None and choices and _literal(words.get("required")) is True:
        return Option(name=name, kind="choice", options=choices, required=True, description=description)
    for choice in choices:
        if choice == default and type(choice) is type(default):
            return Option(name=name, kind="choice", options=choices, default=choice, description=description)
    return f"--{name}"


def _typed(
    name: str, kind: str, default: object, *, description: str, required: bool = False
) -> Option | str:
    """The option, where its default is a value of the kind or it must be given; else its name."""
    if default is None and required:
        return Option(name=name, kind=kind or "string", required=True, description=description)
    if type(default) not in _KINDS:
        return f"--{name}"
    assert isinstance(default, str | int | float | bool)
    if not kind or (kind, type(default)) == ("integer", float):
        kind = _KINDS[type(default)]
    if (kind, type(default)) == ("number", int):
        default = float(default)
    if _KINDS[type(default)] != kind:
        return f"--{name}"
    return Option(name=name, kind=kind, default=default, description=description)
