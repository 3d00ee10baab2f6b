"""What a fetch makes of GitHub's faults: an outage is waited for, a refused token is named."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from runner import checkout
from runner.checkout import Remote
from runner.errors import GitHubDenied, GitHubDown, SourceError
from tests.services.github import GitHub
from tests.services.github.server import Repository

GIT = "(info/refs|upload-pack)"


@pytest.fixture
def repository(github: GitHub) -> Repository:
    return github.repository("lab/digits", {"train.yml": "name: digits\n"})


def remote(repository: Repository, token: str | None) -> Remote:
    return Remote(url=repository.git_url, token=token)


def fetch(remote: Remote, commit: str, home: Path) -> list[float]:
    """Returns the pauses."""
    pauses: list[float] = []
    checkout.fetch(remote, (commit,), home=home, isolated=False, sleep=pauses.append)
    return pauses


@pytest.mark.parametrize("fault", [{"status": 502}, {"status": 429}, {"reset": True}], ids=str)
@pytest.mark.parametrize("path", ["info/refs", "upload-pack"])
def test_a_short_outage_is_waited_for(
    github: GitHub, repository: Repository, tmp_path: Path, fault: dict[str, Any], path: str
) -> None:
    hits = github.fault(path=path, times=2, **fault)
    there = remote(repository, github.token)
    assert fetch(there, repository.head(), tmp_path)[:1] == [1.0]
    assert hits.hits == 2
    found = checkout.text(there, repository.head(), "train.yml", home=tmp_path)
    assert found == "name: digits\n"


def test_a_long_outage_ends_the_wait_after_a_minute(
    github: GitHub, repository: Repository, tmp_path: Path
) -> None:
    github.fault(status=502, path=GIT, times=None)
    pauses: list[float] = []
    with pytest.raises(GitHubDown, match=r"^GitHub did not give the commit ") as caught:
        checkout.fetch(
            remote(repository, github.token),
            (repository.head(),),
            home=tmp_path,
            isolated=False,
            sleep=pauses.append,
        )
    assert pauses == [1, 2, 4, 8, 16, 30]
    assert caught.value.exit_code == 79
    assert caught.value.retryable
    assert caught.value.tip == "see https://www.githubstatus.com, and run the job again"
    assert repository.head()[:10] in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_server_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/lab/digits.git"
        with pytest.raises(GitHubDown):
            fetch(Remote(url=url, token="x"), "a" * 40, tmp_path)


@pytest.mark.parametrize("known", [True, False])
def test_a_token_that_is_refused_is_named_with_what_to_do(
    github: GitHub, repository: Repository, tmp_path: Path, known: bool
) -> None:
    token = github.actions_token(repository.name) if known else "ghs_unknown"
    if known:
        github.expire(token)
    with pytest.raises(GitHubDenied, match="GitHub refuses the token for http") as caught:
        fetch(remote(repository, token), repository.head(), tmp_path)
    said = f"{caught.value} {caught.value.tip}"
    assert caught.value.permission == ""
    assert "`token:`" in said
    assert "`contents: read`" in said
    assert token not in said
    assert str(tmp_path) not in said


def test_a_token_that_may_not_read_the_contents_lacks_that_permission(
    github: GitHub, repository: Repository, tmp_path: Path
) -> None:
    github.fault(status=403, path=GIT, times=None)
    with pytest.raises(GitHubDenied) as caught:
        fetch(remote(repository, github.token), repository.head(), tmp_path)
    assert caught.value.permission == "contents: read"


def test_a_commit_that_is_gone_is_neither_waited_for_nor_an_outage(
    github: GitHub, repository: Repository, tmp_path: Path
) -> None:
    there = remote(repository, github.token)
    with pytest.raises(SourceError, match="cannot be fetched") as caught:
        fetch(there, "a" * 40, tmp_path)
    assert str(tmp_path) not in str(caught.value)
    assert checkout.changed(there, "a" * 40, repository.head(), home=tmp_path) is None


def test_a_repository_that_the_token_does_not_see_is_said_without_the_runners_folders(
    github: GitHub, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(Remote(url=f"{github.url}/lab/absent.git", token=github.token), "a" * 40, tmp_path)
    assert str(tmp_path) not in str(caught.value)
    assert f"{github.url}/lab/absent.git" in str(caught.value)
