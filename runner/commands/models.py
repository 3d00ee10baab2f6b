"""`pushtrain models … | promote | rollback`: the model registry."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runner.commands.shop import console, shelf
from runner.errors import ModelError

if TYPE_CHECKING:
    import argparse


def listing(asked: argparse.Namespace) -> int:
    """Print every model with its latest version and its stages. Raises ModelError where one cannot be read."""
    from runner import models
    from runner.report import tables

    place = shelf(asked)
    rows, faults = [], []
    for name in place.names():
        try:
            rows.append((models.find(place, name), models.stages(place, name)))
        except ModelError as error:
            faults.append(error)
    tables.models(console(), rows)
    if faults:
        raise ModelError("\n".join(str(fault) for fault in faults), tip=faults[0].tip)
    return 0


def show(asked: argparse.Namespace) -> int:
    """Print one version: files, lineage and stages."""
    from runner import models
    from runner.report import tables

    place = shelf(asked)
    version = models.find(place, asked.model)
    others = place.numbers(version.name)
    tables.model(
        console(),
        version,
        stages=models.stages(place, version.name),
        versions=others,
        option=models.option(place),
    )
    return 0


def download(asked: argparse.Namespace) -> int:
    """Copy a version's files here, every digest verified."""
    from runner import models

    place = shelf(asked)
    version = models.find(place, asked.model)
    folder = models.download(place, version, Path(asked.destination or version.name))
    print(f"{version.name}@{version.version} is in {folder}, every digest verified")
    return 0


def promote(asked: argparse.Namespace) -> int:
    """Give a stage to a version."""
    from runner import models

    place = shelf(asked)
    version = models.find(place, asked.model)
    standing = models.stages(place, version.name).get(asked.stage)
    promotion = models.promote(
        place,
        version.name,
        version.version,
        asked.stage,
        by=getpass.getuser(),
        at_s=time.time(),
        expected=standing.n if standing is not None else 0,
    )
    print(f"{promotion.tag}: {version.name}@{promotion.version} is {asked.stage}")
    return 0


def rollback(asked: argparse.Namespace) -> int:
    """Give a stage back to the version before."""
    from runner import models

    place = shelf(asked)
    promotion = models.rollback(place, asked.model, asked.stage, by=getpass.getuser(), at_s=time.time())
    print(f"{promotion.tag}: {promotion.name}@{promotion.version} is {asked.stage} again")
    return 0
