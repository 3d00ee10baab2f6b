"""A branch's Spec + the base branch's Spec -> the Spec that runs, and what was not taken from the branch: pure.

A pull request decides what is trained. The base branch decides who may train, with which secrets, within which limits,
on which hosts of a fleet, and what is released; for a fork also on which data, on which image and behind which bar.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from runner import placeholders
from runner.errors import PlanError, Refused
from runner.plan import DEFAULT_SHM_BYTES
from runner.quantities import format_size, format_value

if TYPE_CHECKING:
    from runner.spec import Resources, Spec

# Of the base branch for everybody, and what it is called in a note.
_ALWAYS = ("on", "policy", "release", "concurrency")
# Of the base branch for a fork as well: a fork must not wait longer, retry more often or pass more easily.
_FOR_FORKS = ("metrics", "timeout", "retry")
# Docker's own images of Python: public, so that nothing of ours is in them.
_OFFICIAL = re.compile(r"python:[A-Za-z0-9_.-]+")


def apply(spec: Spec, base: Spec, *, fork: bool) -> tuple[Spec, tuple[str, ...]]:
    """The spec to run for a commit that says `spec`, where the base branch says `base`; and notes for people.

    `on`, `secrets`, `policy`, `release`, `concurrency`, `environment.build_secrets` and `resources.labels` are the base
    branch's. A fork has no secrets and no release, and `metrics`, `timeout` and `retry` are the base branch's too;
    references to secrets that it does not get are empty. Raises Refused with everything that a fork may not ask for,
    PlanError where both files do not go together.
    """
    _check_group(spec, base)
    if fork:
        _check_fork(spec, base)
    names = () if fork else base.secrets
    build_secrets = () if fork else base.environment.build_secrets
    changes: dict[str, Any] = {name: getattr(base, name) for name in _ALWAYS}
    if fork:
        changes |= {name: getattr(base, name) for name in _FOR_FORKS} | {"release": None}
    changes["secrets"] = names
    changes["resources"] = spec.resources.model_copy(update={"labels": base.resources.labels})
    changes["env"] = {name: _without_secrets(text, names) for name, text in spec.env.items()}
    changes["environment"] = spec.environment.model_copy(update={"build_secrets": build_secrets})
    notes = tuple(_notes_on_fork(spec, base) if fork else _notes(spec, base))
    return spec.model_copy(update=changes), notes


# Notes


def _notes(spec: Spec, base: Spec) -> Iterator[str]:
    kept = [name for name in (*_ALWAYS, "secrets") if getattr(spec, name) != getattr(base, name)]
    if set(spec.environment.build_secrets) != set(base.environment.build_secrets):
        kept.append("environment.build_secrets")
    if spec.resources.labels != base.resources.labels:
        kept.append("resources.labels")
    if kept:
        yield f"{', '.join(kept)}: as the base branch's train.yml says, not as this branch's does"
    yield from _dropped(spec, base.secrets)
    if spec.metrics != base.metrics:
        yield f"the gate differs from the base branch's: {_gate(spec)} instead of {_gate(base)}"


def _notes_on_fork(spec: Spec, base: Spec) -> Iterator[str]:
    yield "a fork's run: no secrets, no network while it trains, no release, no share in caches"
    kept = [name for name in (*_FOR_FORKS, "policy") if getattr(spec, name) != getattr(base, name)]
    if kept:
        yield f"{', '.join(kept)}: as the base branch's train.yml says, not as the fork's does"
    yield from _dropped(spec, ())


def _dropped(spec: Spec, names: Collection[str]) -> Iterator[str]:
    missing = sorted(_named_secrets(spec) - set(names))
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield f"{', '.join(f'secrets.{name}' for name in missing)} {verb} empty in this run"


def _gate(spec: Spec) -> str:
    metrics = spec.metrics
    if metrics.primary is None:
        return "none"
    bar = f"fails if {metrics.fail_if}" if metrics.fail_if is not None else "without a bar"
    return f"{metrics.primary}, {metrics.goal}, {bar}"


# Secrets


def _named_secrets(spec: Spec) -> set[str]:
    texts = [spec.run or "", *spec.env.values()]
    return {part.name for text in texts for part in placeholders.parse(text) if _is_secret(part)}


def _is_secret(part: placeholders.Part) -> TypeGuard[placeholders.Reference]:
    return isinstance(part, placeholders.Reference) and part.kind == "secrets"


def _without_secrets(text: str, names: Collection[str]) -> str:
    """A value of `env` with the references to other secrets left out; in `run` they are variables that nobody sets."""
    kept = (part for part in placeholders.parse(text) if not _is_secret(part) or part.name in names)
    return "".join(part if isinstance(part, str) else _written(part) for part in kept)


def _written(reference: placeholders.Reference) -> str:
    return f"${{{{ {reference} }}}}"


# What is refused


def _check_group(spec: Spec, base: Spec) -> None:
    if base.concurrency is None:
        return
    missing = sorted(_named_inputs(base.concurrency.group) - set(spec.inputs))
    if missing:
        raise PlanError(
            "concurrency.group of the base branch's train.yml names inputs that this branch's has not: "
            + ", ".join(missing),
            tip="keep these inputs, or change concurrency on the base branch first",
        )


def _check_fork(spec: Spec, base: Spec) -> None:
    faults = [*_data_faults(spec, base), *_image_faults(spec, base), *_resource_faults(spec, base)]
    if faults:
        raise Refused(
            "a fork may not ask for this:\n" + "\n".join(f"  {fault}" for fault in faults),
            tip="push the commit to a branch of this repository, which makes it the team's own",
        )


def _data_faults(spec: Spec, base: Spec) -> Iterator[str]:
    """Data is read with this machine's rights: a fork that could name it could read any file and bucket."""
    for name, wanted in spec.datasets.items():
        if name not in base.datasets:
            yield f"datasets.{name}: the base branch has no such data set"
        elif wanted != base.datasets[name]:
            yield f"datasets.{name}: source, mode and digest must be the base branch's"
        else:
            yield from (
                f"inputs.{each}: datasets.{name} is named by it, so it must be as on the base branch"
                for each in sorted(_named_inputs(wanted.source))
                if spec.inputs.get(each) != base.inputs.get(each)
            )


def _named_inputs(text: str) -> set[str]:
    return {
        part.name
        for part in placeholders.parse(text)
        if isinstance(part, placeholders.Reference) and part.kind == "inputs"
    }


def _image_faults(spec: Spec, base: Spec) -> Iterator[str]:
    """Images are pulled with this machine's login: a private one of the team would be the fork's to read."""
    for field in ("image", "base"):
        wanted = getattr(spec.environment, field)
        if wanted in (None, getattr(base.environment, field)):
            continue
        if not _OFFICIAL.fullmatch(wanted):
            yield f"environment.{field}: {wanted} is neither the base branch's nor an official python: image"
    # Its FROM lines are looked up while the run is planned.
    if spec.environment.dockerfile not in (None, base.environment.dockerfile):
        yield f"environment.dockerfile: the base branch has no {spec.environment.dockerfile}"


def _resource_faults(spec: Spec, base: Spec) -> Iterator[str]:
    ours, theirs = _amounts(base), _amounts(spec)
    for name, wanted in theirs.items():
        limit = ours[name]
        if limit is not None and (wanted is None or wanted > limit):
            yield f"{name}: {_shown(name, wanted)}, and the base branch has {_shown(name, limit)}"
    if spec.resources.labels != base.resources.labels:
        yield "resources.labels: must be the base branch's"
    model, known = _gpu_model(spec.resources), _gpu_model(base.resources)
    if spec.resources.gpu is not None and known is not None and model != known:
        yield f"resources.gpu: {model or 'any model'}, and the base branch has {known}"


def _amounts(spec: Spec) -> Mapping[str, float | None]:
    """What a run takes of a machine; None is without a limit."""
    resources = spec.resources
    return {
        "resources.nodes": resources.nodes.max,
        "resources.gpu": resources.gpu.count if resources.gpu is not None else 0,
        "resources.cpu": resources.cpu,
        "resources.memory": resources.memory_bytes,
        "resources.shm": resources.shm_bytes or DEFAULT_SHM_BYTES,
        "processes on each node": spec.processes_per_node,
    }


def _gpu_model(resources: Resources) -> str | None:
    return resources.gpu.model if resources.gpu is not None else None


def _shown(name: str, amount: float | None) -> str:
    if amount is None:
        return "no limit"
    return format_size(int(amount)) if name in ("resources.memory", "resources.shm") else format_value(amount)
