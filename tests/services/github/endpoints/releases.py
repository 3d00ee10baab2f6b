"""Releases and their files."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tests.services.github import git
from tests.services.github.routing import (
    Ask,
    Cut,
    Problem,
    Reply,
    absent,
    endpoint,
    invalid,
    keep_file,
    required,
)
from tests.services.github.state import Asset, Release, Repo, World

_CHUNK_BYTES = 1024 * 1024
_MOST_BYTES = 2 * 1024**3
_READ, _WRITE = "contents:read", "contents:write"


def _sees_drafts(ask: Ask, repo: Repo) -> bool:
    if ask.token.kind == "none" or ask.token.permissions.get("contents") != "write":
        return False
    return ask.token.kind != "personal" or ask.world.role(repo, ask.user)[0] in ("write", "maintain", "admin")


def _seen(ask: Ask, repo: Repo) -> list[Release]:
    drafts = _sees_drafts(ask, repo)
    return [release for release in repo.releases.values() if drafts or not release.draft]


def _release(ask: Ask, repo: Repo, release_id: int) -> Release:
    found = next((release for release in _seen(ask, repo) if release.id == release_id), None)
    if found is None:
        raise absent()
    return found


def _published(repo: Repo, tag: str) -> Release | None:
    return next((one for one in repo.releases.values() if one.tag == tag and not one.draft), None)


@endpoint("GET", "/repos/{owner}/{repo}/releases", needs=_READ)
def releases(ask: Ask, repo: Repo) -> Reply:
    found = sorted(_seen(ask, repo), key=lambda release: release.id, reverse=True)
    return Reply(body=[ask.shapes.release(repo, release, ask.upload) for release in ask.page(found)])


@endpoint("GET", "/repos/{owner}/{repo}/releases/latest", needs=_READ)
def latest(ask: Ask, repo: Repo) -> Reply:
    found = [release for release in repo.releases.values() if not release.draft and not release.prerelease]
    if not found:
        raise absent()
    newest = max(found, key=lambda release: (release.created_at_s, release.id))
    return Reply(body=ask.shapes.release(repo, newest, ask.upload))


@endpoint("GET", "/repos/{owner}/{repo}/releases/tags/{tag}", needs=_READ, tail="tag")
def by_tag(ask: Ask, repo: Repo, tag: str) -> Reply:
    # A draft has no tag yet, so it is not found by one.
    found = _published(repo, tag)
    if found is None:
        raise absent()
    return Reply(body=ask.shapes.release(repo, found, ask.upload))


@endpoint("GET", "/repos/{owner}/{repo}/releases/{release_id}", needs=_READ)
def release(ask: Ask, repo: Repo, release_id: int) -> Reply:
    return Reply(body=ask.shapes.release(repo, _release(ask, repo, release_id), ask.upload))


@endpoint("POST", "/repos/{owner}/{repo}/releases", needs=_WRITE)
def create(ask: Ask, repo: Repo) -> Reply:
    (tag,) = required(ask.body, "Release", "tag_name")
    draft = bool(ask.body.get("draft"))
    _judge(repo, tag, ask.body.get("body"), draft=draft, own=None)
    made = Release(
        id=ask.world.next_id(),
        tag=tag,
        target=ask.body.get("target_commitish") or repo.default_branch,
        name=ask.body.get("name"),
        body=ask.body.get("body"),
        draft=True,
        prerelease=bool(ask.body.get("prerelease")),
        by=ask.user,
        created_at_s=ask.world.now_s,
        published_at_s=None,
        untagged=f"untagged-{secrets.token_hex(10)}",
    )
    if not draft:
        _publish(ask, repo, made)
    repo.releases[made.id] = made
    body = ask.shapes.release(repo, made, ask.upload)
    return Reply(status=201, body=body, headers={"Location": body["url"]})


def _judge(repo: Repo, tag: str, body: str | None, *, draft: bool, own: Release | None) -> None:
    if git.resolve(repo.folder, repo.default_branch) is None:
        raise Problem(422, "Repository is empty.")
    taken = _published(repo, tag)
    if taken and taken is not own and not draft:
        raise invalid("Release", "already_exists", "tag_name")
    if body and len(body) > 125_000:
        raise invalid("Release", "custom", "body", "body is too long (maximum is 125000 characters)")


def _publish(ask: Ask, repo: Repo, release: Release) -> None:
    """Makes the tag where there is none: a plain one."""
    name = f"refs/tags/{release.tag}"
    if git.ref(repo.folder, name) is None:
        commit = git.resolve(repo.folder, release.target)
        if commit is None:
            raise invalid("Release", "invalid", "target_commitish")
        try:
            git.set_ref(repo.folder, name, commit)
        except git.GitFailed as error:
            raise invalid("Release", "custom", "tag_name", "tag_name is not well-formed") from error
    release.draft = False
    release.published_at_s = release.published_at_s or ask.world.now_s


@endpoint("PATCH", "/repos/{owner}/{repo}/releases/{release_id}", needs=_WRITE)
def update(ask: Ask, repo: Repo, release_id: int) -> Reply:
    found = _release(ask, repo, release_id)
    body = ask.body
    draft = bool(body.get("draft", found.draft))
    _judge(repo, body.get("tag_name") or found.tag, body.get("body"), draft=draft, own=found)
    found.tag = body.get("tag_name") or found.tag
    found.target = body.get("target_commitish") or found.target
    found.name = body.get("name", found.name)
    found.body = body.get("body", found.body)
    found.prerelease = bool(body.get("prerelease", found.prerelease))
    if draft:
        found.draft = True
    else:
        _publish(ask, repo, found)
    return Reply(body=ask.shapes.release(repo, found, ask.upload))


@endpoint("DELETE", "/repos/{owner}/{repo}/releases/{release_id}", needs=_WRITE)
def delete(ask: Ask, repo: Repo, release_id: int) -> Reply:
    found = _release(ask, repo, release_id)
    del repo.releases[found.id]
    return Reply(status=204)


@endpoint("GET", "/repos/{owner}/{repo}/releases/{release_id}/assets", needs=_READ)
def assets(ask: Ask, repo: Repo, release_id: int) -> Reply:
    found = _release(ask, repo, release_id)
    return Reply(body=[ask.shapes.asset(repo, found, asset) for asset in ask.page(found.assets)])


def _asset(ask: Ask, repo: Repo, asset_id: int) -> tuple[Release, Asset]:
    for release in _seen(ask, repo):
        for asset in release.assets:
            if asset.id == asset_id:
                return release, asset
    raise absent()


@endpoint("GET", "/repos/{owner}/{repo}/releases/assets/{asset_id}", needs=_READ)
def asset(ask: Ask, repo: Repo, asset_id: int) -> Reply:
    found_in, found = _asset(ask, repo, asset_id)
    if "application/octet-stream" not in ask.request.headers.get("Accept", ""):
        return Reply(body=ask.shapes.asset(repo, found_in, found))
    if found.state != "uploaded":
        raise absent()
    return Reply(status=302, headers={"Location": signed_url(ask.world, ask.storage, found)})


def signed_url(world: World, storage: str, asset: Asset) -> str:
    """Where the bytes lie, for whoever has this address and no Authorization header with it."""
    signature = secrets.token_hex(16)
    world.signatures[signature] = asset
    asset.downloads += 1
    return f"{storage}/github-production-release-asset/{asset.id}?sig={signature}"


@endpoint("PATCH", "/repos/{owner}/{repo}/releases/assets/{asset_id}", needs=_WRITE)
def rename(ask: Ask, repo: Repo, asset_id: int) -> Reply:
    found_in, found = _asset(ask, repo, asset_id)
    if ask.body.get("name"):
        found.name = _free_name(found_in, ask.body["name"], own=found)
    found.label = ask.body.get("label", found.label)
    return Reply(body=ask.shapes.asset(repo, found_in, found))


@endpoint("DELETE", "/repos/{owner}/{repo}/releases/assets/{asset_id}", needs=_WRITE)
def delete_asset(ask: Ask, repo: Repo, asset_id: int) -> Reply:
    found_in, found = _asset(ask, repo, asset_id)
    found_in.assets.remove(found)
    found.path.unlink(missing_ok=True)
    return Reply(status=204)


@endpoint("POST", "/repos/{owner}/{repo}/releases/{release_id}/assets", needs=_WRITE, upload=True)
def upload(ask: Ask, repo: Repo, release_id: int) -> Reply:
    size_bytes = ask.request.content_length
    with ask.world.lock:
        found_in = _release(ask, repo, release_id)
        made = _begin(ask, found_in, size_bytes)
    assert size_bytes is not None
    _receive(ask, made, size_bytes)
    with ask.world.lock:
        made.state = "uploaded"
        body = ask.shapes.asset(repo, found_in, made)
    return Reply(status=201, body=body, headers={"Location": body["url"]})


def _begin(ask: Ask, release: Release, size_bytes: int | None) -> Asset:
    """The file as long as its bytes come: a "starter", which stays if they do not all come."""
    if not ask.request.headers.get("Content-Type"):
        raise Problem(400, "Bad Content-Type")
    if size_bytes is None:
        raise Problem(411, "Length Required")
    if size_bytes == 0:
        raise Problem(400, "Bad Content-Length: 0")
    if size_bytes >= _MOST_BYTES:
        raise invalid("ReleaseAsset", "custom", "size", "size must be less than or equal to 2147483648")
    (name,) = required({"name": ask.query("name")}, "ReleaseAsset", "name")
    number = ask.world.next_id()
    made = Asset(
        id=number,
        name=_free_name(release, name, own=None),
        label=ask.query("label") or None,
        state="starter",
        content_type=ask.request.headers["Content-Type"],
        size_bytes=0,
        digest=None,
        path=ask.world.folder / "assets" / str(number),
        by=ask.user,
        at_s=ask.world.now_s,
    )
    release.assets.append(made)
    return made


def _receive(ask: Ask, asset: Asset, size_bytes: int) -> None:
    digest = hashlib.sha256()
    came = 0

    def chunks() -> Iterator[bytes]:
        nonlocal came
        limit = size_bytes if ask.cut_after_bytes is None else min(size_bytes, ask.cut_after_bytes)
        while came < limit and (chunk := ask.request.stream.read(min(_CHUNK_BYTES, limit - came))):
            came += len(chunk)
            digest.update(chunk)
            yield chunk

    keep_file(asset.path, chunks())
    if ask.cut_after_bytes is not None or came < size_bytes:
        asset.path.unlink(missing_ok=True)
        raise Cut(f"{asset.name} ended after {came} of {size_bytes} bytes")
    asset.size_bytes = came
    asset.digest = f"sha256:{digest.hexdigest()}"


def _free_name(release: Release, name: str, *, own: Asset | None) -> str:
    given = stored_name(name)
    if any(asset.name == given for asset in release.assets if asset is not own):
        raise invalid("ReleaseAsset", "already_exists", "name")
    return given


def stored_name(name: str) -> str:
    """The name that GitHub gives to a file, as its own command line expects it (`gh release upload --clobber`)."""
    plain = unicodedata.normalize("NFD", name)
    value = "".join(character for character in plain if not unicodedata.combining(character))
    if value.startswith("."):
        value = "default" + value
    value = re.sub(r"[^A-Za-z0-9\-_+@]+", ".", value)
    value = re.sub(r"\.{2,}", ".", value).strip(".")
    if value != name and "." not in value:
        value = "default." + value
    return value


def read_range(path: Path, header: str | None) -> tuple[bytes, str | None]:
    """The bytes of a file that `Range: bytes=N-` asks for, and what Content-Range says of them."""
    content = path.read_bytes()
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if not match:
        return content, None
    begin = int(match[1])
    end = min(int(match[2] or len(content) - 1), len(content) - 1)
    return content[begin : end + 1], f"bytes {begin}-{end}/{len(content)}"
