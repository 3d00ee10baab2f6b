"""`pushtrain data | schema`: what comes before a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.shop import console, workshop
from runner.commands.transfer import bar
from runner.errors import UsageError

if TYPE_CHECKING:
    import argparse


def schema(_: argparse.Namespace) -> int:
    """Print the JSON Schema of train.yml."""
    from runner import schema as schemas

    print(json.dumps(schemas.generate(), indent=2))
    return 0


def data(asked: argparse.Namespace) -> int:
    """List registered data sets, or register a path as the next version of one."""
    from runner.datasets import contents, registered
    from runner.report import tables

    store = workshop(asked).store
    if not asked.add:
        tables.datasets(console(), registered.versions(store))
        return 0
    if len(asked.add) != 3 or asked.add[0] != "add":
        raise UsageError("expected: data add NAME PATH", tip="pushtrain data add mnist ./mnist")
    name, path = asked.add[1], Path(asked.add[2])
    with bar(sum(file.seen.size_bytes for file in contents.listed(path))) as advance:
        version = registered.register(store, name, path, progress=advance)
    print(version)
    print(f"in train.yml: datasets: {{{name}: {{source: {version}}}}}")
    return 0
