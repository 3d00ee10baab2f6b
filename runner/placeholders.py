"""Text with `${{ … }}` in it -> shell lines, arguments and environment values.

Inputs are known when a run is planned and are written out. Everything else stays a name until the run starts
on its host: no secret and no path of a host is ever in a plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import Fault
from runner.quantities import MalformedError, Value, format_value
from runner.quoting import Scanner

if TYPE_CHECKING:
    from runner.document import Document

_OPEN = "${{"
_TOKEN = re.compile(r"\$\{\{(?P<body>[^{}]*)\}\}")
_BODY = re.compile(r"(?P<kind>[A-Za-z]+)(?:\.(?P<name>[A-Za-z0-9_-]+))?", re.ASCII)

# Those without a name, and `run.id`, are facts of the run itself.
_FACTS = {
    "run.id": "PUSHTRAIN_RUN_ID",
    "ref": "PUSHTRAIN_REF",
    "branch": "PUSHTRAIN_BRANCH",
    "commit": "PUSHTRAIN_COMMIT",
}
_AT_START = ("inputs", "datasets", "secrets", *_FACTS)
_AT_PLAN = ("inputs", "ref", "branch", "commit")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What one `${{ … }}` names: `kind` is inputs, datasets, secrets, run, ref, branch or commit."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.name}" if self.name else self.kind

    @property
    def variable(self) -> str:
        """The environment variable that carries the value into the training."""
        if self.kind == "secrets":
            return self.name
        if self.kind in {"inputs", "datasets"}:
            return f"PUSHTRAIN_{self.kind[:-1]}_{self.name}".upper().replace("-", "_")
        return _FACTS[str(self)]


Part = str | Reference


def parse(template: str) -> tuple[Part, ...]:
    """The literal texts and the references of a template, in order.

    Raises MalformedError for a `${{` that is not closed or names nothing known.
    """
    parts: list[Part] = []
    for literal, body in _pieces(template):
        if literal:
            parts.append(literal)
        if body is not None:
            parts.append(_reference(body))
    return tuple(parts)


def _pieces(template: str) -> Iterator[tuple[str, str | None]]:
    end = 0
    for match in _TOKEN.finditer(template):
        literal = template[end : match.start()]
        _refuse_unclosed(literal)
        yield literal, match["body"]
        end = match.end()
    _refuse_unclosed(template[end:])
    yield template[end:], None


def _refuse_unclosed(literal: str) -> None:
    if _OPEN in literal:
        raise MalformedError(f"{_OPEN} is not closed", expected="${{ name }}")


def _reference(body: str) -> Reference:
    text = body.strip()
    match = _BODY.fullmatch(text)
    kind, name = (match["kind"], match["name"] or "") if match else ("", "")
    if text in _FACTS or (kind in {"inputs", "datasets", "secrets"} and name):
        return Reference(kind=kind, name=name)
    from runner.document import closest

    nearest = closest(kind, ("inputs", "datasets", "secrets")) if name else closest(text, _FACTS)
    raise MalformedError(
        f"${{{{ {text} }}}} names nothing known",
        expected="inputs.NAME, datasets.NAME, secrets.NAME, run.id, ref, branch or commit",
        suggestion=f"{nearest}.{name}" if nearest and name else nearest,
    )


def bind(parts: Iterable[Part], inputs: Mapping[str, Value]) -> tuple[Part, ...]:
    """The parts with every input written out; all other references stay. KeyError for an unknown input.

    What an input says is never read again: one that holds `${{ secrets.X }}` stays that text.
    """
    return tuple(
        format_value(inputs[part.name]) if isinstance(part, Reference) and part.kind == "inputs" else part
        for part in parts
    )


def resolve(parts: Iterable[Part], lookup: Callable[[Reference], str]) -> str:
    """The text, with what `lookup` answers for each reference."""
    return "".join(part if isinstance(part, str) else lookup(part) for part in parts)


def arguments(inputs: Mapping[str, Value]) -> tuple[str, ...]:
    """Command line arguments for an entrypoint: `--name value`; true is `--name` alone, false is left out."""
    words: list[str] = []
    for name, value in inputs.items():
        if isinstance(value, bool):
            words += [f"--{name}"] if value else []
            continue
        text = format_value(value)
        # argparse would take a value with a leading minus for the next option.
        words += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return tuple(words)


def shell(line: str, inputs: Mapping[str, Value]) -> str:
    """The shell command line with inputs quoted where they stand and the rest as environment variables.

    Every value arrives as it is, as part of one word, in the quotes that the line has around it or in none.
    Raises MalformedError where a placeholder stands in a place in which no quoting is safe; KeyError for an
    unknown input.
    """
    scanner = Scanner()
    rendered = "".join(_rendered(part, scanner, inputs) for part in parse(line))
    scanner.finish()
    return rendered


def _rendered(part: Part, scanner: Scanner, inputs: Mapping[str, Value]) -> str:
    if isinstance(part, str):
        scanner.read(part)
        return part
    if part.kind == "inputs":
        return scanner.literal(format_value(inputs[part.name]))
    return scanner.variable(part.variable)


def check(document: Document) -> tuple[Fault, ...]:
    """A fault for every placeholder that is mistyped, undeclared or in a place without meaning."""
    declared = _declared(document.data)
    faults: list[Fault] = []
    for key, text in _texts(document.data, ""):
        if _OPEN in text:
            faults += _faults(document, key, text, declared)
    return tuple(faults)


def _declared(data: object) -> dict[str, list[str]]:
    top = data if isinstance(data, dict) else {}
    sections = {kind: top.get(kind) for kind in ("inputs", "datasets", "secrets")}
    return {
        kind: [name for name in names if isinstance(name, str)] if isinstance(names, dict | list) else []
        for kind, names in sections.items()
    }


def _texts(data: object, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(data, str):
        yield key, data
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(data, dict):
        pairs = data.items()
    elif isinstance(data, list):
        pairs = enumerate(data)
    for name, value in pairs:
        yield from _texts(value, f"{key}.{name}" if key else str(name))


def _allowed(key: str) -> tuple[str, ...]:
    top, _, rest = key.partition(".")
    if key == "run" or (top == "env" and rest):
        return _AT_START
    if key in {"concurrency", "concurrency.group"}:
        return _AT_PLAN
    if top == "datasets" and (rest.count(".") == 0 or key.endswith(".source")):
        return _AT_PLAN
    return ()


def _faults(document: Document, key: str, text: str, declared: Mapping[str, list[str]]) -> list[Fault]:
    allowed = _allowed(key)
    if not allowed:
        return [
            document.fault(
                key,
                "a placeholder has no meaning here",
                expected="placeholders in run, env, concurrency.group or the source of a data set",
            )
        ]
    faults = _reference_faults(document, key, text, declared, allowed)
    if key == "run" and not faults:
        faults = _quoting_faults(document, key, text, declared)
    return faults


def _quoting_faults(
    document: Document, key: str, text: str, declared: Mapping[str, list[str]]
) -> list[Fault]:
    """The first placeholder that stands where nothing can be quoted; what follows it is not understood."""
    scanner, values = Scanner(), dict.fromkeys(declared["inputs"], "x y")
    tokens = _TOKEN.finditer(text)
    at, fragment = 0, ""
    try:
        for part in parse(text):
            if isinstance(part, Reference):
                token = next(tokens)
                at, fragment = token.start(), token[0]
            _rendered(part, scanner, values)
        scanner.finish()
    except MalformedError as error:
        return [_fault_at(document, key, text, at, fragment, error)]
    return []


def _reference_faults(
    document: Document, key: str, text: str, declared: Mapping[str, list[str]], allowed: tuple[str, ...]
) -> list[Fault]:
    faults: list[Fault] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if _OPEN in text[end : match.start()]:
            break
        end = match.end()
        try:
            _check_reference(_reference(match["body"]), declared, allowed)
        except MalformedError as error:
            faults.append(_fault_at(document, key, text, match.start(), match[0], error))
    if _OPEN in text[end:]:
        unclosed = MalformedError(f"{_OPEN} is not closed", expected="${{ name }}")
        faults.append(_fault_at(document, key, text, text.index(_OPEN, end), _OPEN, unclosed))
    return faults


def _check_reference(
    reference: Reference, declared: Mapping[str, list[str]], allowed: tuple[str, ...]
) -> None:
    kind, name = reference.kind, reference.name
    if kind in declared and name not in declared[kind]:
        from runner.document import closest

        nearest = closest(name, declared[kind])
        raise MalformedError(
            f"${{{{ {reference} }}}} is not declared",
            expected=", ".join(declared[kind]) or f"{name} under {kind}",
            suggestion=f"{kind}.{nearest}" if nearest else "",
        )
    if kind not in allowed and str(reference) not in allowed:
        raise MalformedError(
            f"${{{{ {reference} }}}} is not known here", expected=f"{', '.join(allowed)} only"
        )


def _fault_at(
    document: Document, key: str, text: str, at: int, fragment: str, error: MalformedError
) -> Fault:
    line, column = document.fragment_position(key, fragment, text.count(fragment, 0, at))
    return Fault(
        path=document.path,
        line=line,
        column=column,
        key=key,
        message=error.problem,
        expected=error.expected,
        suggestion=error.suggestion,
    )
