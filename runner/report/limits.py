"""Parts of a text, with shorter forms of each -> one text that fits; whole parts go, so no Markdown is ever cut.

GitHub's limits: 65,536 characters for a comment, 65,535 for a field of a check, 1 MiB for the summary of a step.
They are counted here in bytes of UTF-8, of which there are never fewer than of any other kind of character.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COMMENT_BYTES = 65_536
CHECK_BYTES = 65_535
SUMMARY_BYTES = 1_048_576

_GAP = "\n\n"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A block of Markdown that stands by itself: `forms` from the longest to the shortest, the last may be empty.

    `keep` says what goes last: of two parts the one with less is shortened first. `name` is what is said to be
    shortened or left out, in the plural, such as `log lines`.
    """

    name: str
    keep: int
    forms: tuple[str, ...]


def part(name: str, keep: int, *forms: str) -> Part:
    """A part that may be left out altogether."""
    return Part(name=name, keep=keep, forms=(*(form for form in forms if form), ""))


def must(text: str) -> Part:
    """A part that is never left out, unless it does not fit even alone; it has to be short by itself."""
    return Part(name="", keep=2**31, forms=(text,))


def fit(parts: Sequence[Part], limit_bytes: int, *, elsewhere: str) -> str:
    """The parts in their order, separated by blank lines, in at most `limit_bytes` of UTF-8.

    Where something had to go a last line names it and says `elsewhere`: where all of it is to be found.
    """
    chosen = [0] * len(parts)
    order = sorted(range(len(parts)), key=lambda at: parts[at].keep)
    sizes = [[len(form.encode()) for form in each.forms] for each in parts]
    while _size(sizes, chosen, _left_out(parts, chosen, elsewhere)) > limit_bytes:
        shortened = next((at for at in order if chosen[at] + 1 < len(parts[at].forms)), None)
        if shortened is None:
            return _first_that_fit(parts, limit_bytes)
        chosen[shortened] += 1
    texts = [each.forms[form] for each, form in zip(parts, chosen, strict=True)]
    return _GAP.join(text for text in (*texts, _left_out(parts, chosen, elsewhere)) if text)


def _size(sizes: Sequence[Sequence[int]], chosen: Sequence[int], last: str) -> int:
    shown = [each[form] for each, form in zip(sizes, chosen, strict=True) if each[form]]
    shown += [len(last.encode())] * bool(last)
    return sum(shown) + len(_GAP) * max(0, len(shown) - 1)


def _left_out(parts: Sequence[Part], chosen: Sequence[int], elsewhere: str) -> str:
    cut = [each.name for each, form in zip(parts, chosen, strict=True) if form and each.name]
    return (
        f"<sub>Shortened to GitHub's limit: {', '.join(dict.fromkeys(cut))}. {elsewhere}</sub>" if cut else ""
    )


def _first_that_fit(parts: Sequence[Part], limit_bytes: int) -> str:
    """The shortest forms, as many of the first as fit: for limits that no real text comes near to."""
    texts: list[str] = []
    for each in parts:
        longer = [*texts, each.forms[-1]] if each.forms[-1] else texts
        if len(_GAP.join(longer).encode()) <= limit_bytes:
            texts = longer
    return _GAP.join(texts)
