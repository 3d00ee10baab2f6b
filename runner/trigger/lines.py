"""The Markdown of a comment -> the lines that its author says in so many words: no quotes, no code, no HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# Elements that GitHub shows in another way than plain text, and that stay open until they are closed.
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>a|blockquote|code|del|details|dl|h[1-6]|ins|kbd|ol|pre|q|s|samp|strike|summary|table|tt|ul|var)"
    r"(?=[\s/>])",
    re.IGNORECASE,
)
_FOOTNOTE = re.compile(r"\[\^[^\]\s]+\]:")


def plain_lines(body: str) -> tuple[str, ...]:
    """The lines of paragraphs that stand in nothing else, in their order, without blanks at either end.

    Left out are headings, lists, tables, footnotes, mathematics, and lines within a code span, a link, struck-out text
    or HTML, also where an element such as <details> is opened before them and closed after. Never raises; takes about
    a second for the worst that GitHub's 65,536 characters can hold. https://github.github.com/gfm/
    """
    found: list[str] = []
    html: Counter[str] = Counter()
    tokens = _parser().parse(body.removeprefix("\ufeff"))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "html_block":
            _follow(html, token.content)
        elif token.type == "inline":
            counts = before is not None and before.type == "paragraph_open" and before.level == 0
            found += [line for line in _lines(token, html) if counts]
    return tuple(found)


def _lines(paragraph: Token, html: Counter[str]) -> Iterator[str]:
    """The lines of a paragraph that start in plain text; `html` follows the elements that are open."""
    starts = [] if html.total() else [0]
    depth = 0
    for child in paragraph.children or []:
        if child.type == "html_inline":
            _follow(html, child.content)
        elif child.type in {"link_open", "s_open"}:
            depth += 1
        elif child.type in {"link_close", "s_close"}:
            depth -= 1
        elif "newline" in child.meta and not depth and not html.total():
            starts.append(child.meta["newline"] + 1)
    text = paragraph.content
    for start in starts:
        end = text.find("\n", start)
        yield text[start : end if end >= 0 else len(text)].strip()


def _follow(html: Counter[str], content: str) -> None:
    for tag in _TAG.finditer(_COMMENT.sub("", content)):
        name = tag["name"].lower()
        if not tag["end"]:
            html[name] += 1
        elif html[name]:
            html[name] -= 1


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import escape, newline

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.inline.ruler.at("newline", _noting(newline))
    parser.inline.ruler.at("escape", _noting(escape))
    parser.block.ruler.before("reference", "apart", _apart, {"alt": ["paragraph", "reference"]})
    return parser


def _noting(rule: Callable[[StateInline, bool], bool]) -> Callable[[StateInline, bool], bool]:
    """`rule`, with the place of the newline written on the break that it makes."""

    def noting(state: StateInline, silent: bool) -> bool:
        at = state.pos
        found = rule(state, silent)
        if found and not silent and state.tokens and state.tokens[-1].type in {"softbreak", "hardbreak"}:
            state.tokens[-1].meta["newline"] = state.src.index("\n", at)
        return found

    return noting


def _apart(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Footnotes, to the next empty line, and `$$` blocks, to the closing one: GitHub has them, CommonMark has not."""

    def text(line: int) -> str:
        return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]

    first = text(start)
    if _FOOTNOTE.match(first):
        last = next((line - 1 for line in range(start + 1, end) if state.isEmpty(line)), end - 1)
    elif first.startswith("$$"):
        closed = first[2:].rstrip().endswith("$$")
        last = start if closed else _closing(text, start, end)
    else:
        return False
    if last < start:
        return False
    if not silent:
        state.line = last + 1
    return True


def _closing(text: Callable[[int], str], start: int, end: int) -> int:
    """The line that ends a `$$` block; -1 where none does."""
    return next((line for line in range(start + 1, end) if text(line).rstrip().endswith("$$")), -1)
