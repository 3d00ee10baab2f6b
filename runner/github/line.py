"""Requests to one GitHub server -> its answers, through PyGithub: identity, retries, limits, renewal."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import github
import requests
from github.Auth import Auth as Identity
from github.Requester import HTTPRequestsConnectionClass, HTTPSRequestsConnectionClass, Requester

from runner.errors import GitHubError
from runner.github.answers import Adapter, CachingAdapter, cache_folder
from runner.github.bearer import Bearer, signature
from runner.github.identity import App, Auth
from runner.github.patience import Clock, OutOfPatience, Patience, back_off_s
from runner.github.permissions import ROLES
from runner.github.refusals import Answer, Call, Unsure, down, error_of
from runner.github.retries import PatientRetry, cause_of

logger = logging.getLogger(__name__)

Connection = HTTPRequestsConnectionClass | HTTPSRequestsConnectionClass

_USER_AGENT = f"pushtrain/{version('pushtrain')}"
_API_VERSION = "2022-11-28"
_JSON = "application/vnd.github+json"
_ANSWER_S = 15
_SENT_FILE_S = 300
_CHUNK_BYTES = 64 << 10
_HOPS = 5
_MOVED = HTTPStatus.MOVED_PERMANENTLY
_RENEW_BEFORE = timedelta(minutes=5)
_ELSEWHERE = frozenset({301, 302, 303, 307, 308})
_PASSING = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.RetryError,
)

# Its debug lines hold whole answers, and so the tokens that an App is given; its others say again what we say, and
# by a handler that it brings all are written twice.
logging.getLogger("github").setLevel(logging.WARNING)
logging.getLogger("github").handlers.clear()
# Its warnings hold the addresses of storage hosts, which are secrets; what is waited for is logged by us.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class Line:
    """The connection to one server; `calls` is the number of requests sent. Of one thread."""

    def __init__(
        self, *, api_url: str, repository: str, auth: Auth, cache: Path | None, clock: Clock
    ) -> None:
        self.api_url = api_url
        self.calls = 0
        self.patience = Patience(clock)
        self.remembered: dict[str, str] = {}
        self._repository = repository
        self._auth = auth
        self._bearer = Bearer("token", "" if isinstance(auth, App) else auth.value)
        self._ends_at: datetime | None = None
        self._requester = self._as(self._bearer)
        self._connection = self._connect(cache)
        self._files = self._session()

    @property
    def graphql_url(self) -> str:
        """The address of the GraphQL API of the same server."""
        return self._requester.graphql_url

    def close(self) -> None:
        """Closes the connections; safe to repeat."""
        self._connection.close()
        self._files.close()

    def token(self) -> str:
        """Returns a token that has not ended by the clock; an App's is renewed where it is due."""
        if isinstance(self._auth, App) and self._ends_soon():
            self._renew(self._auth)
        return self._bearer.value

    def send(
        self,
        call: Call,
        verb: str,
        url: str,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        again: bool = True,
    ) -> Answer:
        """Returns a good answer (2xx) to a request; `url` is an address, or a path below that of the API.

        Limits and faults are waited for as long as the call may wait. A token of an App that is refused is
        renewed once. Raises GitHubError otherwise; Unsure for what GitHub may have done or not, where that is not
        to be sent `again`.
        """

        def ask() -> Answer:
            return self._ask(call, self._requester, verb, url, parameters=parameters, body=body)

        answer = self._let_in(call, lambda: self._try(call, ask, again=again))
        if answer.status == HTTPStatus.NOT_MODIFIED:  # what was in the cache is gone since it was looked at
            answer = self._try(call, ask, again=again)
        return _good(call, answer)

    def send_file(self, call: Call, url: str, file: BinaryIO, *, size_bytes: int) -> Answer:
        """Returns the good answer to a POST of a file's bytes, which are not held in memory; raises as `send`.

        `url` is the address that GitHub gave for it; raises GitHubError where that is not GitHub's.
        """
        self._check_ours(call, url)

        def ask() -> Answer:
            file.seek(0)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
            response = self._files.post(
                url, data=file, headers=self._signed(headers), timeout=_SENT_FILE_S, allow_redirects=False
            )
            return _answer(call, response.status_code, response.headers, response.text)

        return _good(call, self._let_in(call, lambda: self._try(call, ask, again=False)))

    @contextmanager
    def receive(self, call: Call, url: str, *, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Gives where an asset's bytes start (`start`, or 0 where that cannot be chosen) and the bytes.

        Where GitHub names a storage host, that one is asked, without our token. Raises as `send`; a line that is
        cut while the bytes come raises Unsure.
        """
        wanted = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
        if start:
            wanted["Range"] = f"bytes={start}-"
        opened: list[requests.Response] = []

        def ask(where: str, headers: dict[str, str]) -> Answer:
            response = self._files.get(
                where, headers=headers, stream=True, timeout=self._timeout_s(_ANSWER_S), allow_redirects=False
            )
            opened.append(response)
            is_body = response.status_code < HTTPStatus.MULTIPLE_CHOICES
            return _answer(call, response.status_code, response.headers, "" if is_body else response.text)

        try:
            answer = self._let_in(
                call,
                lambda: self._try(
                    call, lambda: ask(f"{self.api_url}{url}", self._signed(wanted)), again=True
                ),
            )
            while answer.status in _ELSEWHERE and len(opened) < _HOPS:
                where = answer.headers.get("location", "")
                answer = self._try(call, lambda where=where: ask(where, wanted), again=True)  # type: ignore[misc]
            _good(call, answer)
            yield start if answer.status == HTTPStatus.PARTIAL_CONTENT else 0, self._bytes(call, opened[-1])
        finally:
            for response in opened:
                response.close()

    def _bytes(self, call: Call, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_content(_CHUNK_BYTES)
        except _PASSING as error:
            raise Unsure(f"GitHub did not {call.doing}: {_reason(error)}") from None

    def _ask(
        self,
        call: Call,
        requester: Requester,
        verb: str,
        url: str,
        *,
        parameters: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        self._connection.timeout = self._timeout_s(_ANSWER_S)
        try:
            answered = requester.requestJson(
                verb, url, dict(parameters or {}), {"Accept": _JSON}, body, self._connection
            )
        except _Elsewhere as elsewhere:
            raise self._moved(call, requester, url, elsewhere.where) from None
        return _answer(call, *answered)

    def _moved(self, call: Call, requester: Requester, url: str, where: str) -> GitHubError:
        """The error for what is elsewhere now; a repository of another name is known by its number there."""
        theirs, ours = urlsplit(where), urlsplit(self.api_url)
        if theirs.netloc and (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            return GitHubError(
                f"GitHub did not {call.doing}: its API is redirected to {theirs.hostname}",
                tip="see GITHUB_API_URL",
            )
        number = re.search(r"/repositories/\d+", theirs.path)
        asked = number is not None and number[0] not in url
        known = self._ask(call, requester, "GET", number[0]).content if number and asked else None
        name = known.get("full_name") if isinstance(known, dict) else None
        if name is None:
            return error_of(call, Answer(status=_MOVED, headers={"location": where}, content=None))
        return GitHubError(
            f"GitHub did not {call.doing}: the repository {self._repository} moved to {name}",
            tip="name it so",
        )

    def _try(self, call: Call, ask: Callable[[], Answer], *, again: bool) -> Answer:
        """Returns an answer below 500; what failed on the way is tried again, if it may be."""
        failures = 0
        while True:
            answer = self._attempt(call, ask)
            if isinstance(answer, Answer):
                return answer
            failures += 1
            if not again:
                raise answer
            try:
                self.patience.pause(back_off_s(failures))
            except OutOfPatience:
                raise answer from None

    def _attempt(self, call: Call, ask: Callable[[], Answer]) -> Answer | Unsure:
        try:
            self.patience.heed()
            answer = ask()
        except github.GithubException as error:  # a 403 that is no limit
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            return Answer(status=error.status, headers=headers, content=error.data)
        except OutOfPatience as error:
            now_s = self.patience.clock.time()
            raise down(call, error.reason, wait_s=error.wait_s, now_s=now_s) from None
        except _PASSING as error:
            return _fault(call, error)
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return answer
        return Unsure(str(error_of(call, answer)), tip="try again later")

    def _let_in(self, call: Call, ask: Callable[[], Answer]) -> Answer:
        """Returns the answer with a token that has not ended; an App's is renewed where it is due, or refused."""
        self.token()
        answer = ask()
        if answer.status == HTTPStatus.UNAUTHORIZED and isinstance(self._auth, App):
            logger.info(
                "GitHub refused the token while it was asked to %s; asking for another one", call.doing
            )
            self._renew(self._auth)
            answer = ask()
        return answer

    def _renew(self, app: App) -> None:
        """Asks for a new token of the installation; a token more does no harm, so repeating is safe."""
        call = Call(doing=f"let the App {app.id} in", feature=ROLES)
        where = str(app.installation or "") or self.remembered.get("installation", "")
        if not where:
            found = self._as_app(call, app, "GET", f"/repos/{self._repository}/installation")
            where = self.remembered["installation"] = str(found["id"])
        made = self._as_app(call, app, "POST", f"/app/installations/{where}/access_tokens")
        self._bearer.value = made["token"]
        self._ends_at = datetime.fromisoformat(made["expires_at"])

    def app_login(self, call: Call) -> str:
        """Returns the login under which our App writes; "" where we are none. One request."""
        if not isinstance(self._auth, App):
            return ""
        return f"{self._as_app(call, self._auth, 'GET', '/app')['slug']}[bot]"

    def _as_app(self, call: Call, app: App, verb: str, path: str) -> dict[str, Any]:
        requester = self._as(Bearer("Bearer", signature(app)))
        answer = _good(call, self._try(call, lambda: self._ask(call, requester, verb, path), again=True))
        if not isinstance(answer.content, dict):
            raise GitHubError(f"GitHub did not {call.doing} as documented", tip="see GITHUB_API_URL")
        return answer.content

    def _ends_soon(self) -> bool:
        now = datetime.fromtimestamp(self.patience.clock.time(), UTC)
        return self._ends_at is None or self._ends_at - _RENEW_BEFORE < now

    def _as(self, identity: Identity) -> Requester:
        return github.Github(
            base_url=self.api_url,
            auth=identity,
            user_agent=_USER_AGENT,
            api_version=_API_VERSION,
            seconds_between_requests=None,
            seconds_between_writes=None,
        ).requester

    def _signed(self, headers: Mapping[str, str]) -> dict[str, str]:
        signed = {"Accept": _JSON, "User-Agent": _USER_AGENT, "X-GitHub-Api-Version": _API_VERSION, **headers}
        self._bearer.authentication(signed)
        return signed

    def _connect(self, cache: Path | None) -> Connection:
        parts = urlsplit(self.api_url)
        kind = HTTPSRequestsConnectionClass if parts.scheme == "https" else HTTPRequestsConnectionClass
        connection = kind(parts.hostname or "", parts.port, retry=self._retry())
        secret = self._auth.private_key if isinstance(self._auth, App) else self._auth.value
        folder = cache_folder(cache, f"{secret}\n{self._repository}") if cache else None
        if folder:
            adapter: Adapter = CachingAdapter(folder, on_send=self._count, max_retries=self._retry())
        else:
            adapter = Adapter(on_send=self._count, max_retries=self._retry())
        connection.session.mount(f"{parts.scheme}://", adapter)
        connection.session.hooks["response"].append(_stay_here)
        return connection

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.auth = Requester.noopAuth  # else .netrc would be read
        for scheme in ("https://", "http://"):
            session.mount(scheme, Adapter(on_send=self._count, max_retries=self._retry()))
        return session

    def _retry(self) -> PatientRetry:
        return PatientRetry(patience=self.patience, on_again=self._count)

    def _count(self) -> None:
        self.calls += 1

    def _timeout_s(self, longest_s: float) -> int:
        return max(1, int(min(longest_s, self.patience.left_s)))

    def _check_ours(self, call: Call, url: str) -> None:
        """The token goes to the API's host, and to the one beside it that takes uploads."""
        ours, theirs = urlsplit(self.api_url), urlsplit(url)
        host = ours.hostname or ""
        hosts = {host, f"uploads.{host.removeprefix('api.')}"}
        if theirs.scheme != ours.scheme or theirs.hostname not in hosts:
            raise GitHubError(
                f"GitHub did not {call.doing}: it names {theirs.hostname}, which is not its own"
            )


class _Elsewhere(Exception):
    """What was asked for is `where` the answer says."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def _stay_here(response: requests.Response, **_: object) -> None:
    """Raises _Elsewhere before PyGithub follows: it would leave the query out, and all would be asked for.

    https://github.com/PyGithub/PyGithub/blob/v2.10.0/github/Requester.py
    """
    if response.status_code == _MOVED:
        response.close()
        raise _Elsewhere(response.headers.get("location", ""))


def _answer(call: Call, status: int, headers: Mapping[str, str], text: str) -> Answer:
    content: Any = None
    try:
        content = json.loads(text) if text else None
    except ValueError as error:
        if status < HTTPStatus.BAD_REQUEST:
            raise GitHubError(
                f"GitHub did not {call.doing}: what answers at its address does not speak JSON",
                tip="is it the address of GitHub's API? See GITHUB_API_URL",
            ) from error
        # A proxy or a page of an outage.
        content = None
    return Answer(
        status=status, headers={name.lower(): value for name, value in headers.items()}, content=content
    )


def _good(call: Call, answer: Answer) -> Answer:
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    raise error_of(call, answer)


def _fault(call: Call, error: requests.exceptions.RequestException) -> Unsure:
    if isinstance(error, requests.exceptions.SSLError) and "certificate" in str(error).lower():
        raise GitHubError(
            f"GitHub did not {call.doing}: its certificate is not one to trust",
            tip="set REQUESTS_CA_BUNDLE to the certificates that your server is signed with",
        ) from None
    return Unsure(f"GitHub did not {call.doing}: {_reason(error)}", tip="try again later")


def _reason(error: BaseException) -> str:
    """Few words, without the address: that of a storage host is a secret itself."""
    if isinstance(error, requests.exceptions.Timeout):
        return "it does not answer in time"
    return f"the line was cut{cause_of(error)}"
