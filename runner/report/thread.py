"""What came of the commands in a comment -> short answers in its thread."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from runner.quantities import format_duration, format_value
from runner.report import escape, figures, limits, standing
from runner.trigger import corrections

if TYPE_CHECKING:
    from runner.models import Promotion
    from runner.report.facts import Place
    from runner.runs import Run
    from runner.spec import Input, Spec

RUNS = 20
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")
_SAID_LINES = 20


def joined(answers: Sequence[str], *, to: str) -> str:
    """One comment of several answers, to the person who wrote the commands; cut to GitHub's limit."""
    person = f"@{to}" if _LOGIN.fullmatch(to) else escape.code(to)
    parts = [limits.part("answers", len(answers) - at, answer) for at, answer in enumerate(answers)]
    first = limits.must(f"{person}:")
    return limits.fit([first, *parts], limits.COMMENT_BYTES, elsewhere="Ask for them one by one.")


def refused(line: str, message: str, tip: str) -> str:
    """That a command is not allowed, or not in this way; `tip` is what to type instead, or empty."""
    return _answer("🚫", line, message, tip)


def mistake(line: str, message: str, tip: str) -> str:
    """That a command cannot be done as it is written; `message` may have several lines.

    A tip for the command line, such as `-p lr=0.1`, becomes the line to type in a comment.
    """
    return _answer("⚠️", line, message, tip)


def _answer(mark: str, line: str, message: str, tip: str) -> str:
    text = f"{mark} {escape.code(line)}: {listed(message)}".replace(": \n", ":\n", 1)
    return text + "".join(f"\n\n{each}" for each in _next(line, tip))


def listed(message: str) -> str:
    """What an error says, as Markdown: several sentences are a list, below the first where that ends with a colon."""
    said = [each.strip() for each in message.splitlines() if each.strip()] or ["it cannot be done"]
    shown = [escape.inline(each) for each in said[:_SAID_LINES]]
    if len(shown) == 1:
        return shown[0]
    headline = shown.pop(0) if said[0].endswith(":") else ""
    more = [f"… and {len(said) - _SAID_LINES} more"] if len(said) > _SAID_LINES else []
    return "\n".join((headline, *(f"- {each}" for each in (*shown, *more))))


def _next(line: str, tip: str) -> Iterator[str]:
    """Lines to type are shown so that GitHub offers to copy them."""
    if tip.startswith("/") and "\n" not in tip:
        yield _typed([tip])
        return
    lines, rest = corrections.lines(line, tip)
    if lines:
        yield _typed(lines)
    if rest:
        yield f"→ {escape.inline(rest)}"


def _typed(lines: Sequence[str]) -> str:
    return f"Type {'instead' if len(lines) == 1 else 'one of these instead'}:\n\n{escape.fence(lines)}"


def cancelled(stopping: Sequence[Run], place: Place) -> str:
    """Which runs are being stopped, or that none goes on."""
    if not stopping:
        return "Nothing to cancel: no run of this pull request goes on."
    text = "⏹️ Stopping; what was written so far is kept.\n\n"
    return text + _runs(stopping, place)


def status(shown: Sequence[Run], place: Place) -> str:
    """The runs of the pull request, newest first; the same text for as long as none of them moves."""
    if not shown:
        return "No run of this pull request yet."
    return _runs(shown, place)


def _runs(shown: Sequence[Run], place: Place) -> str:
    newest_first = sorted(shown, key=lambda run: run.id, reverse=True)
    head = ("run", "training", "state", "metric", "inputs", "commit", "began (UTC)", "took")
    more = len(newest_first) - RUNS
    rows = [_run(run, place) for run in newest_first[:RUNS]]
    return escape.table(head, rows, align="lllllllr") + (f"\n\n… and {more} more" if more > 0 else "")


def _run(run: Run, place: Place) -> tuple[str, ...]:
    commit = escape.link(escape.cell((run.commit or "")[:7]), f"{place.url}/commit/{run.commit}")
    inputs = " ".join(f"{name}={format_value(value)}" for name, value in run.inputs.items())
    took_s = figures.took_s(run, now_s=run.created_at_s)
    return (
        escape.cell(run.id),
        escape.cell(run.name),
        f"{standing.mark(run)} {standing.word(run)}" + _waiting(run),
        escape.cell(figures.measured(run)) if run.metric else "",
        escape.cell(inputs, 80) if inputs else "",
        commit if run.commit else "",
        time.strftime("%m-%d %H:%M", time.gmtime(run.created_at_s)),
        format_duration(round(took_s)) if run.state.ended else "",
    )


def _waiting(run: Run) -> str:
    """What a run waits for; pipes would end the cell."""
    if run.state.ended or not run.reason:
        return ""
    return f": {escape.cell(run.reason, 80)}"


def promoted(promotion: Promotion, place: Place) -> str:
    """That a version has a stage now, with the tag that says so."""
    version = escape.code(f"{promotion.name}@v{promotion.version.removeprefix('v')}")
    tag = f"{promotion.name}#{promotion.stage}#{promotion.n}"
    shown = escape.link(escape.code(tag), f"{place.url}/tree/{tag.replace('#', '%23')}")
    return f"✅ {version} stands in {escape.code(promotion.stage)} now: {shown}."


def help_text(spec: Spec) -> str:
    """What can be typed, with the inputs of train.yml: their types, defaults and bounds."""
    comment = spec.on.comment
    word = comment.command if comment is not None else "/train"
    lines = [
        (
            f"{word} [SHA] [NAME=VALUE …]",
            "train the head of this branch, or the commit SHA, with other inputs",
        ),
        (f"{word} --fresh", "train also where a finished run did just this"),
        (f"{word} --engine NAME", "train on another engine"),
        (f"{word} cancel", "stop the runs of this pull request; what they wrote is kept"),
        (f"{word} status", "list the runs of this pull request"),
        ("/promote NAME@VERSION STAGE", "give a stage to a version of a model"),
    ]
    rows = [(escape.cell(command), says) for command, says in lines]
    text = f"**{escape.inline(spec.name)}**: what can be typed here\n\n{escape.table(('', ''), rows)}"
    if comment is not None:
        text += f"\n\nFor people with the role {' or '.join(map(escape.inline, comment.roles))} and above."
    if not spec.inputs:
        return text + "\n\n`train.yml` declares no inputs."
    head = ("input", "values", "default", "")
    listed = escape.table(head, [_input(name, each) for name, each in spec.inputs.items()])
    return f"{text}\n\n{listed}\n\n{_example(spec, word)}"


def _input(name: str, declared: Input) -> tuple[str, ...]:
    default = "*required*" if declared.default is None else escape.cell(format_value(declared.default))
    return escape.cell(name), _values(declared), default, _described(declared.description)


def _described(text: str) -> str:
    """Prose; as code where it holds a pipe, which would end the cell."""
    if not text:
        return ""
    return escape.cell(text, 200) if "|" in text else escape.inline(text, 200)


def _values(declared: Input) -> str:
    if declared.options is not None:
        return " ".join(escape.cell(format_value(option), 40) for option in declared.options[:20])
    low = None if declared.min is None else f"{declared.min:g}"
    high = None if declared.max is None else f"{declared.max:g}"
    bounds = f" {low or '…'} to {high or '…'}" if low or high else ""
    return f"{declared.type}{bounds}"


def _example(spec: Spec, word: str) -> str:
    values = [
        (name, each.default if each.default is not None else (each.options or ("VALUE",))[0])
        for name, each in list(spec.inputs.items())[:3]
    ]
    said = " ".join(escape.shell(f"{name}={format_value(value)}") for name, value in values)
    return f"For example:\n\n{escape.fence([f'{word} {said}'])}"
