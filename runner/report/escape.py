"""Text that a run wrote -> Markdown that shows it on GitHub and obeys none of it.

GitHub looks for mentions, issues, commits, addresses, emoji codes and formulas after Markdown was rendered, in all
text but code (https://github.com/github/cmark-gfm/issues/181: neither a backslash nor an entity hides an @). So
whatever is not a plain word is shown as code.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from urllib.parse import quote, urlsplit

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

_WORD = re.compile(
    r"""["'(]*
        (?: [^\W\d_]+ (?:['\u2019-][^\W\d_]+)*                      # a word, also with a hyphen
          | [-+\u2212]? \d+ (?:\.\d+)? (?:e[-+]?\d+)? %?            # a number
          | (?: \d+ (?:\.\d+)? [^\W\d_]{1,3} ){1,3} )              # a quantity, such as 1m5s
        ["')]* [.,;:!?\u2026]*""",
    re.VERBOSE,
)
_SIGNS = frozenset("-+=<>·→≥≤≠…±") | {"<=", ">=", "\u2013", "\u2014", "\u00d7", "\u2212"}
# Behind a point GitHub takes no digits for a commit.
_LOOKS_LIKE_COMMIT = re.compile(r"(?<![\w.])[0-9a-fA-F]{7,}")
_LIST_ITEM = re.compile(r"[-+\u2212]?\d+[.)]+|[-+]\d")
_TAIL = re.compile(r"[.,;:]+$")


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
    pieces = re.split("`([^`]+)`", unicodedata.normalize("NFC", line(text, limit)))
    parts: list[str] = []
    for at, piece in enumerate(pieces):
        parts += [code(piece, limit=len(piece) + 1)] if at % 2 else _prose(piece.split(), first=not at)
    return re.sub(r"(?<=`) (?=[.,;:!?]+(?: |$))", "", " ".join(parts))


def _prose(words: list[str], *, first: bool) -> Iterator[str]:
    kinds = [_is_plain(word, first=first and not at) for at, word in enumerate(words)]
    for is_plain, group in groupby(zip(words, kinds, strict=True), key=lambda pair: pair[1]):
        together = " ".join(word for word, _ in group)
        yield _entities(together) if is_plain else _spanned(together)


def _is_plain(word: str, *, first: bool) -> bool:
    """Whether the word means nothing to Markdown or to GitHub, wherever it stands."""
    if word in _SIGNS or not word.strip(".,;:!?()"):
        return not first
    if _LOOKS_LIKE_COMMIT.search(word) or (first and _LIST_ITEM.match(word)):
        return False
    return _WORD.fullmatch(word) is not None


def _entities(text: str) -> str:
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _spanned(text: str) -> str:
    """A code span, with the sentence's own punctuation behind it."""
    tail = _TAIL.search(text)
    core = text[: tail.start()] if tail else text
    return code(core, limit=len(core) + 1) + (tail[0] if tail else "") if core else code(text)


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
