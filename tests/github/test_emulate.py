"""What the product itself says to GitHub, said to `emulate`: a peer that other people made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from github import Auth, AuthenticatedUser, Github

from runner.errors import Conflict
from runner.github import check, client, contents, pulls, releases, tags, thread
from tests.services.github.peer import Peer, emulate


@pytest.fixture(scope="module")
def peer(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with emulate(node_modules, tmp_path_factory.mktemp("emulate")) as running:
        yield running


@pytest.fixture(scope="module")
def head(peer: Peer) -> str:
    """The commit of the repository lab/digits, made on the peer."""
    account = Github(base_url=peer.url, auth=Auth.Token(peer.token), retry=None).get_user()
    assert isinstance(account, AuthenticatedUser.AuthenticatedUser)
    made = account.create_repo("digits", auto_init=True)
    made.create_file("train.yml", "Begin", "name: digits\n", branch="main")
    return made.get_branch("main").commit.sha


@pytest.fixture
def repository(peer: Peer, head: str) -> Iterator[client.Repository]:
    auth = client.Token(value=peer.token)
    with client.connect(api_url=peer.url, repository="lab/digits", auth=auth, cache=None) as connected:
        yield connected


def test_train_yml_and_branches_are_read(repository: client.Repository, head: str) -> None:
    assert contents.default_branch(repository) == "main"
    assert contents.text(repository, "train.yml", ref="main") == "name: digits\n"
    assert contents.text(repository, "absent.yml", ref="main") is None
    assert pulls.head_of(repository, "main") == head


def test_a_check_is_made_updated_and_closed(repository: client.Repository, head: str) -> None:
    def said(status: str, conclusion: str | None) -> check.Check:
        return check.Check(
            name="pushtrain / digits",
            commit=head,
            external_id="20261121-000000-abc123",
            details_url="http://127.0.0.1/job",
            status=status,  # type: ignore[arg-type]  # one of three
            conclusion=conclusion,  # type: ignore[arg-type]  # one of eight
            started_at_s=time.time(),
            completed_at_s=time.time() if conclusion else None,
            title="running",
            summary="**bold**",
            text="",
        )

    number = check.create(repository, said("in_progress", None))
    check.update(repository, number, said("completed", "success"))
    found = check.find(repository, said("completed", "success"))
    assert found == number


def test_a_comment_is_written_found_and_rewritten(peer: Peer, repository: client.Repository) -> None:
    remote = Github(base_url=peer.url, auth=Auth.Token(peer.token), retry=None).get_repo("lab/digits")
    issue = remote.create_issue("A question").number
    number = thread.write(repository, issue, "<!-- pushtrain:digits -->\nfirst")
    assert thread.find(repository, issue, "<!-- pushtrain:digits -->") == number
    thread.rewrite(repository, number, "<!-- pushtrain:digits -->\nsecond")
    assert [each.body for each in remote.get_issue(issue).get_comments()] == [
        "<!-- pushtrain:digits -->\nsecond"
    ]


def test_a_release_is_drafted_tagged_and_published(repository: client.Repository, head: str) -> None:
    # No file: the peer tells no digest of it and cannot give it back, so that what arrived cannot be compared.
    draft = releases.create_draft(repository, "digits@v1.0.0", name="digits 1.0.0", body="card")
    assert draft.draft
    tags.create_tag(repository, "digits@v1.0.0", commit=head, message="digits 1.0.0")
    with pytest.raises(Conflict):
        tags.create_tag(repository, "digits@v1.0.0", commit=head, message="another")
    published = releases.publish(repository, draft)
    assert not published.draft
    (tag,) = tags.tags(repository, "digits@v")
    assert (tag.name, tag.commit) == ("digits@v1.0.0", head)
