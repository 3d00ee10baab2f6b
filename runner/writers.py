"""The files that each rank wrote -> the sentences that say which files more than one rank wrote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from runner import decoding
from runner.agreement import ranks_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAMED_FILES = 3
MOST_SENTENCES = 20
SHOWN_CHARACTERS = 200
"""Of one path."""

# Files that several processes are meant to open: locks, compiled Python, the experiments of an MLflow file store.
HARMLESS = re.compile(r"(\.lock|\.pyc(\.\d+)?|(^|/)mlruns/([^/]+/)?meta\.yaml)$")


def written(lines: Iterable[str]) -> tuple[str, ...]:
    """The paths in a rank's `written`, such as `outputs/model.h5`, each once; unfinished lines are left out."""
    paths: dict[str, None] = {}
    for line in lines:
        try:
            paths[decoding.from_json(line, str)] = None
        except msgspec.DecodeError:
            continue
    return tuple(paths)


def shared_files(by_rank: Mapping[int, Iterable[str]]) -> tuple[str, ...]:
    """One sentence for each group of ranks that wrote the same files, in the order of ranks; cut after the first few.

    `by_rank` must hold ranks whose folders are one and the same, so not those with a folder of their own
    (`outputs.per_rank`), nor those of nodes that share no disk.
    """
    ranks: dict[str, list[int]] = {}
    for rank in sorted(by_rank):
        for path in dict.fromkeys(by_rank[rank]):
            ranks.setdefault(path, []).append(rank)
    groups: dict[tuple[int, ...], list[str]] = {}
    for path, writers in sorted(ranks.items()):
        if len(writers) > 1 and not HARMLESS.search(path):
            groups.setdefault(tuple(writers), []).append(path)
    named = sorted(groups.items())[:MOST_SENTENCES]
    more = len(groups) - len(named)
    told = tuple(_sentence(writers, paths) for writers, paths in named)
    return (*told, f"and {more} more groups of ranks wrote the same files") if more else told


def shown(path: str) -> str:
    """A name that need not be UTF-8 or printable, as text that can be saved and shown."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _cut(path: str) -> str:
    return shown(path if len(path) <= SHOWN_CHARACTERS else f"{path[:SHOWN_CHARACTERS]}…")


def _sentence(ranks: tuple[int, ...], paths: list[str]) -> str:
    named = paths[:NAMED_FILES]
    more = len(paths) - len(named)
    files = ", ".join(map(_cut, named)) + (f" and {more} more" if more else "")
    return (
        f"{ranks_named(ranks)} wrote the same {'file' if len(paths) == 1 else 'files'}: {files}; "
        f"write on rank 0 alone, {_cure(paths)}"
    )


def _cure(paths: list[str]) -> str:
    """Folders of their own are for outputs: logs are one folder, from which metrics are read."""
    if all(path.startswith("outputs/") for path in paths):
        return "put the rank's number into the name, or set `outputs.per_rank: true`"
    return "or put the rank's number into the name"
