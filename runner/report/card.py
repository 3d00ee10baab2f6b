"""A version, where it was made and where its files lie -> its model card: the Markdown of its release."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.quantities import format_size, format_value
from runner.report import escape, loading
from runner.report.limits import fit, must, part

if TYPE_CHECKING:
    from runner.models import ModelFile, Version
    from runner.models.provenance import Origin
    from runner.models.signing import Kind

# GitHub refuses more than 125,000 characters ("body is too long"); bytes are never fewer.
BODY_BYTES = 120_000

_FILES, _FEW_FILES = 300, 30
_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a version is published: `repository` is OWNER/NAME at `server_url`, or None where it is not on GitHub.

    `assets` has the name of the release's asset by the path of its file; the others lie in `store`, but for those that
    are empty. `signature` is that of its statement.
    """

    server_url: str
    repository: str | None
    assets: Mapping[str, str]
    store: str
    signature: Kind

    @property
    def url(self) -> str:
        """The repository's page; empty where there is none."""
        return f"{self.server_url}/{self.repository}" if self.repository else ""


def card(version: Version, origin: Origin, place: Place, *, before: Version | None) -> str:
    """What it is, how to load it, metrics and inputs against `before` (the version before it), data, lineage, files,
    and how to verify it: at most `BODY_BYTES` of UTF-8. Pure, and the same for the same arguments.
    """
    parts = (
        must(_about(version, origin, place)),
        must(_use(version, place)),
        part("metrics", 60, _metrics(version, before)),
        part("inputs", 30, _inputs(version, before)),
        part("data", 40, _data(version)),
        part("lineage", 50, _lineage(version, origin, place)),
        part("files", 20, _files(version, place, _FILES), _files(version, place, _FEW_FILES)),
        part("verification", 70, _verify(version, place)),
    )
    return fit(parts, BODY_BYTES, elsewhere="`pushtrain models show` tells all of it.")


# What it is, and how to load it


def _about(version: Version, origin: Origin, place: Place) -> str:
    lineage = version.lineage
    made = f", made with {escape.inline(version.framework)}" if version.framework else ""
    if version.framework and version.framework_version:
        made += f" {escape.code(version.framework_version)}"
    run = escape.link(f"run {escape.code(lineage.run_id)}", origin.job_url or "")
    name = f"**{version.name} {version.version}**"
    text = f"{name}{made}, was trained by {run} from {_commit(version, place)}"
    if lineage.branch:
        text += f" on {escape.code(lineage.branch)}"
    if origin.by:
        text += f", asked for by {escape.inline(origin.by)}"
    serving = ", ".join(_serving(version))
    lines = [f"{text}.", f"It needs {serving} to be served." if serving else ""]
    if lineage.dirty:
        tree = escape.code(lineage.tree)
        lines.append(
            escape.alert("WARNING", [f"It was trained with changes that are in no commit: tree {tree}."])
        )
    return "\n\n".join(line for line in lines if line)


def _commit(version: Version, place: Place) -> str:
    commit = version.lineage.commit
    if commit is None:
        return "no commit"
    return "commit " + escape.link(
        escape.code(commit[:7]), f"{place.url}/commit/{commit}" if place.url else ""
    )


def _serving(version: Version) -> Iterator[str]:
    if version.resources.cpu is not None:
        yield f"{version.resources.cpu:g} CPU"
    if version.resources.memory_bytes is not None:
        yield f"{format_size(version.resources.memory_bytes)} of memory"


def _use(version: Version, place: Place) -> str:
    """The commands that bring the files, and the lines that load them."""
    store = f"github://{place.repository}" if place.repository else place.store
    reference = f"{version.name}@{version.version}"
    brought = _code_block("sh", [f"pushtrain models download {reference} --store {escape.shell(store)}"])
    parts = ["## How to load it", brought]
    found = loading.loading([file.path for file in version.files], version.framework, folder=version.name)
    if found is None:
        parts.append("Which of its files is to be loaded, and how, is not known from their names.")
    else:
        parts += [_code_block("python", found.lines), *([found.note] if found.note else [])]
    if place.repository and place.assets:
        parts.append(_by_hand(version, place))
    return "\n\n".join(parts)


def _by_hand(version: Version, place: Place) -> str:
    """Without Pushtrain: GitHub's own command, and what it does not do."""
    command = f"gh release download {escape.shell(version.tag)} --repo {escape.shell(place.repository or '')}"
    told = "Without Pushtrain, GitHub's command brings the assets:"
    if any(path != name for path, name in place.assets.items()):
        told = "Without Pushtrain, GitHub's command brings the assets, under the names that the table of files has:"
    return f"{told}\n\n{_code_block('sh', [command])}"


# What it was made of


def _metrics(version: Version, before: Version | None) -> str:
    own, old = version.lineage.metrics, before.lineage.metrics if before is not None else {}
    if not own:
        return ""
    if before is None:
        rows = [(escape.cell(name), _number(value)) for name, value in own.items()]
        return "## Metrics\n\n" + escape.table(("metric", version.version), rows[:_ROWS], align="lr")
    compared = [
        (escape.cell(name), f"**{_number(value)}**", _number(old.get(name)), _change(value, old.get(name)))
        for name, value in own.items()
    ]
    head = ("metric", version.version, before.version, "change")
    return "## Metrics\n\n" + escape.table(head, compared[:_ROWS], align="lrrr")


def _number(value: float | None) -> str:
    return "n/a" if value is None else escape.cell(f"{value:.6g}")


def _change(value: float, old: float | None) -> str:
    if old is None or not (math.isfinite(value) and math.isfinite(old)):
        return ""
    return escape.cell(f"{value - old:+.4g}" if value != old else "same")


def _inputs(version: Version, before: Version | None) -> str:
    own, old = version.lineage.inputs, before.lineage.inputs if before is not None else {}
    if not own:
        return ""
    names = list(own)[:_ROWS]
    if before is None or all(own.get(name) == old.get(name) for name in own):
        rows = [(escape.cell(name), escape.cell(format_value(own[name]))) for name in names]
        same = f" (those of {before.version})" if before is not None else ""
        return f"## Inputs{same}\n\n" + escape.table(("input", "value"), rows) + _more(own, names, "inputs")
    compared = [
        (
            escape.cell(name),
            _mark(own[name], old.get(name)),
            escape.cell(format_value(old[name])) if name in old else "n/a",
        )
        for name in names
    ]
    head = ("input", version.version, before.version)
    return "## Inputs\n\n" + escape.table(head, compared) + _more(own, names, "inputs")


def _mark(value: bool | float | str, old: bool | float | str | None) -> str:
    shown = escape.cell(format_value(value))
    return shown if value == old else f"**{shown}**"


def _more(all_of: Sequence[object] | Mapping[str, object], told: Sequence[object], noun: str) -> str:
    count = len(all_of) - len(told)
    return f"\n\n… and {count} more {noun}" if count > 0 else ""


def _data(version: Version) -> str:
    used = version.lineage.data
    if not used:
        return ""
    rows = [(escape.cell(each.name), escape.cell(each.digest)) for each in used[:_ROWS]]
    return "## Data\n\n" + escape.table(("data set", "digest"), rows) + _more(used, used[:_ROWS], "data sets")


def _lineage(version: Version, origin: Origin, place: Place) -> str:
    rows = [(noun, told) for noun, told in _lineage_rows(version, origin, place) if told]
    return "## Where it comes from\n\n" + escape.table(("", ""), rows)


def _lineage_rows(version: Version, origin: Origin, place: Place) -> Iterator[tuple[str, str]]:
    lineage = version.lineage
    environment = f"{lineage.environment.kind} {lineage.environment.key}"
    commit = lineage.commit
    page = f"{place.url}/commit/{commit}" if place.url and commit else ""
    yield "commit", escape.link(escape.cell(commit), page) if commit else ""
    yield "source tree", escape.cell(lineage.tree)
    yield "run", escape.cell(lineage.run_id)
    yield "plan", escape.cell(lineage.plan_hash)
    yield "environment", escape.cell(environment)
    yield "image", escape.cell(lineage.environment.digest) if lineage.environment.digest else ""
    yield "engine", escape.cell(origin.engine) if origin.engine else ""
    yield "started by", escape.cell(origin.trigger or lineage.started_by)
    yield "workflow", escape.cell(origin.workflow) if origin.workflow else ""
    yield "registered", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(version.created_at_s))


# Its files, and how to verify them


def _files(version: Version, place: Place, most: int) -> str:
    shown = version.files[:most]
    rows = [_file(file, version, place) for file in shown]
    count = len(version.files)
    title = f"## {count} file{'s' * (count != 1)}, {format_size(version.size_bytes)}"
    table = escape.table(("file", "size", "sha256", "where"), rows, align="lrll")
    return f"{title}\n\n{table}{_more(version.files, shown, 'files')}"


def _file(file: ModelFile, version: Version, place: Place) -> tuple[str, ...]:
    digest = escape.cell(file.digest.removeprefix("sha256:"))
    return escape.cell(file.path), format_size(file.size_bytes), digest, _where(file, version, place)


def _where(file: ModelFile, version: Version, place: Place) -> str:
    asset = place.assets.get(file.path)
    if asset is not None and place.url:
        return escape.link(escape.cell(asset), f"{place.url}/releases/download/{version.tag}/{asset}")
    return "empty" if not file.size_bytes else f"store {escape.cell(place.store)}"


def _verify(version: Version, place: Place) -> str:
    store = f"github://{place.repository}" if place.repository else place.store
    command = f"pushtrain models verify {version.name}@{version.version} --store {escape.shell(store)}"
    match place.signature:
        case "sigstore":
            told = "Its statement of provenance is signed through Sigstore by the workflow that published it."
        case "key":
            told = "Its statement of provenance is signed with a key; the public one verifies it."
            command += " --key pushtrain.pub"
        case "none":
            told = "Nobody signed it. Its files can be compared with what the registry says of them."
            command += " --unsigned-ok"
    return f"## How to verify it\n\n{told}\n\n{_code_block('sh', [command])}"


def _code_block(info: str, lines: Sequence[str]) -> str:
    """Not `escape.fence`: a command that was cut would be another one."""
    text = "\n".join(lines)
    marks = "`" * max(3, escape.longest_run(text) + 1)
    return f"{marks}{info}\n{text}\n{marks}"
