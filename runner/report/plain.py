"""Text that somebody else wrote -> what may be shown on a terminal without obeying it."""

from __future__ import annotations

import re

# https://www.ecma-international.org/publications-and-standards/standards/ecma-48: CSI, OSC and two-byte sequences.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` without colours and without anything that moves the cursor or turns the writing around."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


def coloured(text: str) -> str:
    """`text` with its colours alone."""
    return "".join(part if _COLOUR.fullmatch(part) else plain(part) for part in _COLOUR.split(text))
