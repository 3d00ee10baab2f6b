"""Facts of a run -> the sections that check, comment and job summary are made of, as Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from runner.quantities import format_duration, format_size, format_value
from runner.report import escape, figures, gang, gpu_use, standing
from runner.runs import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.manifest import FileEntry
    from runner.quantities import Value
    from runner.report.facts import RunFacts
    from runner.runs import Run

_COMES_FIRST = "nothing was trained"
LOG_LINES = 30
BAR_WIDTH = 24
COMMAND_LIMIT = 4_000


def heading(facts: RunFacts, *, level: int, queue: str = "") -> str:
    """Mark, name and headline."""
    said = escape.inline(standing.headline(facts, queue=queue))
    return f"{'#' * level} {standing.mark(facts.run)} {escape.inline(facts.run.name)} · {said}"


def about(facts: RunFacts, *, check_url: str = "") -> str:
    """Commit, branch, who asked, what it runs on, what it cost, and links, on one line."""
    return " · ".join(_about(facts, check_url))


def _about(facts: RunFacts, check_url: str) -> Iterator[str]:
    run, asked, place = facts.run, facts.plan.asked, facts.place
    if run.commit:
        yield commit(facts, run) + (f" on {escape.code(run.branch)}" if run.branch else "")
    if asked.by:
        yield f"by {escape.link(escape.inline(asked.by), f'{place.server_url}/{asked.by}')}"
    yield _gang(facts)
    if figures.gpus(facts) and run.attempts:
        yield f"{figures.gpu_hours(facts):,.2f} GPU-hours"
    if busy := gpu_use.sentence(facts.gpus):
        yield busy
    links = (("job", place.job_url), ("check", check_url), ("release", facts.release_url or ""))
    yield from (escape.link(f"**{label}**", url) for label, url in links if url)


def commit(facts: RunFacts, run: Run) -> str:
    """The short commit, linked to its page."""
    name = run.commit or ""
    return escape.link(escape.code(name[:7]), f"{facts.place.url}/commit/{name}") if name else "no commit"


def _gang(facts: RunFacts) -> str:
    wanted = facts.plan.gang
    parts = [gang.shape(facts.plan)]
    if figures.gpus(facts):
        nodes = f"{wanted.nodes} nodes of " if wanted.nodes > 1 else ""
        gpus = f"{nodes}{wanted.gpus_per_node} × {escape.inline(wanted.gpu_model or 'GPU')}"  # noqa: RUF001
        parts = [gpus, gang.kind(facts.plan)]
    else:
        parts.append(f"engine {escape.inline(facts.plan.engine)}")
    if fewer := gang.ranks_at_last(facts.run):
        parts.append(f"ended with {fewer}" if facts.run.state.ended else f"now {fewer}")
    return ", ".join(filter(None, parts))


def outcome(facts: RunFacts) -> str:
    """The verdict of the gate, or why and how the run ended; empty while there is nothing to say."""
    run = facts.run
    match standing.kind(run):
        case "succeeded":
            return f"**Gate**: {escape.inline(run.verdict)}." if run.verdict else ""
        case "gate":
            return escape.alert(
                "CAUTION",
                (
                    f"**The gate failed**: {escape.inline(run.verdict)}.",
                    "The training itself went well; its outputs are kept and no model was released.",
                ),
            )
        case "cancelled":
            return escape.alert("WARNING", _why(run))
        case "goes on":
            return escape.alert("WARNING", _why(run)) if run.tip else ""
    return escape.alert("CAUTION", _why(run))


def _why(run: Run) -> Iterator[str]:
    cause = run.attempts[-1].cause if run.attempts else ""
    first, _, rest = run.reason.strip().partition("\n")
    if cause and standing.kind(run) == "failed":
        yield f"**Likely cause**: {escape.inline(cause)}"
        first = first.removesuffix(cause).removesuffix(": ")
    if first.strip():
        yield escape.inline(first)
    if rest.strip():
        yield escape.fence(rest.split("\n", LOG_LINES)[:LOG_LINES])
    if run.tip:
        yield f"→ {escape.inline(run.tip)}"


def last_lines(facts: RunFacts, most: int = LOG_LINES) -> str:
    """The last lines of the rank that failed, or of the environment's build; empty unless the run failed."""
    run = facts.run
    if standing.kind(run) not in ("failed", "timed out"):
        return ""
    lines = facts.last_lines or (run.attempts[-1].last_lines if run.attempts else ())
    shown = [each for each in lines[-most:] if each.strip()]
    if not shown:
        return ""
    of = (gang.who(run.attempts[-1]) or "the ranks") if run.attempts else "the environment's build"
    return escape.details(f"{_last(len(shown))} of {of}", escape.fence(shown), is_open=True)


def _last(count: int) -> str:
    return f"Last {count} lines" if count > 1 else "Last line"


def progress(facts: RunFacts) -> str:
    """A bar of the steps done against the base's last step; empty where there is no base to go by."""
    found = figures.progress(facts)
    if found is None or facts.run.state is not State.RUNNING:
        return ""
    step, last = found
    done = round(BAR_WIDTH * step / last)
    bar = "▰" * done + "▱" * (BAR_WIDTH - done)
    return f"`{bar}` step {step} of {last}, by the last run of {escape.code(figures.base_name(facts))}"


def durations(facts: RunFacts) -> str:
    """`preparing 4.2s · running 11m · …` and the sum."""
    passed = figures.stages(facts.run, now_s=facts.now_s)
    told = [f"{state} {_short(seconds)}" for state, seconds in passed if seconds >= 0.05]
    total = _short(figures.took_s(facts.run, now_s=facts.now_s))
    return f"**Time** {total}: {' · '.join(told)}" if told else ""


def duration_table(facts: RunFacts) -> str:
    """Seconds of every stage, with their share of the whole as a bar."""
    told = tuple(figures.stages(facts.run, now_s=facts.now_s))
    whole = sum(seconds for _, seconds in told) or 1.0
    rows = [(str(state), _short(seconds), _share(seconds / whole)) for state, seconds in told]
    total = figures.took_s(facts.run, now_s=facts.now_s)
    return escape.table(("stage", "took", ""), [*rows, ("**all**", f"**{_short(total)}**", "")], align="lrl")


def _share(part: float) -> str:
    blocks = round(BAR_WIDTH * part)
    return f"`{'█' * blocks}` {part:.0%}" if blocks else ""


def _short(seconds: float) -> str:
    return format_duration(round(seconds, 1))


def no_base(facts: RunFacts) -> str:
    """That there is no run of the base branch; empty where there is one, or none is asked for."""
    base = facts.plan.asked.base
    if facts.base is not None or base is None or not facts.series:
        return ""
    return f"Nothing to compare with: no run of {escape.code(base)} has succeeded yet."


def inputs(facts: RunFacts, most: int) -> str:
    """The inputs that differ from the base's; all of them where there is no base."""
    text = _inputs(facts, most)
    if not text.startswith("|"):
        return text
    differ = f" that differ from {escape.code(figures.base_name(facts))}" if facts.base is not None else ""
    return f"**Inputs**{differ}\n\n{text}"


def _inputs(facts: RunFacts, most: int) -> str:
    own = facts.run.inputs
    if facts.base is None:
        plain = [(escape.cell(name), _value(own, name)) for name in islice(own, most)]
        text = escape.table(("input", "value"), plain) if plain else ""
        return text + _more(len(own) - most, "input")
    before, name = facts.base.run.inputs, escape.cell(figures.base_name(facts))
    differ = [each for each in {**own, **before} if own.get(each) != before.get(each)]
    if not differ:
        return f"All inputs are those of {name}." if own else ""
    rows = [(escape.cell(each), f"**{_value(own, each)}**", _value(before, each)) for each in differ[:most]]
    return escape.table(("input", "this run", name), rows) + _more(len(differ) - most, "input")


def _value(inputs: Mapping[str, Value], name: str) -> str:
    return escape.cell(format_value(inputs[name])) if name in inputs else "n/a"


def _more(count: int, noun: str) -> str:
    return f"\n\n… and {count} more {noun}{'s' * (count > 1)}" if count > 0 else ""


def outputs(facts: RunFacts, most: int, *, digests: bool) -> str:
    """The files with their sizes, and the command that brings them; empty where there are none."""
    files = facts.files
    if not files:
        return ""
    head = ("file", "size", "sha256") if digests else ("file", "size")
    rows = [_file(each, digests=digests) for each in files[:most]]
    return escape.table(head, rows, align="lrl"[: len(head)]) + _more(len(files) - most, "file")


def _file(entry: FileEntry, *, digests: bool) -> tuple[str, ...]:
    cells = (escape.cell(entry.path), format_size(entry.size_bytes))
    digest = entry.digest.removeprefix("sha256:")
    return (*cells, escape.cell(digest or "growing")) if digests else cells


def outputs_title(facts: RunFacts) -> str:
    """How many files, how large."""
    count, size = len(facts.files), format_size(sum(each.size_bytes for each in facts.files))
    return f"{count} output{'s' * (count != 1)}, {size}" + ("" if facts.sealed else " so far")


def fetching(facts: RunFacts) -> str:
    """The command that copies the outputs, and where they are."""
    run = facts.run
    command = f"pushtrain outputs {run.id} get . ./{run.name}-{run.id.rpartition('-')[2]}"
    if facts.store.startswith("s3://"):
        command += f" --store {escape.shell(facts.store)}"
    return f"They lie in the store {escape.code(facts.store)}.\n\n{escape.fence([command], 'sh')}"


def repeat(facts: RunFacts) -> str:
    """The commands that do the same by hand; empty for a run that is not of a commit."""
    plan, run = facts.plan, facts.run
    if not run.commit:
        return ""
    if sum(len(name) + len(format_value(value)) for name, value in plan.inputs.items()) > COMMAND_LIMIT:
        return f"Its inputs are too long for this: {escape.code(f'pushtrain show {run.id} --json')} has them."
    parts = ["pushtrain run", *([escape.shell(facts.folder)] if facts.folder not in ("", ".") else [])]
    if facts.train_file != "train.yml":
        parts.append(f"-f {escape.shell(facts.train_file)}")
    parts += [f"-p {escape.shell(f'{name}={format_value(value)}')}" for name, value in plan.inputs.items()]
    parts.append(f"--engine {escape.shell(plan.engine)}")
    commands = (f"git fetch origin {run.commit}", f"git checkout {run.commit}", _wrapped(parts))
    # Not `escape.fence`: a command that was cut would be another one.
    return _code_block(" && \\\n".join(commands))


def _wrapped(parts: Sequence[str]) -> str:
    one = " ".join(parts)
    return one if len(one) <= 100 else " \\\n  ".join(parts)


def _code_block(text: str) -> str:
    marks = "`" * max(3, escape.longest_run(text) + 1)
    return f"{marks}sh\n{text}\n{marks}"


def reused(facts: RunFacts) -> str:
    """That nothing was trained for this, which has to be seen before the numbers are; empty elsewhere."""
    told = [escape.inline(each) for each in facts.notes if each.startswith(_COMES_FIRST)]
    return escape.alert("NOTE", told) if told else ""


def attempts(facts: RunFacts) -> str:
    """How each attempt ended and what the next did again; empty where there was one alone."""
    told = [f"- attempt {escape.inline(each)}" for each in gang.attempts(facts.run)]
    return "\n".join(("**Attempts**\n", *told)) if told else ""


def notes(facts: RunFacts) -> str:
    """What else there is to know: a fork, warnings of the run, features that are off."""
    known = dict.fromkeys((*facts.plan.notes, *facts.notes))
    told = [escape.inline(each) for each in known if not each.startswith(_COMES_FIRST)]
    told += [f"⚠️ {escape.inline(each)}" for each in facts.run.warnings]
    return "\n".join(f"- {each}" for each in told)


def earlier_title(facts: RunFacts) -> str:
    """How many there are."""
    count = len(facts.earlier)
    return f"{count} earlier run{'s' * (count != 1)} of this pull request"


def earlier(facts: RunFacts, most: int) -> str:
    """Other runs of the pull request, newest first; empty where there are none."""
    if not facts.earlier:
        return ""
    newest_first = sorted(facts.earlier, key=lambda run: run.id, reverse=True)
    rows = [_earlier(facts, run) for run in newest_first[:most]]
    head = ("run", "", "metric", "inputs that differ from this run's", "took", "commit")
    return escape.table(head, rows, align="llllrl") + _more(len(facts.earlier) - most, "run")


def _earlier(facts: RunFacts, run: Run) -> tuple[str, ...]:
    return (
        escape.cell(run.id),
        f"{standing.mark(run)} {standing.word(run)}",
        escape.cell(figures.measured(run)) if run.metric else "",
        differing(run.inputs, facts.run.inputs),
        _short(figures.took_s(run, now_s=facts.now_s)),
        commit(facts, run),
    )


def differing(inputs: Mapping[str, Value], others: Mapping[str, Value]) -> str:
    """`name=value` of the inputs that are not as in `others`, in one cell."""
    told = [f"{n}={format_value(v)}" for n, v in inputs.items() if n not in others or others[n] != v]
    return escape.cell(" ".join(told)) if told else ""


def footer(facts: RunFacts) -> str:
    """The run's id, when this was written, and what may be typed; nothing that changes once the run ended."""
    run = facts.run
    at_s = run.stages[-1].started_at_s if run.stages and run.state.ended else facts.now_s
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))
    parts = [f"run {escape.code(run.id)}", f"ended {when}" if run.state.ended else f"as of {when}"]
    return f"<sub>{' · '.join((*parts, *_hints(facts)))}</sub>"


def _hints(facts: RunFacts) -> Iterator[str]:
    if facts.plan.asked.pull is None or not facts.command:
        return
    if not facts.run.state.ended:
        yield f"{escape.code(f'{facts.command} cancel')} stops it"
    elif facts.run.release and facts.release_url:
        yield f"{escape.code(f'/promote {figures.released(facts.run)} production')} puts it to use"
    elif facts.run.inputs and not facts.plan.asked.fork:
        yield f"{escape.code(f'{facts.command} {_of_interest(facts)}=VALUE')} tries another value"
    yield f"{escape.code(f'{facts.command} help')} lists what can be typed"


def _of_interest(facts: RunFacts) -> str:
    """The input that is most likely to be changed again: the first that differs from the base's."""
    own, before = facts.run.inputs, facts.base.run.inputs if facts.base is not None else {}
    return next((name for name in own if own[name] != before.get(name, own[name])), next(iter(own)))
