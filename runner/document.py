"""YAML text -> plain data, with the line and column of every key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from runner.errors import Fault, SpecError

MAX_BYTES = 256 * 1024
# An alias counts as all that it stands for, so a few lines of nested aliases cannot fill the memory.
MAX_NODES = 20_000
# The builder below is recursive; train.yml needs five levels.
MAX_DEPTH = 40

# https://yaml.org/spec/1.2.2/#103-core-schema: here `on`, `yes` and `012` mean what they look like.
_NULL = re.compile(r"(?:~|null|Null|NULL|)")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}

# What libyaml says -> what to do about it.
_ADVICE = (
    ("mapping values are not allowed", "a new line for each key, and quotes around text that contains ': '"),
    ("could not find expected ':'", "'key: value'"),
    ("did not find expected key", "the same indentation as the lines above"),
    ("did not find expected '-' indicator", "the same indentation as the items above"),
    ("did not find expected ',' or ']'", "a comma or a closing ]"),
    ("did not find expected ',' or '}'", "a comma or a closing }"),
    ("unexpected end of stream", "a closing quote"),
    ("did not find expected node content", "a value; text that starts with a sign needs quotes"),
    ("unknown escape character", "single quotes, or \\\\ for a backslash"),
)

Place = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One YAML file: `data` as dicts, lists and scalars, and where each dotted key stands (from 1).

    `faults` are those that do not keep the rest from being read, such as a key given twice.
    """

    path: str
    # What a file says does not depend on where its lines are: two documents of equal data are equal.
    text: str = field(compare=False, repr=False)
    data: object
    values: Mapping[str, Place] = field(compare=False, repr=False)
    keys: Mapping[str, Place] = field(compare=False, repr=False)
    faults: tuple[Fault, ...] = ()

    def position(self, key: str) -> Place:
        """Line and column of the value of a key (`environment.pip.2`), or of the nearest key above it."""
        return _nearest(self.values, key)

    def key_position(self, key: str) -> Place:
        """Line and column of the dotted key itself, or of the nearest key above it."""
        return self.keys.get(key) or self.position(key)

    def fragment_position(self, key: str, fragment: str, occurrence: int) -> Place:
        """Line and column of the n-th `fragment` (from 0) in the text of `key`.

        Where escapes hide it, those of the value as a whole.
        """
        line, column = self.position(key)
        at = sum(len(row) + 1 for row in self.text.split("\n")[: line - 1]) + column - 2
        for _ in range(occurrence + 1):
            at = self.text.find(fragment, at + 1)
            if at < 0:
                return line, column
        before = self.text[:at]
        return before.count("\n") + 1, at - before.rfind("\n")

    def fault(self, key: str, message: str, *, expected: str = "", suggestion: str = "") -> Fault:
        """A fault at the value of `key`."""
        line, column = self.position(key)
        return _fault(self.path, (line, column), key, message, expected=expected, suggestion=suggestion)


def _nearest(places: Mapping[str, Place], key: str) -> Place:
    while key:
        if key in places:
            return places[key]
        key = key.rpartition(".")[0]
    return places.get("", (1, 1))


def _fault(
    path: str, place: Place, key: str, message: str, *, expected: str = "", suggestion: str = ""
) -> Fault:
    line, column = place
    return Fault(
        path=path,
        line=line,
        column=column,
        key=key,
        message=message,
        expected=expected,
        suggestion=suggestion,
    )


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` most like `word`, or an empty string: for "did you mean"."""
    from difflib import get_close_matches

    names = {name.lower().replace("_", "-"): name for name in known}
    found = get_close_matches(word.lower().replace("_", "-")[:100], names, n=1, cutoff=0.6)
    return names[found[0]] if found else ""


def read(path: Path) -> Document:
    """The document in a file. Raises SpecError where it is missing, too large, not UTF-8 or not YAML."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _refusal(str(path), (1, 1), f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise _refusal(str(path), (1, 1), "is larger than 256 KiB")
    try:
        return parse(content.decode("utf-8-sig"), path=str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise _refusal(
            str(path), (line, column), "is not UTF-8 text", expected="a file saved as UTF-8"
        ) from error


def parse(text: str, *, path: str) -> Document:
    """The document in `text`; `path` is only named in faults. Raises SpecError for what is not YAML."""
    if len(text) > MAX_BYTES:
        raise _refusal(path, (1, 1), "is larger than 256 KiB")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _refusal(path, (1, 1), "is not Unicode text")
    return _Builder(text, path).document()


def _refusal(path: str, place: Place, message: str, *, expected: str = "") -> SpecError:
    return SpecError((_fault(path, place, "", message, expected=expected),))


def _events(text: str, path: str) -> Iterator[yaml.Event]:
    loader = getattr(
        yaml, "CBaseLoader", yaml.BaseLoader
    )  # libyaml reads ten times faster, where it is there
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_refusal(text, path, error) from error
    except yaml.YAMLError as error:  # a reader error has no mark
        place = _unprintable(text)
        raise _refusal(path, place, "a character that YAML does not allow") from error


def _unprintable(text: str) -> Place:
    match = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    before = text[: match.start()] if match else ""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _syntax_refusal(text: str, path: str, error: yaml.MarkedYAMLError) -> SpecError:
    problem = error.problem or "is not YAML"
    mark = error.problem_mark or error.context_mark
    if "unexpected end of stream" in problem:
        mark = error.context_mark or mark  # where the quote was opened says more than where the file ends
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    rows = text.splitlines()
    rest = rows[place[0] - 1][place[1] - 1 :] if place[0] <= len(rows) else ""
    if "cannot start any token" in problem:
        tab = rest.startswith("\t")
        problem = "a tab" if tab else f"text cannot start with {rest[:1]!r}"
        return _refusal(path, place, problem, expected="spaces" if tab else "quotes around it")
    expected = next((advice for words, advice in _ADVICE if words in problem), "")
    if error.context and error.context_mark:
        problem += f" ({error.context} in line {error.context_mark.line + 1})"
    return _refusal(path, place, problem, expected=expected)


class _Builder:
    """Turns the events of one YAML document into data, noting positions and faults on the way."""

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path
        self._events = _events(text, path)
        self._values: dict[str, Place] = {}
        self._keys: dict[str, Place] = {}
        self._anchors: dict[str, tuple[object, int]] = {}
        self._faults: list[Fault] = []
        self._nodes = 0

    def document(self) -> Document:
        next(self._events)  # the start of the stream
        event, data = next(self._events), None
        if isinstance(event, yaml.DocumentStartEvent):
            data = self._node(next(self._events), "", 0)
            next(self._events)  # the end of the document
            event = next(self._events)
        if isinstance(event, yaml.DocumentStartEvent):
            raise _refusal(self._path, _place(event), "a second document", expected="one document")
        return Document(
            path=self._path,
            text=self._text,
            data=data,
            values=self._values,
            keys=self._keys,
            faults=tuple(self._faults),
        )

    def _node(self, event: yaml.Event, key: str, depth: int) -> object:
        self._values[key] = _place(event)
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise _refusal(self._path, _place(event), f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, key)
        before = self._nodes
        data = self._content(event, key, depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = (data, self._nodes - before + 1)
        return data

    def _content(self, event: yaml.Event, key: str, depth: int) -> object:
        tag = getattr(event, "tag", None)
        if tag not in _TAGS | {None, "!"}:
            self._add(event, key, f"the tag {tag} has no meaning here", expected="a value without a tag")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(key, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(key, depth)
        assert isinstance(event, yaml.ScalarEvent)
        return self._scalar(event, key)

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _refusal(
                self._path, _place(event), f"has more than {MAX_NODES} values, aliases written out"
            )

    def _alias(self, event: yaml.AliasEvent, key: str) -> object:
        if event.anchor not in self._anchors:
            self._add(
                event, key, f"*{event.anchor} stands for nothing", expected=f"&{event.anchor} before it"
            )
            return None
        data, nodes = self._anchors[event.anchor]
        self._count(event, nodes)
        return data

    def _sequence(self, key: str, depth: int) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, _join(key, str(len(items))), depth + 1))
        return items

    def _mapping(self, key: str, depth: int) -> dict[str, object]:
        data: dict[str, object] = {}
        merged: list[tuple[yaml.Event, str, object]] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._skip_pair(event, key, depth)
                continue
            name, path = event.value, _join(key, event.value)
            if name in data:
                first = self._keys[path][0]
                self._add(event, path, f"is given twice, first in line {first}", expected="each key once")
                self._node(next(self._events), f"{path}.again", depth + 1)
                continue
            self._keys[path] = _place(event)
            value = self._node(next(self._events), path, depth + 1)
            if name == "<<" and not event.style:
                merged.append((event, path, value))
            else:
                data[name] = value
        for event, path, value in merged:
            self._merge(data, event, path, value)
        return data

    def _skip_pair(self, event: yaml.Event, key: str, depth: int) -> None:
        self._add(event, key, "a key that is not text", expected="'key: value'")
        self._node(event, f"{key}.key", depth + 1)
        self._node(next(self._events), f"{key}.value", depth + 1)

    def _merge(self, data: dict[str, object], event: yaml.Event, path: str, value: object) -> None:
        parts = value if isinstance(value, list) else [value]
        for part in parts:
            if not isinstance(part, dict):
                self._add(event, path, "merges what is no mapping", expected="*alias of a mapping")
                continue
            self._count(event, len(part))
            for name, inner in part.items():
                data.setdefault(name, inner)

    def _scalar(self, event: yaml.ScalarEvent, key: str) -> object:
        plain = event.implicit[0] and not event.style
        if not plain and event.tag in {None, "!", "tag:yaml.org,2002:str"}:
            return event.value
        try:
            return resolve(event.value)
        except ValueError:
            self._add(event, key, "a number that is too large", expected="at most 18 digits")
            return 0

    def _add(self, event: yaml.Event, key: str, message: str, *, expected: str) -> None:
        self._faults.append(_fault(self._path, _place(event), key, message, expected=expected))


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar by YAML 1.2's core schema. ValueError for a whole number beyond 64 bits."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text if text[-1:].isdigit() or text.endswith(".") else text.replace(".", ""))
    return text


def _integer(text: str) -> int:
    if len(text) > 64:
        raise ValueError(text[:20])
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    number = int(text[2:], base) if base != 10 else int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError(text)
    return number
