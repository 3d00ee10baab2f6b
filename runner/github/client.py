"""A repository on GitHub as our token sees it -> requests and their answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from runner import decoding
from runner.errors import GitHubAbsent, GitHubError, UsageError
from runner.github.identity import App, Auth, Token, auth_from
from runner.github.patience import OutOfPatience, back_off_s
from runner.github.refusals import Call, Unsure

if TYPE_CHECKING:
    from runner.github.line import Line
    from runner.github.patience import Clock

__all__ = [
    "App",
    "Auth",
    "Repository",
    "Token",
    "auth_from",
    "connect",
    "convert",
    "is_loopback",
    "next_page",
    "part",
]

PATIENCE_S = 900.0
"""How long a call may wait in all where nothing else waits for it."""

IMPATIENCE_S = 20.0
"""How long it may wait while a run goes on."""

Kind = TypeVar("Kind")


@dataclass(kw_only=True)
class _Connection:
    """What a repository and its views share: a line that is made when the first of them needs it."""

    api_url: str
    repository: str
    auth: Auth
    cache: Path | None
    clock: Clock
    _line: Line | None = field(default=None, init=False, repr=False)

    @property
    def is_made(self) -> bool:
        return self._line is not None

    @property
    def line(self) -> Line:
        if self._line is None:
            # PyGithub is slow to import, and not every command has something to ask.
            from runner.github.line import Line

            self._line = Line(
                api_url=self.api_url,
                repository=self.repository,
                auth=self.auth,
                cache=self.cache,
                clock=self.clock,
            )
        return self._line


class Repository:
    """One repository as our token sees it. Of one thread; makes no request until asked for something.

    Every method raises GitHubDown, GitHubDenied, GitHubAbsent or another GitHubError, and none of another library.
    """

    def __init__(self, name: str, *, connection: _Connection, patience_s: float) -> None:
        self.name = name
        self.patience_s = patience_s
        self._connection = connection

    @property
    def api_url(self) -> str:
        """The API's address, such as https://api.github.com."""
        return self._connection.api_url

    @property
    def calls(self) -> int:
        """The requests sent so far by this and all its views, retries included."""
        return self._connection.line.calls if self._connection.is_made else 0

    @property
    def line(self) -> Line:
        """The connection, for what is no JSON; made at the first use, which takes a tenth of a second."""
        return self._connection.line

    def impatient(self, patience_s: float = IMPATIENCE_S) -> Repository:
        """Returns a view on the same connection whose calls wait no longer than that."""
        return Repository(self.name, connection=self._connection, patience_s=patience_s)

    def named(self, name: str) -> Repository:
        """Returns a view on the same connection by the name as GitHub writes it, which takes it in any case."""
        return Repository(name, connection=self._connection, patience_s=self.patience_s)

    def token(self) -> str:
        """Returns a token that is good now, for git; that of an App is asked for where it is due."""
        if isinstance(self._connection.auth, Token):
            return self._connection.auth.value
        with self.line.patience.call(self.patience_s):
            return self.line.token()

    def close(self) -> None:
        """Closes the connections; safe to repeat."""
        if self._connection.is_made:
            self.line.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, call: Call, path: str, kind: type[Kind], **parameters: str | int) -> Kind:
        """Returns what GitHub says of `path` (below the repository; from the root where it starts with /)."""
        return self._send(call, "GET", path, kind, parameters=parameters)

    def find(self, call: Call, path: str, kind: type[Kind], **parameters: str | int) -> Kind | None:
        """Returns the same as `get`, and None where there is no such thing."""
        with suppress(GitHubAbsent):
            return self.get(call, path, kind, **parameters)
        return None

    def pages(
        self, call: Call, path: str, kind: type[Kind], *, key: str = "", **parameters: str | int
    ) -> Iterator[Kind]:
        """Yields the items of a list, page by page; `key` names the list where it is within an object.

        Most lists come by 30 unless `per_page` says 100, and some know no such parameter.
        """
        items, where = self.page(call, path, kind, key=key, **parameters)
        yield from items
        while where is not None:
            items, where = self.page(call, where, kind, key=key)
            yield from items

    def page(
        self, call: Call, path: str, kind: type[Kind], *, key: str = "", **parameters: str | int
    ) -> tuple[list[Kind], str | None]:
        """Returns one page of a list, and the address of the next one; None on the last."""
        with self.line.patience.call(self.patience_s):
            answer = self.line.send(call, "GET", self._path(path), parameters=parameters)
        items = answer.content.get(key) if key and isinstance(answer.content, dict) else answer.content
        return convert(call, items, list[kind]), next_page(answer.headers)  # type: ignore[valid-type]

    def change(self, call: Call, path: str, body: Mapping[str, Any], kind: type[Kind]) -> Kind:
        """Makes a thing be as `body` says; safe to repeat."""
        return self._send(call, "PATCH", path, kind, body=body)

    def delete(self, call: Call, path: str) -> None:
        """Removes a thing, or finds that it is gone; safe to repeat."""
        with suppress(GitHubAbsent):
            self._send(call, "DELETE", path, object)

    def say(self, call: Call, path: str, body: Mapping[str, Any], kind: type[Kind]) -> Kind:
        """POSTs what makes nothing twice, however often it is sent."""
        return self._send(call, "POST", path, kind, body=body, again=True)

    def create(
        self,
        call: Call,
        path: str,
        body: Mapping[str, Any],
        kind: type[Kind],
        *,
        look: Callable[[], Kind | None],
    ) -> Kind:
        """POSTs what would make a second thing if it were sent twice; returns what was made.

        Where it is not known whether GitHub did it, `look` says what is there, and only if that is nothing it is
        sent again. So one call makes one thing; a second call makes a second.
        """
        return self.once(lambda: self._send(call, "POST", path, kind, body=body, again=False), look=look)

    def append(
        self,
        call: Call,
        path: str,
        body: Mapping[str, Any],
        kind: type[Kind],
        *,
        look: Callable[[], Kind | None],
    ) -> Kind:
        """PATCHes what would add a second time if it were sent twice; see `create`."""
        return self.once(lambda: self._send(call, "PATCH", path, kind, body=body, again=False), look=look)

    def once(self, act: Callable[[], Kind], *, look: Callable[[], Kind | None]) -> Kind:
        """Returns what `act` makes, or what `look` finds after an `act` of which nobody knows what came of it."""
        failures = 0
        with self.line.patience.call(self.patience_s):
            while True:
                try:
                    return act()
                except Unsure as error:
                    failures += 1
                    self.pause(back_off_s(failures), error)
                found = look()
                if found is not None:
                    return found

    def pause(self, wait_s: float, error: GitHubError) -> None:
        """Waits before the next try, or raises `error` where that would end too late."""
        with self.line.patience.call(self.patience_s):
            try:
                self.line.patience.pause(wait_s)
            except OutOfPatience:
                raise error from None

    def _send(
        self,
        call: Call,
        verb: str,
        path: str,
        kind: type[Kind],
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        again: bool = True,
    ) -> Kind:
        with self.line.patience.call(self.patience_s):
            answer = self.line.send(
                call, verb, self._path(path), parameters=parameters, body=body, again=again
            )
        return convert(call, answer.content, kind)

    def _path(self, path: str) -> str:
        if path.startswith(("/", "http")):
            return path
        return f"/repos/{self.name}/{path}".rstrip("/")


def connect(
    *,
    api_url: str,
    repository: str,
    auth: Auth,
    cache: Path | None,
    patience_s: float = PATIENCE_S,
    clock: Clock = time,
) -> Repository:
    """Returns the repository OWNER/NAME at an API such as https://api.github.com; makes no request.

    `cache` is a folder for answers, which are always asked for again by their ETag; None keeps none. A call waits
    `patience_s` in all, for limits to be lifted and faults to pass. Raises UsageError for an address or a name
    that cannot be right.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise UsageError(f"{repository!r} is no repository", tip="write it as OWNER/NAME")
    _check_address(api_url)
    connection = _Connection(
        api_url=api_url.rstrip("/"), repository=repository, auth=auth, cache=cache, clock=clock
    )
    return Repository(repository, connection=connection, patience_s=patience_s)


def _check_address(api_url: str) -> None:
    parts = urlsplit(api_url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and is_loopback(parts.hostname or ""):
        return
    raise UsageError(
        f"{api_url!r} is no address of GitHub's API: the token would be sent in the clear",
        tip="use https://api.github.com, or https://HOST/api/v3 of a GitHub Enterprise server",
    )


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine, by its address or the name localhost."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def part(text: str | int) -> str:
    """Returns the text as one part of a path; `/` is escaped as well."""
    return quote(str(text), safe="")


def convert(call: Call, content: Any, kind: type[Kind]) -> Kind:
    """Returns an answer's content as `kind`; raises GitHubError where it is something else."""
    try:
        return decoding.from_objects(content, kind)
    except msgspec.ValidationError as error:
        raise GitHubError(
            f"GitHub did not {call.doing} as documented: {error}",
            tip="is the address that of GitHub's API? See GITHUB_API_URL",
        ) from error


def next_page(headers: Mapping[str, str]) -> str | None:
    """Returns the address of the next page, from the header `link`; None on the last one."""
    for each in headers.get("link", "").split(","):
        found = re.fullmatch(r'\s*<([^>]+)>\s*;.*\brel="next".*', each)
        if found:
            return found[1]
    return None
