"""Markdown as GitHub's own parser (cmark-gfm) and another one render it, and what then stands outside of code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import cmarkgfm
from cmarkgfm.cmark import Options
from markdown_it import MarkdownIt

_CODE = frozenset({"code", "pre"})
# What GitHub looks for in rendered text: people, teams, issues, commits, addresses, emoji, formulas, footnotes.
_OBEYED = re.compile(
    r"@\w|#\d|\bGH-\d|(?<![\w.])[0-9a-fA-F]{7,40}\b|://|\bwww\.|:\w[\w+-]*:|\$|\[\^|\[!|\[x?\s?\]|<!--|<\w|</|\\[a-z]|[~*_]{2}"
)


@dataclass
class Seen(HTMLParser):
    """What a page shows: its elements, its comments, its links, the text within code and the text outside of it."""

    elements: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    prose: list[str] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)
    depth: int = 0

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += 1
        if tag in _CODE:
            self.depth += 1
            if tag == "code":
                self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        self.depth -= tag in _CODE

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self.depth:
            self.codes[-1] += data
        else:
            self.prose.append(data)

    @property
    def obeyed(self) -> list[str]:
        """What GitHub would take for more than text."""
        return [found for text in self.prose for found in _OBEYED.findall(text)]


def by_github(markdown: str) -> Seen:
    """As cmark-gfm has it with all of GitHub's extensions, HTML let through."""
    options = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_FOOTNOTES
    render: Callable[..., str] = cmarkgfm.github_flavored_markdown_to_html
    return _seen(render(markdown, options=options))


def by_another(markdown: str) -> Seen:
    """As markdown-it has it."""
    return _seen(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def _seen(html: str) -> Seen:
    seen = Seen()
    seen.feed(html)
    seen.close()
    return seen


BOTH = (by_github, by_another)
