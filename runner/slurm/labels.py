"""Labels of a host, such as `pool: lab` -> features of Slurm, such as `pool_lab`, and back."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# Slurm gives a meaning to most signs within a constraint; these are free of one.
_PLAIN = re.compile(r"[A-Za-z0-9-]", re.ASCII)
# Two underlines: no label has them.
GPU = "gpu__"
_CHOICE = re.compile(r"\[[\w.-]+(?:\|[\w.-]+)*\]", re.ASCII)
_MORE_THAN_A_LIST = re.compile(r"[|*!()\[\]]")
_FEATURE = re.compile(r"(?:[A-Za-z0-9-]|\.[0-9a-f]{2})+_(?:[A-Za-z0-9-]|\.[0-9a-f]{2})*", re.ASCII)


def feature(name: str, value: str) -> str:
    """The feature that stands for a label: no two labels have the same one, `pool: lab` is `pool_lab`."""
    return f"{_escaped(name)}_{_escaped(value)}"


def label(text: str) -> tuple[str, str] | None:
    """The name and value that a feature stands for; None for one that stands for no label."""
    if _FEATURE.fullmatch(text) is None:
        return None
    name, _, value = text.partition("_")
    return _plain(name), _plain(value)


def of_gpu(kind: str) -> str:
    """The feature of hosts all of whose GPUs are of that type."""
    return GPU + kind


def constraint(features: Iterable[str], kinds: Sequence[str]) -> str:
    """What `--constraint` says of hosts with all of the `features`, and the same one of the `kinds`; empty for any."""
    return "&".join((*features, *([f"[{'|'.join(kinds)}]"] if kinds else ())))


def satisfied(constraint: str, features: Collection[str]) -> bool:
    """Whether a host with these features could do; True as well for what Slurm alone understands."""
    words = _words(constraint)
    choices = [word[1:-1].split("|") for word in words if _CHOICE.fullmatch(word)]
    plain = {word for word in words if not _CHOICE.fullmatch(word)}
    if any(_MORE_THAN_A_LIST.search(word) for word in plain):
        return True
    return plain <= set(features) and all(set(features) & set(each) for each in choices)


def alternatives(constraint: str) -> tuple[str, ...]:
    """What a constraint comes to, once for each of the kinds that it leaves open: all hosts of a job meet one of these.

    To count hosts that meet the constraint each by itself tells too many.
    """
    words = ([word] if not _CHOICE.fullmatch(word) else word[1:-1].split("|") for word in _words(constraint))
    return tuple("&".join(each) for each in product(*words))


def _words(constraint: str) -> list[str]:
    return [word for word in re.split(r"[&,]", constraint) if word]


def named(text: str) -> str:
    """A feature as train.yml writes the label, `pool: lab`; types of GPU by name; one that stands for none as it is."""
    if _CHOICE.fullmatch(text) and GPU in text:
        return " or ".join(each.removeprefix(GPU) for each in text[1:-1].split("|"))
    told = label(text)
    return f"{told[0]}: {told[1]}" if told else text


def _escaped(text: str) -> str:
    return "".join(
        each if _PLAIN.fullmatch(each) else "".join(f".{byte:02x}" for byte in each.encode()) for each in text
    )


def _plain(text: str) -> str:
    return re.sub(rb"\.([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode()).decode(
        errors="replace"
    )
