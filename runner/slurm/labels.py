"""Labels of a host, such as `pool: lab` -> features of Slurm, such as `pool_lab`, and back."""

from __future__ import annotations

import re

# Slurm gives a meaning to most signs within a constraint; these are free of one.
_PLAIN = re.compile(r"[A-Za-z0-9-]", re.ASCII)
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


def named(text: str) -> str:
    """A feature as train.yml writes the label, `pool: lab`; one that stands for none as it is."""
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
