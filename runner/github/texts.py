"""Texts of any length -> texts within GitHub's limits: a last guard, for those who write them make them fit."""

from __future__ import annotations

import re
from datetime import UTC, datetime

FIELD_LIMIT = 65_535
"""Characters of a check's summary and text, and (one more in truth) of a comment."""

_CUT = "The rest is left out: GitHub takes no more."
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)


def fitting(text: str, limit: int = FIELD_LIMIT) -> str:
    """Returns the text, cut at a line's end where it has more than `limit` characters; a code fence is closed."""
    if len(text) <= limit:
        return text
    kept = text[: limit - len(_CUT) - 100]
    kept = kept[: kept.rfind("\n") + 1] or kept
    return f"{kept.rstrip()}\n{_open_fence(kept)}\n{_CUT}\n"


def _open_fence(text: str) -> str:
    """Returns what closes the code fence that is open at the end of a text; nothing where none is."""
    fence = ""
    for found in _FENCE.finditer(text):
        mark = found[1][:40]
        if not fence:
            fence = mark
        elif mark[0] == fence[0] and len(mark) >= len(fence):
            fence = ""
    return f"{fence}\n" if fence else ""


def one_line(text: str, limit: int) -> str:
    """Returns the text in one line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def moment(at_s: float) -> str:
    """Returns a time as GitHub writes it: 2026-11-05T12:00:00Z."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def same_text(theirs: str | None, ours: str) -> bool:
    """Returns whether two texts are one: GitHub may trim what it is given and write line ends in another way."""
    return (theirs or "").replace("\r\n", "\n").strip() == ours.replace("\r\n", "\n").strip()
