"""Endpoints by method and path: what a request asks, what is answered, and how GitHub words a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request

from tests.services.github.shapes import Shapes
from tests.services.github.state import App, Repo, Token, User, World

DOCS = "https://docs.github.com/rest"
Json = dict[str, Any]
T = TypeVar("T")


class Problem(Exception):
    """An answer that is not the one that was wanted."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: Sequence[Json | str] = (),
        headers: Mapping[str, str] | None = None,
        docs: str = DOCS,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: Json = {"message": message, "documentation_url": docs, "status": str(status)}
        if errors:
            self.body["errors"] = list(errors)


class Cut(ConnectionResetError):
    """The line is to be cut here."""


def absent() -> Problem:
    return Problem(404, "Not Found")


def invalid(resource: str, code: str, field_name: str, message: str = "") -> Problem:
    """GitHub's usual 422."""
    error = {"resource": resource, "code": code, "field": field_name}
    if message:
        error["message"] = message
    return Problem(422, "Validation Failed", errors=[error])


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`paged` answers get a Link header and one page of `body`; `raw` goes out as it is."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    content_type: str = "application/json; charset=utf-8"
    links: Mapping[str, Mapping[str, str]] | None = None


@dataclass(kw_only=True)
class Ask:
    """A request, who sent it, and what it is about."""

    world: World
    request: Request
    token: Token
    shapes: Shapes
    upload: str
    storage: str
    body: Json
    cut_after_bytes: int | None = None
    links: dict[str, dict[str, str]] = field(default_factory=dict)

    def query(self, name: str, default: str = "") -> str:
        return self.request.args.get(name, default)

    @property
    def user(self) -> User:
        """Who asks, as an account; nobody may not get here."""
        assert self.token.user
        return self.token.user

    @property
    def app(self) -> App | None:
        return self.token.app

    def page(self, items: Iterable[T]) -> list[T]:
        """One page of these; the answer's Link header tells of the others."""
        every = list(items)
        size = min(100, max(1, _number(self.query("per_page"), 30)))
        number = max(1, _number(self.query("page"), 1))
        last = max(1, -(-len(every) // size))
        if number > 1:
            self.links |= {"first": {"page": "1"}, "prev": {"page": str(min(number - 1, last))}}
        if number < last:
            self.links |= {"next": {"page": str(number + 1)}, "last": {"page": str(last)}}
        return every[(number - 1) * size : number * size]

    def cursor_page(self, items: Sequence[T]) -> list[T]:
        """One page of a list that goes by cursors (`after`) instead of page numbers."""
        size = min(100, max(1, _number(self.query("per_page"), 30)))
        begin = _number(self.query("after").removeprefix("cursor"), 0)
        if begin + size < len(items):
            self.links["next"] = {"after": f"cursor{begin + size}"}
        return list(items[begin : begin + size])


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() else default


Handler = Callable[..., Reply]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`needs` are permissions of which one suffices (`checks:write`); `template` is the path in GitHub's docs."""

    method: str
    rule: str
    template: str
    needs: tuple[str, ...]
    handler: Handler
    upload: bool
    account: bool


_ENDPOINTS: list[Endpoint] = []


def endpoint(
    method: str,
    template: str,
    *,
    needs: str | tuple[str, ...] = (),
    tail: str = "",
    upload: bool = False,
    account: bool = False,
) -> Callable[[Handler], Handler]:
    """Makes a function answer `method template` (as in GitHub's docs); `tail` is a parameter with slashes in it."""

    def keep(handler: Handler) -> Handler:
        rule = template.replace("{owner}/{repo}", "<owner>/<repo>")
        for name in _names(rule):
            numbered = name.endswith(("_id", "_number"))
            converter = "path:" if name == tail else "int:" if numbered else ""
            rule = rule.replace(f"{{{name}}}", f"<{converter}{name}>")
        wanted = (needs,) if isinstance(needs, str) else needs
        _ENDPOINTS.append(
            Endpoint(
                method=method,
                rule=rule,
                template=template,
                needs=wanted,
                handler=handler,
                upload=upload,
                account=account,
            )
        )
        return handler

    return keep


def _names(rule: str) -> list[str]:
    return [part.partition("}")[0] for part in rule.split("{")[1:]]


def routes(*, upload: bool) -> Map:
    """Every endpoint that was declared, for requests to the API or for uploads."""
    return Map(
        [
            Rule(found.rule, methods=[found.method], endpoint=found)
            for found in _ENDPOINTS
            if found.upload is upload
        ],
        merge_slashes=False,
        redirect_defaults=False,
        strict_slashes=False,
    )


def body_of(request: Request) -> Json:
    """The JSON object of a request, empty where it has none. Raises Problem as GitHub does."""
    content = request.get_data()
    if not content:
        return {}
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise Problem(400, "Problems parsing JSON") from error
    if not isinstance(parsed, dict):
        raise Problem(400, "Body should be a JSON object")
    return parsed


def required(body: Json, resource: str, *names: str) -> list[Any]:
    """The values of these fields; a 422 names the first that is missing."""
    for name in names:
        if body.get(name) in (None, ""):
            raise invalid(resource, "missing_field", name)
    return [body[name] for name in names]


def keep_file(path: Path, chunks: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        for chunk in chunks:
            target.write(chunk)


__all__ = [
    "Ask", "Cut", "Endpoint", "Json", "Problem", "Reply", "Repo", "absent", "body_of", "endpoint", "invalid",
    "keep_file", "required", "routes",
]  # fmt: skip
