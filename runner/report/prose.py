"""A sentence on one line -> its pieces: plain words, and what is to be shown as code: pure.

Whatever is no plain word is code: it might mean something to Markdown or to GitHub. So is what stands between `…`,
and a command with its arguments. The sentence's own brackets and punctuation stay outside of the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

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
_PUNCTUATION = ".,;:!?)"

_COMMAND = re.compile(
    r"""(?: pushtrain\ (?:run|runs|show|logs|outputs|compare|cancel|resume|check|plan|init|schema|engines|data|models
                         |promote|gc|github|doctor|--help)
          | git\ (?:-C|add|checkout|clone|commit|config|fetch|fsck|lfs|pull|push|show|status|submodule|tag)
          | docker\ (?:info|login|network|ps|pull|system) | gh\ (?:api|auth|release)
          | (?:sudo|apt-get|apt-cache)\ [a-z] | pip\ install | uv\ python | python3?\ -m | aws\ s3
          | curl\ -\S | df\ -\S | ls\ (?:-\S|\S*/) | export\ \w+=
        )""",
    re.VERBOSE,
)
_ENDS_COMMAND = re.compile(
    "after|again|and|are|as|at|before|brings|by|for|from|has|have|if|in|is|makes|of|on|once|or|shows|then|to|until|was|"
    "when|while|with|would"
)
_ARTICLES = frozenset(("a", "an", "the", "another", "no"))
_OPTION = re.compile(r"--?[A-Za-z][\w-]*")
_NAMED_BY_WORD = frozenset(("--engine", "--state"))
_PLACEHOLDER = re.compile(r"[A-Z]{2,}[,;:.!?)]*|[A-Z][,;:.!?)]*(?!\w)")
_KEY = re.compile(r"\(?[\w.-]+:")
_MOST_JOINED = 20


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Text, whether it is code, and whether it touches the piece before it."""

    text: str
    code: bool
    glued: bool = False


def pieces(text: str) -> Iterator[Piece]:
    """The pieces of one line, none of them empty."""
    parts = re.split("`([^`]+)`", text)
    for at, part in enumerate(parts):
        touches = at > 0 and bool(parts[at - 1]) and not parts[at - 1][-1].isspace()
        if at % 2:
            yield Piece(text=part, code=True, glued=touches)
            continue
        for number, piece in enumerate(_prose(part.split(), first=not at)):
            touching = touches and not number and not part[0].isspace()
            yield Piece(text=piece.text, code=piece.code, glued=piece.glued or touching)


def _prose(words: Sequence[str], *, first: bool) -> Iterator[Piece]:
    at = 0
    while at < len(words):
        if taken := _taken(words, at):
            yield from _spanned(" ".join(words[at : at + taken]))
            at += taken
        else:
            end = next((n for n in count(at + 1) if n >= len(words) or _taken(words, n)), at + 1)
            at, begun = end, at
            yield from _plainly(words[begun:end], first=first and not begun)


def _plainly(words: Sequence[str], *, first: bool) -> Iterator[Piece]:
    """Words that are no command: those that are not plain side by side are one span, unless punctuation parts them."""
    plain: list[str] = []
    odd: list[str] = []
    for at, word in enumerate(words):
        if _is_plain(word, first=first and not at):
            yield from _flushed(odd)
            plain.append(word)
            continue
        if plain:
            yield Piece(text=" ".join(plain), code=False)
            plain.clear()
        if odd and (_parted(odd[-1])[2] or _parted(word)[0]):
            yield from _flushed(odd)
        odd.append(word)
    yield from _flushed(odd)
    if plain:
        yield Piece(text=" ".join(plain), code=False)


def _flushed(odd: list[str]) -> Iterator[Piece]:
    if odd:
        yield from _spanned(" ".join(odd))
        odd.clear()


def _spanned(text: str) -> Iterator[Piece]:
    """A span of code, with the sentence's own punctuation around it."""
    lead, core, tail = _parted(text)
    if lead:
        yield Piece(text=lead, code=False)
    yield Piece(text=core, code=True, glued=bool(lead))
    if tail:
        yield Piece(text=tail, code=False, glued=True)


def _parted(text: str) -> tuple[str, str, str]:
    """Brackets and punctuation of the sentence, what stands between, and what follows it."""
    core = text.lstrip("(") or text
    lead = text[: len(text) - len(core)]
    opened = core.count("(") - core.count(")")
    end = len(core)
    while end and core[end - 1] in _PUNCTUATION:
        if core[end - 1] == ")":
            if opened >= 0:
                break
            opened += 1
        end -= 1
    return (lead, core[:end], core[end:]) if end else ("", text, "")


def _is_plain(word: str, *, first: bool) -> bool:
    """Whether the word means nothing to Markdown or to GitHub, wherever it stands."""
    if word in _SIGNS or not word.strip(".,;:!?()"):
        return not first
    if _LOOKS_LIKE_COMMIT.search(word) or (first and _LIST_ITEM.match(word)):
        return False
    return _WORD.fullmatch(word) is not None


# Several words that are one piece of code


def _taken(words: Sequence[str], at: int) -> int:
    """How many words from here on are a command, an option with its value, or code in brackets or quotes; 0 if none."""
    return _command(words, at) or _option(words, at) or _enclosed(words, at)


def _command(words: Sequence[str], at: int) -> int:
    begins = " ".join(words[at : at + 2]).lstrip("(")
    if not _COMMAND.match(begins) or (at and words[at - 1].lower() in _ARTICLES):
        return 0
    end = at
    while end < len(words) and not _ENDS_COMMAND.fullmatch(words[end]):
        end += _enclosed(words, end) or 1
        if _ends(words, end):
            break
    return end - at


def _option(words: Sequence[str], at: int) -> int:
    if not _OPTION.fullmatch(words[at].lstrip("(")):
        return 0
    end = at + 1
    while end < len(words) and not _ends(words, end):
        word = words[end]
        values = word == "|" or words[end - 1] in _NAMED_BY_WORD or words[end - 1] == "|"
        if not (values or _PLACEHOLDER.fullmatch(word) or not _is_plain(word, first=False)):
            break
        end += 1
    return end - at


def _ends(words: Sequence[str], end: int) -> bool:
    """Whether the sentence's punctuation follows the word before `end`; a point in a command is no end of it."""
    tail = _parted(words[end - 1])[2]
    return bool(tail.strip(".")) or (bool(tail) and end == len(words))


def _enclosed(words: Sequence[str], at: int) -> int:
    """`key: {a: 1}`, `{a: 1}`, `${{ x }}`, `NAME=$(a command)`, `'two words'`."""
    begin = at
    if (
        _KEY.fullmatch(words[at])
        and at + 1 < len(words)
        and re.match(r"[{]|\[(?!Errno)|\$\{\{", words[at + 1])
    ):
        begin = at + 1
    opened = _still_open("", words[begin])
    for end in range(begin + 1, min(len(words), begin + _MOST_JOINED) + 1):
        if not opened:
            whole = begin > at or end - begin > 1
            return end - at if whole and not _all_plain(words[begin:end]) else 0
        if end < len(words):
            opened = _still_open(opened, words[end])
    return 0


def _all_plain(words: Sequence[str]) -> bool:
    return all(_is_plain(word, first=False) for word in words)


def _still_open(opened: str, word: str) -> str:
    """The quotes and brackets that are open behind a word, where `opened` are before it."""
    if not opened and not re.match(r"""\(*["'{[$]|\w+=["'$]|\S*\{\S*$""", word):
        return ""
    for at, char in enumerate(word):
        if opened.endswith(("'", '"')):
            opened = opened[:-1] if char == opened[-1] else opened
        elif char in "{[" or (char == "(" and word[at - 1 : at] == "$"):
            opened += {"{": "}", "[": "]", "(": ")"}[char]
        elif char in "'\"" and (at == 0 or word[at - 1] in "(=,{["):
            opened += char
        elif opened and char == opened[-1]:
            opened = opened[:-1]
    return opened
