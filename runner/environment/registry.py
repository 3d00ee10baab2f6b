"""Reference of an image -> the digest that its registry has for it, asked over HTTP: for machines without Docker.

The API is https://github.com/opencontainers/distribution-spec/blob/main/spec.md, its tokens are those of
https://distribution.github.io/distribution/spec/auth/token. Import this late: httpx is slow.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import logging
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.request import parse_http_list, parse_keqv_list

import httpx

from runner.environment import facts
from runner.errors import EnvironmentFailed

logger = logging.getLogger(__name__)

HUB = "docker.io"
_HUB_API = "registry-1.docker.io"
_TIMEOUT_S = 15.0
# Images for many platforms first: the digest of such an image is the one that Docker knows it by.
_ACCEPT = {
    "Accept": ", ".join(
        (
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        )
    )
}
_HOST = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an image is. `registry` is as credentials name it, `wanted` is a tag or a digest."""

    registry: str
    name: str
    wanted: str

    @property
    def host(self) -> str:
        """Host and port of the registry's API."""
        return _HUB_API if self.registry == HUB else self.registry


@dataclass(frozen=True, kw_only=True)
class _Login:
    """What Docker's configuration has for a registry: name and password, or a token to get others by.

    `plain` says that the registry is the fleet's own, which may be shown them without TLS.
    """

    user: str = ""
    password: str = ""
    identity: str = ""
    plain: bool = False


def digest(reference: str) -> str | None:
    """The `sha256:…` that the registry has for `reference` now, as Docker would say it; None where it has no such
    image.

    TLS, or plain HTTP where a registry at a loopback or private address speaks nothing else. Blocks for the time of
    some requests. Raises EnvironmentFailed where it does not answer or refuses.
    """
    where = address(reference)
    with _our_words(where, reference), _client() as client:
        try:
            answer = _ask(client, "https", where)
        except httpx.ConnectError as error:
            # One that has TLS, but not for us to trust, is not asked without.
            if "CERTIFICATE_VERIFY_FAILED" in str(error) or not is_near(where):
                raise
            answer = _ask(client, "http", where)
    return _read(answer, where, reference)


def address(reference: str) -> Address:
    """Where Docker would look for that image. Raises EnvironmentFailed for what is none."""
    name, rest = facts.repository(reference), reference.partition("@")[2]
    wanted = rest or reference.rpartition("/")[2].partition(":")[2] or "latest"
    head, _, path = name.partition("/")
    if not path or not ({".", ":"} & set(head) or head == "localhost"):
        head, path = HUB, name if path else f"library/{name}"
    well_formed = _DIGEST.fullmatch(wanted) if rest else _TAG.fullmatch(wanted)
    if not (well_formed and _HOST.fullmatch(head) and _NAME.fullmatch(path)):
        raise EnvironmentFailed(
            f"{reference} names no image", tip="correct it in environment: REGISTRY/NAME:TAG, or NAME:TAG"
        )
    return Address(registry=head, name=path, wanted=wanted)


def _client() -> httpx.Client:
    # A proxy that the environment names does not reach this machine itself.
    here = {f"all://{name}": None for name in ("localhost", "127.0.0.1", "[::1]")}
    return httpx.Client(timeout=_TIMEOUT_S, mounts=here, headers={"User-Agent": "pushtrain"})


def is_near(where: Address) -> bool:
    """Whether it is on this machine or in a private network, where a registry may have no TLS."""
    try:
        found = socket.getaddrinfo(httpx.URL(f"https://{where.host}").host, None)
    except (OSError, UnicodeError):
        return False
    return not any(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_global for each in found)


def _ask(client: httpx.Client, scheme: str, where: Address) -> httpx.Response:
    asked = httpx.URL(f"{scheme}://{where.host}/v2/{where.name}/manifests/{where.wanted}")
    answer = client.head(asked, headers=_ACCEPT, follow_redirects=True)
    if answer.status_code != httpx.codes.UNAUTHORIZED:
        return answer
    # A registry that sends elsewhere does not lend its name to that place.
    ours = (answer.url.scheme, answer.url.netloc) == (asked.scheme, asked.netloc)
    authorization = _authorization(client, answer, where, _login(where.registry) if ours else _Login())
    if authorization is None:
        return answer
    return client.head(answer.url, headers={**_ACCEPT, "Authorization": authorization})


def _authorization(client: httpx.Client, answer: httpx.Response, where: Address, login: _Login) -> str | None:
    """What the registry's challenge is answered with; None where nothing is known that would do."""
    for challenge in answer.headers.get_list("www-authenticate"):
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "bearer":
            return _bearer(client, answer.url, _parameters(rest, where), where, login)
        if scheme.lower() == "basic" and login.user:
            if not login.plain:
                _require_secrecy(answer.url, where)
            return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
    return None


def _parameters(text: str, where: Address) -> Mapping[str, str]:
    try:
        return parse_keqv_list(parse_http_list(text))
    except (ValueError, IndexError):
        raise EnvironmentFailed(f"{where.registry} asks for a token in words that are not HTTP's") from None


def _bearer(
    client: httpx.Client, asked: httpx.URL, said: Mapping[str, str], where: Address, login: _Login
) -> str:
    realm = httpx.URL(said.get("realm", ""))
    # Else a registry could have us fetch what only this machine can reach, and hand it over as its token.
    if realm.scheme != "https" and realm.host != asked.host:
        raise EnvironmentFailed(f"{where.registry} sends for a token to {realm}, which has no TLS")
    if login != _Login():
        _require_secrecy(realm, where)
    wanted = {"service": said.get("service", ""), "scope": f"repository:{where.name}:pull"}
    if login.identity:
        form = {"grant_type": "refresh_token", "refresh_token": login.identity, "client_id": "pushtrain"}
        answer = client.post(realm, data={**form, **wanted})
    else:
        answer = client.get(realm, params=wanted, auth=(login.user, login.password) if login.user else None)
    if answer.status_code in {401, 403}:
        raise _refused(where, f"{where.name}:{where.wanted}", answer)
    return f"Bearer {_token(answer, where)}"


def _token(answer: httpx.Response, where: Address) -> str:
    try:
        found = answer.json()
        token = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii():
        raise EnvironmentFailed(
            f"{where.registry} has no token for {where.name} ({answer.status_code} {answer.reason_phrase})",
            tip="try again",
        )
    return token


def _require_secrecy(url: httpx.URL, where: Address) -> None:
    """Docker would send passwords of registries without TLS as they are; over a network we do not."""
    if url.scheme != "https" and url.host not in {"localhost", "127.0.0.1", "::1"}:
        raise EnvironmentFailed(
            f"{where.registry} wants a password and has no TLS",
            tip=f"give it TLS, or take it out of ~/.docker/config.json: docker logout {where.registry}",
        )


def _login(registry: str) -> _Login:
    """As Docker's own configuration has it, helpers that keep passwords included; nothing where there is none."""
    from docker import auth, errors
    from docker.utils import config

    try:
        with warnings.catch_warnings(action="ignore"):  # of a helper that is not installed; it is told below
            found = auth.load_config().resolve_authconfig(None if registry == HUB else registry) or {}
    except (errors.DockerException, ValueError) as error:
        logger.warning("asking %s without a password: %s", registry, error)
        return _Login()
    known = {name.lower(): value or "" for name, value in found.items()}
    return _Login(
        user=known.get("username", ""),
        password=known.get("password", ""),
        identity=known.get("identitytoken", ""),
        # Written by `pushtrain agent start`, see agent/login.py.
        plain=registry in config.load_general_config().get("pushtrain", {}).get("plain", ()),
    )


def _read(answer: httpx.Response, where: Address, reference: str) -> str | None:
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    if answer.status_code in {401, 403}:
        raise _refused(where, reference, answer)
    if not answer.is_success:
        raise EnvironmentFailed(
            f"{where.registry} answers {answer.status_code} {answer.reason_phrase} for {reference}",
            tip="try again",
        )
    found = where.wanted if ":" in where.wanted else answer.headers.get("docker-content-digest", "")
    if not _DIGEST.fullmatch(found):
        raise EnvironmentFailed(
            f"{where.registry} does not say the digest of {reference}",
            tip=f"name the image by it: {facts.repository(reference)}@sha256:…",
        )
    return found


def _refused(where: Address, reference: str, answer: httpx.Response) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"{where.registry} does not show {reference} ({answer.status_code} {answer.reason_phrase}): "
        "there is none, or not for this user",
        tip=f'correct the name, or have the password of {where.registry} in "auths" of ~/.docker/config.json, '
        "as docker login writes it",
    )


@contextlib.contextmanager
def _our_words(where: Address, reference: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EnvironmentFailed(
            f"{where.registry} does not answer when it is asked for {reference}: {error}",
            tip=f"curl -I https://{where.host}/v2/, or another image in environment",
        ) from error
