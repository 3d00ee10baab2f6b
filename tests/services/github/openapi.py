"""GitHub's own OpenAPI description held against every request and answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

API = "https://api.github.com"
UPLOADS = "https://uploads.github.com"
_MOST_CHARACTERS = 300
# What PyGithub sends and GitHub takes: `label=` of an upload.
_FALSE_ALARMS = ("Value of label query parameter cannot be empty",)
# Answers that GitHub gives everywhere and describes nowhere.
_EVERYWHERE = {301, 307, 400, 401, 403, 404, 408, 409, 411, 422, 429, 500, 502, 503, 504}


@dataclass(kw_only=True)
class _Request:
    host_url: str
    path: str
    method: str
    content_type: str
    body: bytes | None
    parameters: RequestParameters


@dataclass(kw_only=True)
class _Response:
    data: bytes
    status_code: int
    content_type: str
    headers: Headers


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and its answer, at a path of the description (`template`) with these values in it.

    A `faulty` answer is one that was made up: only its request counts.
    """

    method: str
    template: str
    values: Mapping[str, object]
    upload: bool
    query: ImmutableMultiDict[str, str]
    headers: Headers
    content_type: str
    body: bytes | None
    status: int
    answer: bytes
    answer_type: str
    answer_headers: Headers
    faulty: bool = False


@functools.cache
def description(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(path.read_bytes())
    contents = parsed["paths"]["/repos/{owner}/{repo}/contents/{path}"]["get"]["responses"]["200"]["content"]
    # It says that a folder, which is a list, has a field `type` that is "array". The `oneOf` beside it is right.
    del contents["application/json"]["schema"]["discriminator"]
    return parsed


@functools.cache
def _openapi(path: Path) -> OpenAPI:
    # The description is GitHub's: whether it is well-formed itself is not ours to check, and takes a minute.
    config = Config(spec_validator_cls=None)  # type: ignore[arg-type]  # None is documented: no validator
    return OpenAPI.from_dict(description(path), config=config)


def violations(path: Path, exchange: Exchange) -> list[str]:
    """What GitHub's description at `path` says against this exchange; nothing if all is well."""
    found = [f"request: {text}" for text in _against_request(path, exchange)]
    found += [f"answer: {text}" for text in _against_answer(path, exchange)]
    about = f"{exchange.method} {exchange.template} ({exchange.status})"
    return [f"{about}: {text}" for text in found]


def _request(exchange: Exchange) -> _Request:
    where = exchange.template
    for name, value in exchange.values.items():
        # A tail with slashes is one parameter; the description knows it only as one segment.
        where = where.replace(f"{{{name}}}", quote(str(value), safe="") or "%20")
    headers = Headers(exchange.headers)
    return _Request(
        host_url=UPLOADS if exchange.upload else API,
        path=where,
        method=exchange.method.lower(),
        content_type=exchange.content_type,
        body=exchange.body,
        parameters=RequestParameters(query=exchange.query, header=headers),
    )


def _against_request(path: Path, exchange: Exchange) -> list[str]:
    operation = _operation(path, exchange)
    if operation is None:
        return ["GitHub describes no such endpoint"]
    found = _unknown_query(path, operation, exchange) + _unknown_fields(path, operation, exchange)
    try:
        _openapi(path).validate_request(_request(exchange))
    except OpenAPIError as error:
        found += _faults(error)
    return found


def _against_answer(path: Path, exchange: Exchange) -> list[str]:
    operation = _operation(path, exchange)
    if operation is None or exchange.status == 304 or exchange.faulty:
        return []
    if str(exchange.status) not in operation["responses"]:
        if exchange.status in _EVERYWHERE:
            return [] if b'"message"' in exchange.answer else ["an error without a message"]
        return [f"{exchange.status} is not described"]
    if exchange.status in _EVERYWHERE and b'"message"' in exchange.answer:
        return []
    response = _Response(
        data=exchange.answer,
        status_code=exchange.status,
        content_type=exchange.answer_type.partition(";")[0],
        headers=exchange.answer_headers,
    )
    try:
        _openapi(path).validate_response(_request(exchange), response)
    except OpenAPIError as error:
        return _faults(error)
    return []


def _operation(path: Path, exchange: Exchange) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (
        description(path)["paths"].get(exchange.template, {}).get(exchange.method.lower())
    )
    return found


def _resolve(path: Path, node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = description(path)
        for name in node["$ref"].split("/")[1:]:
            target = target[name]
        node = target
    return node


def _unknown_query(path: Path, operation: dict[str, Any], exchange: Exchange) -> list[str]:
    """GitHub leaves out of account what it does not know: a slip in a name is seen here only."""
    known = {_resolve(path, one)["name"] for one in operation.get("parameters", [])}
    return [f"no query parameter {name!r} is described" for name in exchange.query if name not in known]


def _unknown_fields(path: Path, operation: dict[str, Any], exchange: Exchange) -> list[str]:
    content = _resolve(path, operation.get("requestBody", {})).get("content", {}).get("application/json")
    if not content or not exchange.body:
        return []
    schema = _resolve(path, content["schema"])
    if schema.get("type") != "object" or schema.get("additionalProperties"):
        return []
    known = set(schema.get("properties", {}))
    for part in schema.get("oneOf", []) + schema.get("anyOf", []):
        known |= set(_resolve(path, part).get("properties", {}))
    try:
        given = json.loads(exchange.body)
    except ValueError:
        return ["the body is not JSON"]
    return [f"no field {name!r} is described" for name in given if name not in known]


def _faults(error: OpenAPIError) -> list[str]:
    """What is wrong, each with its place; nothing where GitHub itself does not keep to its description."""
    details: list[Any] = []
    cause: BaseException | None = error
    last = str(error)
    while cause is not None:
        details += getattr(cause, "schema_errors", ())
        last = str(cause)[:_MOST_CHARACTERS]
        cause = cause.__cause__
    if not details:
        text = f"{str(error)[:_MOST_CHARACTERS]}: {last}"
        return [] if any(alarm in text for alarm in _FALSE_ALARMS) else [text]
    return [_detail(detail) for detail in details if not _is_null_in_enum(detail) and not _is_starter(detail)]


def _is_null_in_enum(error: Any) -> bool:
    """`conclusion: null` of a check run that goes on: "nullable", yet null is not in the list of its values."""
    return error.validator == "enum" and error.instance is None and bool(error.schema.get("nullable"))


def _is_starter(error: Any) -> bool:
    """The state of an asset whose upload broke off, as the text of the description says, and its list does not."""
    return error.validator == "enum" and error.instance == "starter" and "uploaded" in error.schema["enum"]


def _detail(error: Any) -> str:
    where = ".".join(str(step) for step in error.absolute_path) or "all of it"
    value = json.dumps(error.instance)
    if error.validator in ("maxItems", "minItems", "maxLength", "minLength"):
        return f"{where}: {error.validator} is {error.validator_value}, here are {len(error.instance)}"
    shown = value if len(value) <= _MOST_CHARACTERS else f"{value[:_MOST_CHARACTERS]}…"
    return f"{where}: {error.message.replace(repr(error.instance), '')[:_MOST_CHARACTERS]} ({shown})"
