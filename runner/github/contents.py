"""A path on a ref -> its text, without a checkout; a branch -> whether it is protected."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from runner.errors import GitHubError
from runner.github.client import convert
from runner.github.permissions import CONTENTS
from runner.github.refusals import Call

if TYPE_CHECKING:
    from runner.github.client import Repository


class About(msgspec.Struct, frozen=True):
    """A repository: `full_name` is OWNER/NAME as GitHub writes it, which takes it in any case of its letters."""

    full_name: str
    default_branch: str


class _Branch(msgspec.Struct):
    name: str
    protected: bool


class _File(msgspec.Struct):
    type: str
    encoding: str = ""
    content: str = ""


def about(repository: Repository) -> About:
    """Returns what the repository is called and which branch is its default."""
    return repository.get(Call(doing=f"show {repository.name}", feature=CONTENTS), "", About)


def default_branch(repository: Repository) -> str:
    """Returns the name of the repository's default branch."""
    return about(repository).default_branch


def text(repository: Repository, path: str, *, ref: str) -> str | None:
    """Returns a file's text at a branch, tag or commit; None when there is no such file, or the ref is not there.

    Raises GitHubError for a file of more than 1 MB, or one that is no UTF-8.
    https://docs.github.com/en/rest/repos/contents#get-repository-content
    """
    call = Call(doing=f"show {path} of {ref}", feature=CONTENTS)
    found: Any = repository.find(call, f"contents/{quote(path)}", object, ref=ref)
    if not isinstance(found, dict):  # a folder is a list
        return None
    file = convert(call, found, _File)
    if file.type != "file":
        return None
    if file.encoding != "base64":
        raise GitHubError(
            f"{path} of {ref} is too large to be read through GitHub's API", tip="keep it below 1 MB"
        )
    try:
        return b64decode(file.content).decode()
    except ValueError as error:
        raise GitHubError(f"{path} of {ref} is no text in UTF-8", tip="save it as UTF-8") from error
