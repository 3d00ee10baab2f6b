"""What must hold between the keys of a train.yml -> faults.

Read from plain data, so that no other fault of the file hides these.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from runner.document import Document
from runner.errors import Fault
from runner.placeholders import Reference
from runner.spec.sections import Resources, TensorflowDistribution

_BESIDE_IMAGE = ("base", "python", "apt", "pip", "conda", "dockerfile", "build_secrets")
_BESIDE_DOCKERFILE = ("base", "python", "apt", "pip", "conda")


def check(document: Document) -> tuple[Fault, ...]:
    """Every contradiction between keys, each at the line to change."""
    if not isinstance(document.data, dict):
        return ()
    rules = (_command, _environment, _cluster, _metrics, _release, _variables)
    return tuple(fault for rule in rules for fault in rule(document))


def _section(document: Document, key: str = "") -> dict[str, object]:
    data = document.data if isinstance(document.data, dict) else {}
    section = data.get(key) if key else data
    return section if isinstance(section, dict) else {}


def _command(document: Document) -> Iterator[Fault]:
    given = [key for key in ("entrypoint", "run") if _section(document).get(key) is not None]
    if not given:
        yield document.fault(
            "", "neither entrypoint nor run", expected="'entrypoint: train.py', or 'run:' and a command"
        )
    if len(given) == 2:
        yield document.fault("run", "stands beside entrypoint", expected="one of the two")


def _environment(document: Document) -> Iterator[Fault]:
    section = _section(document, "environment")
    for way, others in (("image", _BESIDE_IMAGE), ("dockerfile", _BESIDE_DOCKERFILE)):
        if section.get(way) is None:
            continue
        for other in others:
            if section.get(other):
                yield document.fault(
                    f"environment.{other}", f"stands beside {way}", expected=f"{way} or {other}, not both"
                )


def _cluster(document: Document) -> Iterator[Fault]:
    """The tasks of a TensorFlow cluster: as many on each node, and somebody who uses the parameter servers."""
    section, nodes = _section(document).get("distribution"), _section(document, "resources").get("nodes", 1)
    try:
        cluster = TensorflowDistribution.model_validate(
            {"type": section} if isinstance(section, str) else section
        )
        count = Resources.model_validate({"nodes": nodes}).nodes.max
    except ValidationError:  # of another type, or with faults of its own
        return
    if cluster.parameter_servers and not cluster.chief:
        yield document.fault(
            "distribution.parameter_servers",
            "nobody coordinates them",
            expected="chief: true beside it, the task that runs the training",
        )
        return  # which changes the number of tasks
    tasks = len(cluster.tasks)
    if tasks % count:
        fitting = [str(number) for number in range(1, tasks + 1) if tasks % number == 0]
        yield document.fault(
            "resources.nodes",
            f"{tasks} task{'' if tasks == 1 else 's'} of distribution cannot be dealt evenly to {count} nodes",
            expected=f"{', '.join(fitting[:-1])} or {fitting[-1]} nodes" if fitting[1:] else "1 node",
        )


def _metrics(document: Document) -> Iterator[Fault]:
    section = _section(document, "metrics")
    if section.get("fail_if") is not None and section.get("primary") is None:
        yield document.fault("metrics.fail_if", "no metric to judge", expected="metrics.primary beside it")


def _release(document: Document) -> Iterator[Fault]:
    path = _section(document, "release").get("path")
    outputs = _section(document, "outputs").get("path", "outputs")
    if not isinstance(path, str) or not isinstance(outputs, str):
        return
    folder = outputs.removeprefix("./").rstrip("/")
    if folder != "." and not f"{path.removeprefix('./').rstrip('/')}/".startswith(f"{folder}/"):
        yield document.fault(
            "release.path", f"{path!r} is not kept", expected=f"a path inside {folder} (outputs.path)"
        )


def _variables(document: Document) -> Iterator[Fault]:
    """No two keys may claim one environment variable of the training."""
    owners: dict[str, str] = {}
    secrets = _section(document).get("secrets")
    claims = [(f"secrets.{i}", name) for i, name in enumerate(secrets if isinstance(secrets, list) else [])]
    for name, value in _section(document, "env").items():
        if value != f"${{{{ secrets.{name} }}}}":  # a habit from GitHub, and the same thing twice
            claims.append((f"env.{name}", name))
    for name in _section(document, "datasets"):
        claims.append((f"datasets.{name}", Reference(kind="datasets", name=name).variable))
    for key, variable in claims:
        if not isinstance(variable, str):
            continue
        if variable.startswith("PUSHTRAIN_") and not key.startswith("datasets."):
            yield document.fault(key, "names that start with PUSHTRAIN_ are taken", expected="another name")
        elif variable in owners:
            yield document.fault(
                key, f"sets {variable}, as {owners[variable]} does", expected="different names"
            )
        owners.setdefault(variable, key)
