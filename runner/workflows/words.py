"""A value -> how it is written in a workflow file, so that YAML and GitHub read it as it was.

There is no `${{` in what comes here: train.yml refuses it wherever it is no placeholder of its own.
"""

from __future__ import annotations

import re

from runner.document import resolve
from runner.quantities import Value

_LARGEST_EXACT = 2**53
# Words that YAML 1.1 reads as something else, as do some of the tools that read workflow files.
_WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off"}


def quoted(text: str) -> str:
    r"""A double-quoted scalar; what is not printable is escaped, as YAML 1.2 has it (5.7): `"a\x85b"`."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char == " " or char.isprintable():
        return char
    code = ord(char)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def key(name: str) -> str:
    """A key of a mapping: a plain word where every reader takes it for text."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name, re.ASCII)
    if plain and name.lower() not in _WORDS_OF_YAML and resolve(name) == name:
        return name
    return quoted(name)


def is_exact(value: Value) -> bool:
    """Whether GitHub, for which every number is a double, gives this one back as it is."""
    return not isinstance(value, int) or abs(value) <= _LARGEST_EXACT
