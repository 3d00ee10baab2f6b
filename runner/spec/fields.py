"""Scalars of train.yml -> checked, typed values; each with the JSON Schema of what people write."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from runner.quantities import Gpu, MalformedError, duration, gpu, shown, size
from runner.spec import cron

_REQUIREMENT_FILES = (".txt", ".in", ".toml", ".lock", ".cfg")
_CONDA_FILES = (".yml", ".yaml", ".lock", ".txt")


def matching(pattern: str, expected: str) -> AfterValidator:
    """Text of which all matches `pattern`; `expected` says so in words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise MalformedError(f"{shown(text)} cannot be used", expected=expected)
        return text

    return AfterValidator(check)


def _pattern(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,61}[A-Za-z0-9]|[A-Za-z0-9]"
_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_-]{0,62}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*"
_APT = r"[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9.+:~-]+)?"
_DIGEST = r"sha256:[0-9a-f]{64}"
_PYTHON = r"3\.[0-9]{1,2}(?:\.[0-9]{1,2})?"
_COMMAND = r"/[a-z][a-z0-9-]{0,30}"
_LINE = r"\S(?:[^\r\n]*\S)?"
_GLOB_PART = r"\\\S|\[(?:[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[A-Za-z0-9])+\]|[^\r\n\\\[\]]"
_GLOB = rf"!?(?=\S)(?!.*\s$)(?:{_GLOB_PART})+"

Name = Annotated[
    str, matching(_NAME, "letters, digits, - _ and single dots, at most 63 characters"), _pattern(_NAME)
]
Identifier = Annotated[
    str, matching(_IDENTIFIER, "a letter, then letters, digits, - or _"), _pattern(_IDENTIFIER)
]
Variable = Annotated[str, matching(_VARIABLE, "a letter, then letters, digits or _"), _pattern(_VARIABLE)]
Image = Annotated[str, matching(_IMAGE, "an image such as python:3.11-slim"), _pattern(_IMAGE)]
AptPackage = Annotated[
    str, matching(_APT, "a Debian package such as libsndfile1 or git=1:2.39.2-1"), _pattern(_APT)
]
Digest = Annotated[str, matching(_DIGEST, "sha256: and 64 hexadecimal digits"), _pattern(_DIGEST)]
Glob = Annotated[
    str, matching(_GLOB, r"a pattern such as release/**, v[0-9]+.* or !docs/**"), _pattern(_GLOB)
]
Line = Annotated[str, matching(_LINE, "text in one line, not empty"), _pattern(_LINE)]


def _not_taken(text: str) -> str:
    if text == "/promote":
        raise MalformedError("/promote is the command for models", expected="another word, such as /train")
    return text


Command = Annotated[
    str,
    matching(_COMMAND, "a slash and a word, such as /train"),
    AfterValidator(_not_taken),
    _pattern(_COMMAND),
]


def _no_nul(text: str) -> str:
    if "\0" in text or not text.strip():
        raise MalformedError("is empty", expected="text")
    return text


Text = Annotated[str, AfterValidator(_no_nul), WithJsonSchema({"type": "string", "minLength": 1})]


def _python(value: object) -> str:
    if isinstance(value, int | float):
        raise MalformedError(f"{value} is a number", expected='text in quotes, such as "3.10"')
    if not isinstance(value, str) or not re.fullmatch(_PYTHON, value):
        raise MalformedError(f"{shown(value)} is not a version of Python 3", expected='"3.11" or "3.11.7"')
    return value


Python = Annotated[
    str, PlainValidator(_python), WithJsonSchema({"type": "string", "pattern": f"^{_PYTHON}$"})
]


def relative_path(text: str) -> str:
    """A path inside the repository, normalised (`./src/` is `src`). Raises MalformedError for any other."""
    bad = not text.strip() or re.search(r"[\0\r\n\\]", text) or text.startswith(("/", "~"))
    if bad or ".." in text.split("/") or re.match(r"[A-Za-z][A-Za-z0-9+]*://", text):
        raise MalformedError(
            f"{shown(text)} does not lie in the repository", expected="a relative path without '..', with /"
        )
    return posixpath.normpath(text)


RelativePath = Annotated[
    str, AfterValidator(relative_path), WithJsonSchema({"type": "string", "pattern": r"^[^/~\\]"})
]


def _source(text: str) -> str:
    """Where data lies: a URL, a path on the host or in the repository, or a registered `name@v3`."""
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme and scheme not in {"s3", "https", "http", "file"} and "${{" not in scheme:
        raise MalformedError(f"{scheme}:// is not supported", expected="s3://, https:// or a path")
    if not text.strip() or re.search(r"[\0\r\n]", text) or ".." in text.split("/"):
        raise MalformedError(
            f"{shown(text)} is not a source of data",
            expected="s3://…, https://…, a path without '..' or NAME@v1",
        )
    return text


Source = Annotated[str, AfterValidator(_source), WithJsonSchema({"type": "string", "minLength": 1})]


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


# YAML gives lists; a strict tuple would refuse them.
Listed = BeforeValidator(_listed)


def _some_positive(globs: tuple[str, ...]) -> tuple[str, ...]:
    if globs and all(glob.startswith("!") for glob in globs):
        raise MalformedError(
            "every pattern takes something out, so nothing is left",
            expected="a pattern without ! before them, such as '**'",
        )
    return globs


Globs = Annotated[tuple[Glob, ...], Listed, AfterValidator(_some_positive)]


def _positive_duration(value: object) -> float:
    seconds = duration(value)
    if seconds <= 0:
        raise MalformedError(f"{shown(value)} leaves no time", expected="more than 0s, or no limit at all")
    return seconds


_DURATION_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?[wdhms])+$"},
            {"type": "number", "minimum": 0},
        ],
        "examples": ["30s", "45m", "2h", "1h30m"],
    }
)
_SIZE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s?([kKmMgGtTpP]i?)?[bB]$"},
            {"type": "integer", "minimum": 1},
        ],
        "examples": ["512MiB", "32GiB"],
    }
)
_GPU_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "pattern": r"^([A-Za-z][A-Za-z0-9_.-]*(:[0-9]+)?|[0-9]+)$"},
            {"type": "integer", "minimum": 1},
        ],
        "examples": ["H100:8", 1],
    }
)


def _positive_size(value: object) -> int:
    size_bytes = size(value)
    if size_bytes == 0:
        raise MalformedError("0 bytes are not enough", expected="512MiB, 32GiB or 10GB")
    return size_bytes


def _gpu(value: object) -> Gpu:
    return value if isinstance(value, Gpu) else gpu(value)


Seconds = Annotated[float, PlainValidator(duration), _DURATION_SCHEMA]
Limit = Annotated[float, PlainValidator(_positive_duration), _DURATION_SCHEMA]
Bytes = Annotated[int, PlainValidator(_positive_size), _SIZE_SCHEMA]
GpuField = Annotated[Gpu, PlainValidator(_gpu), PlainSerializer(str), _GPU_SCHEMA]


# Beside a plain validator pydantic would dump by the annotated type, and warn of a tuple dumped as a list.
AS_IT_IS = PlainSerializer(lambda value: value)


def _packages(suffixes: tuple[str, ...], file: str) -> Callable[[object], str | tuple[str, ...]]:
    """One reader for `pip` and `conda`: a file's path, or a list of packages."""

    def read(value: object) -> str | tuple[str, ...]:
        if isinstance(value, str) and value.endswith(suffixes):
            return relative_path(value)
        if not isinstance(value, list | tuple):
            raise MalformedError(
                f"{shown(value)} is neither a file nor a list", expected=f"{file}, or [numpy]"
            )
        for index, item in enumerate(value):
            if not isinstance(item, str) or not re.fullmatch(_LINE, item):
                raise MalformedError(
                    f"{shown(item)} is not a package", expected="a package such as numpy==2.1", at=str(index)
                )
        return tuple(value)

    return read


def _packages_schema(suffixes: tuple[str, ...]) -> WithJsonSchema:
    endings = "|".join(suffix[1:] for suffix in suffixes)
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": rf"\.({endings})$"},
                {"type": "array", "items": {"type": "string", "pattern": f"^{_LINE}$"}},
            ]
        }
    )


PipPackages = Annotated[
    str | tuple[str, ...],
    PlainValidator(_packages(_REQUIREMENT_FILES, "requirements.txt")),
    AS_IT_IS,
    _packages_schema(_REQUIREMENT_FILES),
]
CondaPackages = Annotated[
    str | tuple[str, ...],
    PlainValidator(_packages(_CONDA_FILES, "environment.yml")),
    AS_IT_IS,
    _packages_schema(_CONDA_FILES),
]

_CRON_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"cron": {"type": "string", "description": "Five fields, in UTC."}},
                "required": ["cron"],
                "additionalProperties": False,
            },
        ],
    }
)
Schedule = Annotated[
    tuple[Annotated[str, PlainValidator(cron.line), _CRON_SCHEMA], ...], BeforeValidator(cron.times)
]

Positive = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Labels = Mapping[Name, Line]
