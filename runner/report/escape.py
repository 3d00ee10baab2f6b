"""Text that a run wrote -> Markdown that shows it on GitHub and obeys none of it.

GitHub looks for mentions, issues, commits, addresses, emoji codes and formulas after Markdown was rendered, in all
text but code (https://github.com/github/cmark-gfm/issues/181: neither a backslash nor an entity hides an @). So
whatever is not a plain word is shown as code.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote, urlsplit

from runner.report import prose
from runner.report.plain import plain

CODE_LIMIT = 160
INLINE_LIMIT = 600
LINE_LIMIT = 400
# How much more than its limit is looked at of a line: colours take room, and one line may hold megabytes.
_READ_FACTOR = 8

# Format characters (Unicode's Cf: zero-width, joiners, directions, tags) and what no text should hold.
_INVISIBLE = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\n\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_STACKED = re.compile(r"([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{2})"
                      r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]+")  # fmt: skip


def line(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` as one line of characters that can be seen: no colours, controls, directions or zero widths; cut with …"""
    last = text[text.rstrip("\r\n").rfind("\r") + 1 :] if "\r" in text else text
    read = last[: _READ_FACTOR * limit]
    seen = _INVISIBLE.sub("", plain(_BREAKS.sub(" ", _SURROGATE.sub("\ufffd", read))))
    return _cut(_STACKED.sub(r"\1", seen).expandtabs(4).rstrip(), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def code(text: str, limit: int = CODE_LIMIT) -> str:
    """A code span that shows `text`, on one line, cut to `limit` characters; `*empty*` for nothing."""
    shown = line(text, limit)
    if not shown.strip():
        return "*empty*"
    marks = "`" * (longest_run(shown) + 1)
    room = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{marks}{room}{shown}{room}{marks}"


def cell(text: str, limit: int = CODE_LIMIT) -> str:
    """`code`, for a cell of a table, where a pipe would end the cell even inside code."""
    # A backslash before the pipe would take the pipe's own away, and how many are left differs between parsers.
    piped = re.sub(r"(\\*)\|", lambda m: m[1] + "\u2223" if m[1] else r"\|", line(text, limit))
    return code(piped, limit=2 * limit)


def inline(text: str, limit: int = INLINE_LIMIT) -> str:
    """`text` as prose on one line: plain words as they are, everything else in code, as is what stands between `…`."""
    shown = ""
    for piece in prose.pieces(unicodedata.normalize("NFC", line(text, limit))):
        written = code(piece.text, limit=len(piece.text) + 1) if piece.code else _entities(piece.text)
        # Backquotes that touch would be others.
        gap = "" if not shown or (piece.glued and not (piece.code and shown[-1] == "`")) else " "
        shown += gap + written
    return shown


def _entities(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def fence(lines: Iterable[str], info: str = "") -> str:
    """A block of code that shows the lines; `info` is a word of ours, such as `sh`."""
    shown = [line(each) for each in lines]
    marks = "`" * max(3, max(map(longest_run, shown), default=0) + 1)
    return "\n".join((marks + info, *shown, marks))


def longest_run(text: str) -> int:
    """How many backquotes stand side by side, at most."""
    return max(map(len, re.findall("`+", text)), default=0)


def link(label: str, url: str) -> str:
    """A link with a label that is Markdown already; the label alone where `url` is no web address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return label
    shown = _INVISIBLE.sub("", plain(url)).encode(errors="replace")
    return f"[{label}](<{quote(shown, safe=_URL_SAFE)}>)"


_URL_SAFE = "/:?=&%@+,;~#[]!$*'()-._"


def shell(value: str) -> str:
    """`value` as one word of a shell's command line, on one line and without characters that cannot be seen.

    What needs it is written as `$'…'`, which bash, zsh and POSIX.1-2024 read.
    """
    if line(value, limit=len(value) + 1) == value:
        return shlex.quote(value)
    return "$'" + "".join(_escaped(each) for each in value) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    # A byte that was no UTF-8 when it was read is that byte again.
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", errors))


def alert(kind: str, paragraphs: Iterable[str]) -> str:
    """GitHub's coloured box; `kind` is NOTE, TIP, IMPORTANT, WARNING or CAUTION, paragraphs are Markdown."""
    body = "\n\n".join(paragraphs)
    return "\n".join((f"> [!{kind}]", *(f"> {each}".rstrip() for each in body.split("\n"))))


def details(summary: str, body: str, *, is_open: bool = False) -> str:
    """A part that unfolds; `summary` is text of ours, `body` is Markdown."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{summary}</summary>\n\n{body}\n\n</details>"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, align: str = "") -> str:
    """A table of cells that are Markdown already; `align` has a letter for each column: l, r or c."""
    lines = {"l": ":--", "r": "--:", "c": ":-:"}
    rule = [lines[each] for each in align] or ["---"] * len(head)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, tuple(rule), *rows))
