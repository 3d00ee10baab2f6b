"""A line as people type it, on phones too -> its words by the rules of a shell, and what was wrong with it."""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import dataclass

_JOINERS = "\u200c\u200d"  # parts of words in some scripts, and of emoji
_DASHES = "\u2012\u2013\u2014\u2015"
_CURLY = {"\u201c": "\u201d\u201c\u201f", "\u201d": "\u201d\u201c", "\u201e": "\u201c\u201d\u201f"}
_CURLY |= {"\u2018": "\u2019", "\u201a": "\u2018\u2019"}

_CURLED = "quotes have to be straight ones"
_DASHED = "an option starts with two hyphens"
_HIDDEN = "there are invisible characters in it"
_CONTROL = "there are control characters in it"
_OPEN = "a quote is opened and not closed"


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of a line, once `problems` are mended; None where nobody can tell what they would be."""

    words: tuple[str, ...] | None
    problems: tuple[str, ...]


def split(text: str) -> Words:
    """The words of `text`, which is one line. Any blank of Unicode separates them. Never raises."""
    printable = "".join(char for char in text if not _controls(char))
    return _split(printable, () if printable == text else (_CONTROL,))


def _split(text: str, known: tuple[str, ...]) -> Words:
    mended, found, opened = _straightened(text)
    problems = tuple(dict.fromkeys((*known, *found, *([_OPEN] if opened is not None else []))))
    if opened is not None:
        if text[opened] == "'" and text[opened - 1 : opened].isalnum():  # don't
            return _split(f"{text[:opened]}\\{text[opened:]}", problems)
        mended += text[opened]
    try:
        return Words(words=tuple(shlex.split(mended)), problems=problems)
    except ValueError:  # shlex has no other reason left
        return Words(words=None, problems=(*problems, "a backslash stands at the end"))


def _controls(char: str) -> bool:
    return char != "\t" and unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}


def quoted(word: str) -> str:
    """`word` so that `split` gives it back, with as few quotes as may be; of name=value the value is quoted."""
    name, equals, value = word.partition("=")
    if equals and value and shlex.quote(name) == name:
        return f"{name}={_quoted(value)}"
    return _quoted(word)


def _quoted(text: str) -> str:
    safe = shlex.quote(text)
    return f'"{text}"' if safe != text and not set('"\\') & set(text) else safe


def _straightened(text: str) -> tuple[str, list[str], int | None]:
    """The line with its typography undone, what that was, and where a quote was opened that is not closed."""
    out: list[str] = []
    problems: list[str] = []
    opened: int | None = None
    at = 0
    while at < len(text):
        char, length = text[at], 1
        if char == "\\" and (opened is None or text[opened] != "'"):
            piece, length = text[at : at + 2], 2
        elif opened is not None:
            piece, opened = char, None if char == text[opened] else opened
        elif char in "'\"":
            piece, opened = char, at
        else:
            piece, length, problem = _unquoted(text, at)
            problems += [problem] if problem else []
        out.append(piece)
        at += length
    return "".join(out), problems, opened


def _unquoted(text: str, at: int) -> tuple[str, int, str]:
    """What the text at `at`, outside of quotes, becomes; how much of it that is; what is wrong with it."""
    char, category = text[at], unicodedata.category(text[at])
    if char in _CURLY:
        return _uncurled(text, at)
    if category == "Zs":
        return " ", 1, ""
    if category == "Cf" and char not in _JOINERS:
        return "", 1, _HIDDEN
    if char in _DASHES and (at == 0 or text[at - 1].isspace()) and text[at + 1 : at + 2].isalpha():
        return "--", 1, _DASHED
    return char, 1, ""


def _uncurled(text: str, at: int) -> tuple[str, int, str]:
    """A value in typographic quotes, in straight ones. U+2019 alone opens none: it is an apostrophe."""
    ends = [text.find(end, at + 1) for end in _CURLY[text[at]]]
    end = min((each for each in ends if each >= 0), default=len(text.rstrip()))
    inner = text[at + 1 : end].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{inner}"', end + 1 - at, _CURLED
