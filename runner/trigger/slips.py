"""The words of a command as people get them wrong -> as they should be, and what was wrong: pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.document import closest
from runner.quantities import shown

SUBCOMMANDS = ("cancel", "status", "help")
OPTIONS = ("--engine", "--fresh")
SHA = re.compile(r"[0-9a-fA-F]{7,40}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

_PARAM = ("-p", "--param")
_MEANT = {"stop": "cancel", "abort": "cancel", "kill": "cancel", "--help": "help", "-h": "help", "?": "help"}
_SIMPLE = re.compile(r"[-+]?[0-9.][0-9.eE+-]*|true|false")
_NO_PAIR = "an input is set by name=value, without blanks"


@dataclass(frozen=True, kw_only=True)
class Slip:
    """The first `taken` words should be `words`; `problem` says what was wrong, empty where nothing was."""

    taken: int
    words: tuple[str, ...]
    problem: str = ""


def mended(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of `/train` as they were meant, and what was wrong with them; what nobody can mend stays."""
    whole = _subcommand(words)
    if whole is not None:
        return whole.words, (whole.problem,)
    fixed: list[str] = []
    problems: list[str] = []
    at = 0
    while at < len(words):
        slip = _first(words[at : at + 3])
        fixed += slip.words
        problems += [slip.problem] if slip.problem else []
        at += slip.taken
    return _commit_first(fixed, problems)


def _subcommand(words: Sequence[str]) -> Slip | None:
    if not words or tuple(words) in {(name,) for name in SUBCOMMANDS}:
        return None
    said = words[0].lower()
    meant = said if said in SUBCOMMANDS else _MEANT.get(said, "")
    if not meant and len(words) == 1 and "=" not in said and not said.startswith("-"):
        meant = closest(said, SUBCOMMANDS)
    if not meant:
        return None
    problem = f"{shown(words[0])} is no command" if words[0] != meant else f"{meant} stands alone"
    return Slip(taken=len(words), words=(meant,), problem=problem)


def _first(words: Sequence[str]) -> Slip:
    rules: tuple[Callable[[Sequence[str]], Slip | None], ...] = (
        _code,
        _link,
        _option,
        _slipped_option,
        _spaced,
        _colon,
        _bare,
    )
    return next((slip for rule in rules if (slip := rule(words))), Slip(taken=1, words=(words[0],)))


def _code(words: Sequence[str]) -> Slip | None:
    """`lr=0.1` in backquotes."""
    bare = words[0].strip("`")
    if not bare or not words[0].startswith("`"):
        return None
    return Slip(taken=1, words=(bare,), problem="backquotes are not part of a command")


def _link(words: Sequence[str]) -> Slip | None:
    """The address of a commit."""
    match = re.fullmatch(rf"https?://\S+/commits?/({SHA.pattern})/?", words[0])
    return Slip(taken=1, words=(match[1],), problem="a commit is named by its id alone") if match else None


def _option(words: Sequence[str]) -> Slip | None:
    """Options as they should be; `-p lr=0.1`, as on the command line, is lr=0.1."""
    word = words[0]
    if word == "--engine" and len(words) > 1:
        return Slip(taken=2, words=tuple(words[:2]))
    if word in _PARAM and len(words) > 1:
        return Slip(taken=2, words=(words[1],))
    if word in OPTIONS or word.startswith("--engine="):
        return Slip(taken=1, words=(word,))
    if word.startswith("--param="):
        return Slip(taken=1, words=(word.removeprefix("--param="),))
    return None


def _slipped_option(words: Sequence[str]) -> Slip | None:
    """`--engin x`, `-fresh`, `--lr=0.1`, `--lr 0.1` and `--augment`."""
    match = re.fullmatch(r"--?([A-Za-z_][A-Za-z0-9_-]*)(?:=(.*))?", words[0], re.DOTALL)
    if match is None or words[0] in _PARAM:
        return None
    name, value = match[1], match[2]
    meant = closest(name, ("engine", "fresh"))
    follows = len(words) > 1 and value is None and "=" not in words[1] and not words[1].startswith("--")
    if meant:
        written = f"--{meant}" if value is None or meant == "fresh" else f"--{meant}={value}"
        slip = (written, words[1]) if meant == "engine" and follows else (written,)
        return Slip(
            taken=len(slip), words=slip, problem=f"{shown(words[0])} is not known (did you mean --{meant}?)"
        )
    value = value if value is not None else words[1] if follows else "true"
    problem = f"{shown(words[0])} is no option; {_NO_PAIR}"
    return Slip(taken=2 if follows else 1, words=(f"{name}={value}",), problem=problem)


def _spaced(words: Sequence[str]) -> Slip | None:
    """`lr = 0.1`, `lr =0.1` and `lr= 0.1`."""
    name, rest = words[0], words[1:]
    if not rest:
        return None
    if NAME.fullmatch(name) and rest[0].startswith("="):
        value = rest[0][1:] or (rest[1] if len(rest) > 1 else "")
        taken = 2 if rest[0] != "=" or len(rest) == 1 else 3
        return Slip(taken=taken, words=(f"{name}={value}",), problem=_NO_PAIR)
    if (
        NAME.fullmatch(name[:-1])
        and name.endswith("=")
        and "=" not in rest[0]
        and not rest[0].startswith("--")
    ):
        return Slip(taken=2, words=(name + rest[0],), problem=_NO_PAIR)
    return None


def _colon(words: Sequence[str]) -> Slip | None:
    """`lr:0.1` and `lr: 0.1`."""
    name, colon, value = words[0].partition(":")
    if not colon or not NAME.fullmatch(name) or value.startswith("//"):
        return None
    if value:
        return Slip(taken=1, words=(f"{name}={value}",), problem=_NO_PAIR)
    if len(words) > 1 and "=" not in words[1]:
        return Slip(taken=2, words=(f"{name}={words[1]}",), problem=_NO_PAIR)
    return None


def _bare(words: Sequence[str]) -> Slip | None:
    """`lr 0.1`."""
    name = words[0]
    if len(words) == 1 or SHA.fullmatch(name) or not NAME.fullmatch(name) or not _SIMPLE.fullmatch(words[1]):
        return None
    return Slip(taken=2, words=(f"{name}={words[1]}",), problem=_NO_PAIR)


def _commit_first(fixed: list[str], problems: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    named = [
        at for at, word in enumerate(fixed) if SHA.fullmatch(word) and fixed[at - 1 : at] != ["--engine"]
    ]
    if len(named) == 1 and named[0] > 0:
        sha = fixed[named[0]]
        fixed = [sha, *fixed[: named[0]], *fixed[named[0] + 1 :]]
        problems = [*problems, "the commit comes first"]
    return tuple(fixed), tuple(dict.fromkeys(problems))
