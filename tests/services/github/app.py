"""A request that came by HTTP -> its answer: who asks, what goes wrong, the endpoint, the log, the validation."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from werkzeug.datastructures import Headers, ImmutableMultiDict
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from tests.services.github import endpoints, faults, git, smart_http
from tests.services.github.endpoints.releases import read_range, signed_url
from tests.services.github.faults import Outage
from tests.services.github.routing import Ask, Cut, Endpoint, Json, Problem, Reply, absent, body_of, routes
from tests.services.github.shapes import Shapes, etag
from tests.services.github.state import ROLES, Repo, Token, World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

# Its place on GitHub Enterprise is beside /api/v3, and GitHub's description is of the REST API alone.
_GRAPHQL, _ENTERPRISE_GRAPHQL = "/graphql", "/api/graphql"
_API = ("/repos/", "/repositories/", "/user", "/users/", "/app", "/rate_limit", _GRAPHQL)
_RANK = {"read": 1, "write": 2, "admin": 3}
_WINDOW_S = 3600
# A fault that is held `until` something goes on after so long, so that a test that failed can end.
_HELD_S = 120.0
_SLASH = "\x1f"
# Addresses that GitHub serves still and describes no more.
_CURRENT = {("GET", "/repos/{owner}/{repo}/statuses/{ref}"): "/repos/{owner}/{repo}/commits/{ref}/statuses"}
assert endpoints


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: `kind` is "api", "upload", "git", "web" or "storage"; status 0 where the line was cut."""

    method: str
    path: str
    query: Mapping[str, str]
    status: int
    kind: str
    token_kind: str
    body: Any
    at_s: float


@dataclass(kw_only=True)
class Service:
    """The WSGI application. `description` is GitHub's OpenAPI file, None where nothing is to be validated."""

    world: World
    description: Path | None
    url: str = ""
    storage_url: str = ""
    calls: list[Call] = field(default_factory=list)
    faults: list[faults.Fault] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    outage: Outage | None = None

    def __post_init__(self) -> None:
        self._maps = {upload: routes(upload=upload).bind("127.0.0.1") for upload in (False, True)}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        visit = Visit(service=self, request=request)
        try:
            response = visit.answer()
        except Cut:
            visit.log(0)
            _reset(environ)
            raise
        visit.log(response.status_code)
        return response(environ, start_response)

    def match(self, path: str, method: str, *, upload: bool) -> tuple[Endpoint, Mapping[str, Any]]:
        """The endpoint of a path, and what stands for its parameters. Raises werkzeug's NotFound."""
        found: tuple[Endpoint, Mapping[str, Any]] = self._maps[upload].match(path, method)
        return found

    def storage(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application of the other address, where the bytes of assets lie."""
        request = Request(environ)
        if self.outage:
            _reset(environ)
            raise Cut("the service is away")
        response = self._stored(request)
        with self.world.lock:
            self.calls.append(
                Call(
                    method=request.method, path=request.path, query={}, status=response.status_code, kind="storage",
                    token_kind="", body=None, at_s=time.time(),
                )
            )  # fmt: skip
        return response(environ, start_response)

    def _stored(self, request: Request) -> Response:
        if "Authorization" in request.headers:
            # As Azure's and Amazon's stores say when they are shown two credentials.
            return Response("<Error><Code>InvalidAuthenticationInfo</Code></Error>", status=400)
        with self.world.lock:
            asset = self.world.signatures.get(request.args.get("sig", ""))
        if asset is None or not asset.path.exists():
            return Response("<Error><Code>AuthenticationFailed</Code></Error>", status=403)
        content, said = read_range(asset.path, request.headers.get("Range"))
        headers = {"Content-Range": said} if said else {}
        return Response(
            content, status=206 if said else 200, headers=headers, content_type=asset.content_type
        )


def _reset(environ: WSGIEnvironment) -> None:
    """Closes the connection as a cut line does: the peer sees a reset, not an end."""
    line = environ.get("werkzeug.socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # close() alone would wait for the files that were made of it.
        os.close(line.detach())


@dataclass(kw_only=True)
class Visit:
    """One request on its way."""

    service: Service
    request: Request
    token: Token | None = None
    kind: str = "web"
    path: str = ""
    prefix: str = ""
    found: Endpoint | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raw = self.request.environ.get("RAW_URI", "").partition("?")[0] or self.request.path
        # A slash that was written as %2F is part of a name, and divides nothing.
        self.path = unquote(re.sub("%2f", _SLASH, raw, flags=re.IGNORECASE))

    @property
    def world(self) -> World:
        return self.service.world

    def log(self, status: int) -> None:
        body: Any = None
        if self.kind == "api" and self.request.method in ("POST", "PATCH", "PUT"):
            try:
                body = json.loads(self.request.get_data() or b"null")
            except ValueError:
                body = self.request.get_data()
        call = Call(
            method=self.request.method,
            path=_readable(self.path),
            query=self.request.args.to_dict(),
            status=status,
            kind=self.kind,
            token_kind=self.token.kind if self.token else "none",
            body=body,
            at_s=time.time(),
        )
        with self.world.lock:
            self.service.calls.append(call)

    def answer(self) -> Response:
        self._sort()
        if self.service.outage == "reset":
            raise Cut("the service is away")
        if self.service.outage == "503":
            return _problem(Problem(503, "Service unavailable"))
        fault = self._fault()
        if fault is None:
            return self._true_answer(None)
        time.sleep(fault.delay_s)
        if fault.until is not None:
            fault.until.wait(_HELD_S)
        if fault.after:
            # The request is carried out; what is lost is the news of it.
            response = self._true_answer(fault.cut_upload_after_bytes)
            return _failure(fault) or response
        failure = _failure(fault)
        return self._true_answer(fault.cut_upload_after_bytes) if failure is None else self._failed(failure)

    def _failed(self, failure: Response) -> Response:
        """A failure in place of the answer; what was asked is validated all the same."""
        self._drain()
        if self.kind in ("api", "upload"):
            with contextlib.suppress(Problem):
                self._route()
            self._finish(failure)
            self._validate(failure, faulty=True)
        return failure

    def _drain(self) -> None:
        """Reads what was sent to its end: an answer before that would be lost to a client that still writes."""
        if self.kind == "upload":
            while self.request.stream.read(1024 * 1024):
                pass
        else:
            self.request.get_data()

    def _true_answer(self, cut_after_bytes: int | None) -> Response:
        if self.kind in ("api", "upload"):
            return self._api(cut_after_bytes)
        return self._git() if self.kind == "git" else self._web()

    def _sort(self) -> None:
        """Finds out what the path is of, and takes the prefixes of GitHub Enterprise away."""
        for prefix, kind in (("/api/uploads", "upload"), ("/api/v3", "api")):
            if self.path.startswith(prefix + "/"):
                self.path, self.kind, self.prefix = self.path.removeprefix(prefix), kind, prefix
                break
        else:
            if self.path == _ENTERPRISE_GRAPHQL:
                self.path, self.kind, self.prefix = _GRAPHQL, "api", "/api/v3"
            elif smart_http.place_of(self.path):
                self.kind = "git"
            elif self.path.startswith(_API):
                self.kind = "api"
        numbered = re.match(r"/repositories/(\d+)(/.*|$)", self.path)
        if numbered:
            repo = next((one for one in self.world.repositories.values() if one.id == int(numbered[1])), None)
            self.path = f"/repos/{repo.full_name}{numbered[2]}" if repo else self.path

    def _fault(self) -> faults.Fault | None:
        with self.world.lock:
            for fault in self.service.faults:
                upload_only = fault.cut_upload_after_bytes is not None
                if upload_only and self.kind != "upload":
                    continue
                if fault.matches(self.request.method, _readable(self.path)):
                    fault.hits += 1
                    return fault
        return None

    # the API

    def _api(self, cut_after_bytes: int | None) -> Response:
        try:
            if self.kind == "api":
                self._drain()
            if not self.request.headers.get("User-Agent"):
                raise Problem(
                    403, "Request forbidden by administrative rules. Please send a User-Agent header."
                )
            self.token = self._token(self._credential())
            self._route()
            response = self._limited(cut_after_bytes)
        except Problem as problem:
            self._drain()
            response = _problem(problem)
        self._finish(response)
        self._validate(response)
        return response

    def _credential(self) -> str:
        header = self.request.headers.get("Authorization", "")
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic":
            return base64.b64decode(value).decode(errors="replace").partition(":")[2]
        return value.strip() if scheme.lower() in ("bearer", "token") else ""

    def _token(self, value: str) -> Token:
        if not value:
            return Token(
                value="", kind="none", user=None, app=None, permissions={}, repositories=None, limit=60
            )
        if value.count(".") == 2:
            # An app's own token: the endpoints for apps check it.
            return Token(
                value="", kind="app", user=None, app=None, permissions={}, repositories=None, limit=5000
            )
        found = self.world.tokens.get(value)
        late = found is not None and found.expires_at_s is not None and found.expires_at_s <= self.world.now_s
        if found is None or found.revoked or late:
            raise Problem(401, "Bad credentials")
        return found

    def _route(self) -> None:
        try:
            upload = self.kind == "upload"
            self.found, values = self.service.match(self.path, self.request.method, upload=upload)
        except (NotFound, MethodNotAllowed) as error:
            asked = f"{self.request.method} {_readable(self.path)}"
            self.service.violations.append(
                f"{asked}: the stand-in has no such endpoint; add it in tests/services/github"
            )
            raise absent() from error
        self.values = {
            name: _readable(value) if isinstance(value, str) else value for name, value in values.items()
        }

    def _limited(self, cut_after_bytes: int | None) -> Response:
        token = self.token
        assert token
        assert self.found
        with self.world.lock:
            now_s = time.time()
            if now_s >= token.reset_at_s:
                token.used, token.reset_at_s = 0, now_s + _WINDOW_S
            if token.used >= token.limit and self.path != "/rate_limit":
                raise faults.primary_limit(self._who(token))
            if self.path != "/rate_limit":
                token.used += 1
        response = self._call(cut_after_bytes)
        if response.status_code == 304:
            with self.world.lock:
                token.used -= 1
        return response

    def _who(self, token: Token) -> str:
        if token.kind == "none":
            return "127.0.0.1"
        return f"user ID {token.user.id}" if token.kind == "personal" and token.user else "installation"

    def _call(self, cut_after_bytes: int | None) -> Response:
        assert self.found
        assert self.token
        ask = self._ask(cut_after_bytes)
        arguments: dict[str, Any] = dict(self.values)
        if self.found.upload:
            # Uploads take the lock themselves: their bytes come slowly.
            with self.world.lock:
                arguments["repo"] = self._repository(arguments)
            reply = self.found.handler(ask, **arguments)
        else:
            with self.world.lock:
                if "repo" in arguments and not self.found.account:
                    arguments["repo"] = self._repository(arguments)
                elif "repo" in arguments:
                    self._send_on(f"{arguments['owner']}/{arguments['repo']}")
                reply = self.found.handler(ask, **arguments)
        return self._response(ask, reply)

    def _ask(self, cut_after_bytes: int | None) -> Ask:
        assert self.found
        assert self.token
        api = self.service.url + (self.prefix if self.prefix == "/api/v3" else "")
        return Ask(
            world=self.world,
            request=self.request,
            token=self.token,
            shapes=Shapes(world=self.world, api=api, web=self.service.url),
            upload=f"{self.service.url}/api/uploads",
            storage=self.service.storage_url,
            body={} if self.found.upload else body_of(self.request),
            cut_after_bytes=cut_after_bytes,
        )

    def _repository(self, arguments: dict[str, Any]) -> Repo:
        """The repository that the path names, if the token may do there what the endpoint is for."""
        assert self.found
        assert self.token
        name = f"{arguments.pop('owner')}/{arguments['repo']}"
        repo = self.world.repository(name)
        if repo is None:
            self._send_on(name)
        if repo is None or not self._sees(repo):
            raise absent()
        needs = self.found.needs
        if needs and not any(self._may(repo, need) for need in needs):
            accepted = "; ".join(need.replace(":", "=") for need in needs)
            if self.token.kind == "none":
                raise Problem(401, "Requires authentication")
            whose = "personal access token" if self.token.kind == "personal" else "integration"
            raise Problem(
                403,
                f"Resource not accessible by {whose}",
                headers={"X-Accepted-GitHub-Permissions": accepted},
            )
        return repo

    def _send_on(self, name: str) -> None:
        """Where it was renamed, its number is told: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects"""
        former = self.world.former.get(name.lower())
        if former is None or not self._sees(former):
            return
        tail = "".join(f"/{quote(each, safe=_SLASH)}" for each in self.path.split("/")[4:])
        query = self.request.query_string.decode()
        where = f"{self.service.url}{self.prefix}/repositories/{former.id}{tail}".replace(_SLASH, "%2F")
        read = self.request.method in ("GET", "HEAD")
        raise Problem(
            301 if read else 307,
            "Moved Permanently" if read else "Temporary Redirect",
            headers={"Location": f"{where}?{query}" if query else where},
        )

    def _sees(self, repo: Repo) -> bool:
        token = self.token
        assert token
        if not repo.private:
            return True
        if token.repositories is not None and repo.full_name not in token.repositories:
            return False
        if token.kind == "personal" and token.user:
            return self.world.role(repo, token.user)[0] != "none"
        return token.kind in ("actions", "app")

    def _may(self, repo: Repo, need: str) -> bool:
        token = self.token
        assert token
        name, _, level = need.partition(":")
        if level == "read" and not repo.private:
            return True
        if token.repositories is not None and repo.full_name not in token.repositories:
            return False
        if _RANK.get(token.permissions.get(name, ""), 0) < _RANK[level]:
            return False
        if token.kind == "personal" and token.user and level == "write":
            # Anybody who can read may comment.
            lowest = "read" if name in ("issues", "pull_requests") else "write"
            return ROLES.index(self.world.role(repo, token.user)[0]) >= ROLES.index(lowest)
        return True

    def _response(self, ask: Ask, reply: Reply) -> Response:
        headers = Headers(list(reply.headers.items()))
        if reply.status in (204, 302):
            return Response(b"", status=reply.status, headers=headers)
        content = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
        if ask.links:
            headers["Link"] = ", ".join(
                f'<{self._link(change)}>; rel="{rel}"' for rel, change in ask.links.items()
            )
        response = Response(content, status=reply.status, headers=headers, content_type=reply.content_type)
        if self.request.method == "GET" and reply.status == 200:
            return self._cacheable(response, content)
        return response

    def _link(self, change: Mapping[str, str]) -> str:
        base = f"{self.service.url}{self.prefix}"
        repo = self.world.repository("/".join(self.path.split("/")[2:4]))
        tail = "/" + "/".join(self.path.split("/")[4:])
        where = base + quote(f"/repositories/{repo.id}{tail}" if repo else self.path).replace("%1F", "%2F")
        return f"{where}?{urlencode(self.request.args.to_dict() | dict(change))}"

    def _cacheable(self, response: Response, content: bytes) -> Response:
        tag = etag(content)
        scope = "public" if self.token and self.token.kind == "none" else "private"
        response.headers["ETag"] = tag
        response.headers["Cache-Control"] = f"{scope}, max-age=60, s-maxage=60"
        response.headers["Vary"] = "Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding, Accept"
        known = [one.strip() for one in self.request.headers.get("If-None-Match", "").split(",")]
        if tag in known or tag.removeprefix("W/") in known:
            kept = {name: response.headers[name] for name in ("ETag", "Cache-Control", "Vary")}
            return Response(b"", status=304, headers=kept)
        return response

    def _finish(self, response: Response) -> None:
        """The headers of every answer."""
        token = self.token
        response.headers["X-GitHub-Request-Id"] = f"{id(self):X}"
        response.headers["X-GitHub-Media-Type"] = "github.v3; format=json"
        response.headers["Server"] = "github.com"
        if self.prefix == "/api/v3":
            response.headers["X-GitHub-Enterprise-Version"] = "3.17.0"
        else:
            response.headers["X-GitHub-Api-Version-Selected"] = "2022-11-28"
        if token:
            response.headers["X-RateLimit-Limit"] = str(token.limit)
            response.headers["X-RateLimit-Remaining"] = str(max(0, token.limit - token.used))
            response.headers["X-RateLimit-Used"] = str(token.used)
            response.headers["X-RateLimit-Reset"] = str(int(token.reset_at_s))
            response.headers["X-RateLimit-Resource"] = "core"

    def _validate(self, response: Response, *, faulty: bool = False) -> None:
        if self.found is None or self.service.description is None or self.found.template == _GRAPHQL:
            return
        # It is slow to load, and only those who validate need it.
        from tests.services.github import openapi

        template = _CURRENT.get((self.found.method, self.found.template), self.found.template)
        exchange = openapi.Exchange(
            method=self.found.method,
            template=template,
            values=self.values,
            upload=self.found.upload,
            query=ImmutableMultiDict(self.request.args),
            headers=self.request.headers,
            content_type=self.request.headers.get("Content-Type", ""),
            body=None if self.found.upload else self.request.get_data(),
            status=response.status_code,
            answer=response.get_data(),
            answer_type=response.headers.get("Content-Type", ""),
            answer_headers=response.headers,
            faulty=faulty,
        )
        found = openapi.violations(self.service.description, exchange)
        with self.world.lock:
            self.service.violations += found

    # git and the web

    def _git(self) -> Response:
        place = smart_http.place_of(self.path)
        assert place
        writes = place.writes(self.request)
        challenge = {"WWW-Authenticate": 'Basic realm="GitHub"'}
        try:
            self.token = self._token(self._credential())
        except Problem:
            return Response("Invalid username or token.", status=401, headers=challenge)
        with self.world.lock:
            repo = self.world.repository(place.full_name)
            seen = repo is not None and self._sees(repo) and self._may(repo, "contents:read")
            allowed = seen and (not writes or (repo is not None and self._may(repo, "contents:write")))
        if repo is None or not allowed:
            if self.token.kind == "none":
                return Response("Authentication required", status=401, headers=challenge)
            if seen:
                return Response(f"Permission to {place.full_name}.git denied.", status=403)
            return Response("Repository not found.", status=404)
        user = self.token.user.login if self.token.user else ""
        before = git.snapshot(repo.folder) if place.tail == "/git-receive-pack" else {}
        response = smart_http.serve(repo, place, self.request, user=user)
        if place.tail == "/git-receive-pack" and self.token.user:
            with self.world.lock:
                for name, was, now in smart_http.pushed(before, repo):
                    self.world.moved(repo, name, was, now, by=self.token.user, at_s=self.world.now_s)
        return response

    def _web(self) -> Response:
        """Downloads of releases by their page's address; nothing else of GitHub's pages is here."""
        match = re.fullmatch(r"/([^/]+/[^/]+)/releases/download/(.+)/([^/]+)", unquote(self.path))
        with self.world.lock:
            repo = self.world.repository(match[1]) if match else None
            if match and repo and not repo.private:
                for release in repo.releases.values():
                    for asset in release.assets:
                        if (release.tag, asset.name) == (match[2], match[3]) and not release.draft:
                            where = signed_url(self.world, self.service.storage_url, asset)
                            return Response(b"", status=302, headers={"Location": where})
        return Response("Not Found", status=404)


def _readable(path: str) -> str:
    return path.replace(_SLASH, "/")


def _failure(fault: faults.Fault) -> Response | None:
    if fault.reset:
        raise Cut("a fault")
    if fault.errors:
        return Response(
            json.dumps({"data": None, "errors": fault.errors}), content_type="application/json; charset=utf-8"
        )
    problem = fault.problem()
    return _problem(problem) if problem else None


def _problem(problem: Problem) -> Response:
    if problem.status == 502:
        # What is between GitHub and its users answers with a page.
        return Response("<html><title>502 Bad Gateway</title></html>", status=502, content_type="text/html")
    body: Json = problem.body
    return Response(
        json.dumps(body), status=problem.status, headers=problem.headers,
        content_type="application/json; charset=utf-8",
    )  # fmt: skip
