"""The body of a comment -> the commands in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from runner.quantities import shown
from runner.trigger.lines import plain_lines
from runner.trigger.slips import NAME, SHA, SUBCOMMANDS, mended
from runner.trigger.words import quoted, split

MOST = 10
MOST_WORDS = 100

_ENGINE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_VERSION = re.compile(r"v?((?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8})){2})")


@dataclass(frozen=True, kw_only=True)
class Train:
    """`/train [SHA] [name=value …] [--engine x] [--fresh]`; `line` is the text as it was written, as is `sha`.

    `overrides` are name=value, with the value as it was meant, any blanks included.
    """

    line: str
    sha: str | None
    overrides: tuple[str, ...]
    engine: str | None
    fresh: bool


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """`/train cancel`: the runs of this pull request that go on."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """`/train status`."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Help:
    """`/train help`."""

    line: str


@dataclass(frozen=True, kw_only=True)
class Promote:
    """`/promote NAME@VERSION STAGE`; `version` without its v."""

    line: str
    model: str
    version: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A command that cannot be read: what is wrong, and the line to type instead (empty where none suggests itself)."""

    line: str
    message: str
    tip: str


Command = Train | Cancel | Status | Help | Promote | Mistake


def commands(body: str, *, word: str = "/train") -> tuple[Command, ...]:
    """The commands of a comment in their order; those in quotes, code and HTML are none. Never raises.

    A command is a line whose first word is exactly `word` or `/promote`; its words are split and quoted as in a shell.
    The word in capitals, or in the wide letters of some keyboards, is a Mistake. So is a comment of more than ten
    commands, as one: nobody writes so many by hand.
    """
    starts = (word, "/promote")
    if not any(start in _folded(body) for start in starts):
        return ()
    lines = [line for line in plain_lines(body) if _folded(_first_word(line)) in starts]
    if len(lines) > MOST:
        return (Mistake(line=lines[0], message=f"{len(lines)} commands in one comment are too many", tip=""),)
    return tuple(_command(line, word) for line in lines)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _first_word(line: str) -> str:
    return next(iter(line.split(maxsplit=1)), "")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The words of a command: `words` as they were meant, `problems` with how they were written."""

    line: str
    start: str
    words: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def corrected(self) -> str:
        return " ".join([self.start, *(quoted(word) for word in self.words)])

    def mistake(self, problem: str = "", *, tip: str = "") -> Mistake:
        message = "; ".join([*self.problems[:5], *([problem] if problem else [])])
        return Mistake(line=self.line, message=message, tip=tip)


def _command(line: str, word: str) -> Command:
    first = _first_word(line)
    start = _folded(first)
    read = split(line[len(first) :])
    problems = read.problems if first == start else (f"{shown(first)} is written `{start}`", *read.problems)
    if read.words is None or len(read.words) > MOST_WORDS:
        problem = "" if read.words is None else f"{len(read.words)} words are too many"
        return _Asked(line=line, start=start, words=(), problems=problems).mistake(problem)
    reader, mend = (_train, mended) if start == word else (_promote, _promote_mended)
    words, slips = mend(read.words)
    asked = _Asked(line=line, start=start, words=words, problems=(*problems, *slips))
    found = reader(asked)
    if isinstance(found, Mistake) or not asked.problems:
        return found
    return asked.mistake(tip=asked.corrected)


def _train(asked: _Asked) -> Command:
    words = asked.words
    if words and words[0] in SUBCOMMANDS:
        kinds: dict[str, type[Cancel | Status | Help]] = {"cancel": Cancel, "status": Status, "help": Help}
        return kinds[words[0]](line=asked.line)
    sha = words[0] if words and SHA.fullmatch(words[0]) else None
    pairs, engines, fresh, problem = _sorted(words[1:] if sha else words)
    if problem:
        return asked.mistake(problem, tip=f"{asked.start} help")
    return Train(
        line=asked.line, sha=sha, overrides=pairs, engine=engines[0] if engines else None, fresh=fresh
    )


def _sorted(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], bool, str]:
    """Inputs, engines, whether it is to be fresh, and what is wrong with the first word that cannot be read."""
    pairs: list[str] = []
    engines: list[str] = []
    problem = ""
    rest = iter(words)
    for word in rest:
        if word == "--engine" or word.startswith("--engine="):
            engines.append(next(rest, "") if word == "--engine" else word.removeprefix("--engine="))
        elif word != "--fresh":
            pairs.append(word)
            problem = problem or _no_pair(word)
    if len(engines) > 1 or not all(_ENGINE.fullmatch(engine) for engine in engines):
        problem = problem or "--engine takes the name of one engine, such as docker"
    return tuple(pairs), tuple(engines), "--fresh" in words, problem


def _no_pair(word: str) -> str:
    name, equals, _ = word.partition("=")
    if not equals:
        return f"{shown(word)} is neither a commit (7 to 40 digits of its id, at the front) nor name=value"
    return "" if NAME.fullmatch(name) else f"{shown(name)} cannot be the name of an input"


def _promote(asked: _Asked) -> Command:
    model, _, version = asked.words[0].partition("@") if asked.words else ("", "", "")
    number = _VERSION.fullmatch(version)
    form = f"`{asked.start} NAME@VERSION STAGE`"
    if not model or len(asked.words) > 2:
        return asked.mistake(f"expected {form}, such as `{asked.start} digits@1.2.0 production`")
    if not _MODEL.fullmatch(model):
        return asked.mistake(f"{shown(model)} cannot be the name of a model; expected {form}")
    if number is None:
        wrong = f"{shown(version)} is no version" if version else "the version is missing"
        return asked.mistake(f"{wrong}; expected {form}, such as `{asked.start} {model}@1.2.0 production`")
    if len(asked.words) == 1:
        tip = f"{asked.corrected} production" if not asked.problems else ""
        return asked.mistake(f"the stage is missing; expected {form}", tip=tip)
    if not _MODEL.fullmatch(asked.words[1]):
        return asked.mistake(f"{shown(asked.words[1])} cannot be the name of a stage; expected {form}")
    return Promote(line=asked.line, model=model, version=number[1], stage=asked.words[1])


def _promote_mended(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`NAME VERSION STAGE` and `NAME@VERSION to STAGE` as they should be."""
    kept = tuple(word for word in words if word not in {"to", "as", "->", "=>", "\u2192"})
    problems = ("the stage follows the version",) if kept != tuple(words) else ()
    if len(kept) == 3 and "@" not in kept[0] and _VERSION.fullmatch(kept[1].removeprefix("@")):
        kept = (f"{kept[0]}@{kept[1].removeprefix('@')}", kept[2])
        problems = (*problems, "the version follows the name and an @")
    return kept, problems
