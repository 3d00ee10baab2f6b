"""One suite over two GitHubs that are none: our stand-in, and `emulate`, which other people made for the same.

Each test asks by PyGithub alone. Where `emulate` is known to differ from GitHub's documentation (drafts are found by
their tags, files of one name may be uploaded twice, tags may name what is not there, annotations are listed in another
form), test_standin.py holds ours to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import github as pygithub
import pytest
from github import Auth, Github, GithubException, GithubIntegration
from github.Repository import Repository as Remote

from tests.services.github import GitHub
from tests.services.github.peer import Peer, emulate

FILES = {"train.yml": "name: mnist\n", "src/train.py": "print(1)\n"}
NUMBERS = itertools.count(1)
Make = Callable[[], Remote]


def client(url: str, auth: Auth.Auth) -> Github:
    return Github(base_url=url, auth=auth, retry=None, seconds_between_requests=0, seconds_between_writes=0)


@pytest.fixture(scope="module")
def peer(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with emulate(node_modules, tmp_path_factory.mktemp("emulate")) as running:
        yield running


@pytest.fixture(params=["stand-in", "emulate"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a repository with FILES on `main`."""
    if request.param == "stand-in":
        github: GitHub = request.getfixturevalue("github")

        def ours() -> Remote:
            repo = github.repository(f"lab/r{next(NUMBERS)}", FILES)
            return client(github.url, Auth.Token(github.token)).get_repo(repo.name)

        return ours
    other: Peer = request.getfixturevalue("peer")

    def theirs() -> Remote:
        account = client(other.url, Auth.Token(other.token)).get_user()
        assert isinstance(account, pygithub.AuthenticatedUser.AuthenticatedUser)
        repo = account.create_repo(f"r{next(NUMBERS)}", auto_init=True)
        for name, text in FILES.items():
            repo.create_file(name, "Begin", text, branch="main")
        return repo

    return theirs


@pytest.fixture
def remote(make: Make) -> Remote:
    return make()


def status(error: pytest.ExceptionInfo[GithubException]) -> int:
    return error.value.status


def test_a_repository_is_told(remote: Remote) -> None:
    assert remote.owner.login == "lab"
    assert (remote.default_branch, remote.private, remote.fork) == ("main", False, False)
    assert remote.full_name == f"lab/{remote.name}"


def test_files_are_read_at_a_commit(remote: Remote) -> None:
    head = remote.get_branch("main").commit.sha
    for ref in ("main", head):
        for name, text in FILES.items():
            found = remote.get_contents(name, ref=ref)
            assert not isinstance(found, list)
            assert (found.decoded_content.decode(), found.type, found.encoding) == (text, "file", "base64")
    folder = remote.get_contents("src")
    assert isinstance(folder, list)
    assert [(entry.path, entry.type) for entry in folder] == [("src/train.py", "file")]


def test_what_is_not_there_is_not_found(remote: Remote) -> None:
    asks: list[Callable[[], object]] = [
        lambda: remote.get_contents("absent.yml"),
        lambda: remote.get_contents("train.yml", ref="absent"),
        lambda: remote.get_git_ref("tags/absent"),
        lambda: remote.get_pull(404),
        lambda: remote.get_release("absent"),
        lambda: remote.get_branch("absent"),
        lambda: remote.get_collaborator_permission("nobody"),
    ]
    for ask in asks:
        with pytest.raises(GithubException) as refused:
            ask()
        assert status(refused) == 404


def test_who_owns_a_repository_is_its_admin(remote: Remote) -> None:
    assert remote.get_collaborator_permission("lab") == "admin"


def test_refs_are_made_once_and_listed_by_their_beginning(remote: Remote) -> None:
    head = remote.get_branch("main").commit.sha
    for name in ("refs/heads/lr", "refs/tags/net@v1.0.0", "refs/tags/net@v1.1.0", "refs/tags/other"):
        assert remote.create_git_ref(name, head).object.sha == head
    with pytest.raises(GithubException, match="Reference already exists") as again:
        remote.create_git_ref("refs/tags/other", head)
    for name, sha in (("refs/tags/bad", "1" * 40), ("tags/bad", head)):
        with pytest.raises(GithubException) as refused:
            remote.create_git_ref(name, sha)
        assert status(refused) == status(again) == 422
    assert {ref.ref for ref in remote.get_git_matching_refs("tags/net@")} == {
        "refs/tags/net@v1.0.0",
        "refs/tags/net@v1.1.0",
    }
    assert list(remote.get_git_matching_refs("tags/absent")) == []


def test_annotated_tags_say_what_they_are_of(remote: Remote) -> None:
    head = remote.get_branch("main").commit.sha
    made = remote.create_git_tag("net#production#1", "Promoted", head, "commit")
    remote.create_git_ref("refs/tags/net#production#1", made.sha)
    found = remote.get_git_ref("tags/net#production#1").object
    assert (found.type, found.sha) == ("tag", made.sha)
    told = remote.get_git_tag(found.sha)
    assert (told.tag, told.message) == ("net#production#1", "Promoted")
    assert (told.object.sha, told.object.type) == (head, "commit")
    assert [tag.name for tag in remote.get_tags()] == ["net#production#1"]


def test_comments_are_written_read_changed_and_deleted(remote: Remote) -> None:
    issue = remote.create_issue("A question")
    comment = issue.create_comment("first")
    issue.create_comment("second")
    comment.edit("changed")
    assert [one.body for one in issue.get_comments()] == ["changed", "second"]
    assert issue.get_comment(comment.id).body == "changed"
    assert comment.html_url.endswith(f"#issuecomment-{comment.id}")
    comment.delete()
    with pytest.raises(pygithub.UnknownObjectException):
        issue.get_comment(comment.id)
    with pytest.raises(GithubException) as refused:
        issue.create_comment("")
    assert status(refused) == 422


def test_a_check_run_goes_from_queued_to_a_conclusion(remote: Remote) -> None:
    head = remote.get_branch("main").commit.sha
    check = remote.create_check_run(
        "train", head, status="queued", external_id="run-1", details_url="https://x.org/"
    )
    assert (check.status, check.external_id, check.head_sha) == ("queued", "run-1", head)
    assert check.raw_data["conclusion"] is None
    check.edit(status="in_progress", output={"title": "training", "summary": "step 1"})
    assert (check.status, check.output.title, check.output.summary) == ("in_progress", "training", "step 1")
    check.edit(
        status="completed", conclusion="success", output={"title": "done", "summary": "good", "text": "more"}
    )
    assert (check.status, check.conclusion, check.output.text) == ("completed", "success", "more")
    assert check.completed_at is not None
    found = list(remote.get_commit(head).get_check_runs(check_name="train"))
    assert [(one.id, one.conclusion) for one in found] == [(check.id, "success")]
    assert remote.get_check_run(check.id).name == "train"


def test_a_release_goes_from_draft_to_published_and_has_files(remote: Remote, tmp_path: Path) -> None:
    head = remote.get_branch("main").commit.sha
    remote.create_git_ref("refs/tags/net@v1.0.0", head)
    release = remote.create_git_release("net@v1.0.0", "Net 1.0.0", "card", draft=True, target_commitish=head)
    assert (release.draft, release.tag_name) == (True, "net@v1.0.0")
    assert release.raw_data["published_at"] is None
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    asset = release.upload_asset(str(file), label="the model", content_type="application/octet-stream")
    assert (asset.name, asset.size, asset.state, asset.label) == ("model.bin", 7, "uploaded", "the model")
    release = release.update_release("Net 1.0.0", "better card", draft=False)
    assert (release.draft, release.body) == (False, "better card")
    found = remote.get_release("net@v1.0.0")
    assert (found.id, found.name) == (release.id, "Net 1.0.0")
    assert [(one.name, one.id) for one in found.get_assets()] == [("model.bin", asset.id)]
    with pytest.raises(GithubException) as again:
        remote.create_git_release("net@v1.0.0", "Net 1.0.0", "card")
    assert status(again) == 422
    asset.delete_asset()
    assert list(found.get_assets()) == []
    release.delete_release()
    with pytest.raises(pygithub.UnknownObjectException):
        remote.get_release("net@v1.0.0")


def test_lists_come_in_pages(remote: Remote) -> None:
    for number in range(5):
        remote.create_git_release(f"v{number}", f"v{number}", "card", draft=True)
    remote.requester.per_page = 2
    assert len({release.tag_name for release in remote.get_releases()}) == 5
    headers, page = remote.requester.requestJsonAndCheck(
        "GET", f"{remote.url}/releases", {"per_page": 2, "page": 2}
    )
    assert [release["tag_name"] for release in page] == ["v2", "v1"]
    assert {part.rpartition("rel=")[2].strip('"') for part in headers["link"].split(",")} == {
        "first",
        "prev",
        "next",
        "last",
    }


def test_an_app_gets_a_token_for_its_installation(github: GitHub, peer: Peer) -> None:
    app = github.app("pushtrain", github.repository("lab/own", FILES).name)
    for url, number, installation, key in (
        (github.url, app.id, app.installation, app.private_key),
        (peer.url, peer.app_id, peer.installation, peer.private_key),
    ):
        auth = Auth.AppAuth(number, key)
        with GithubIntegration(base_url=url, auth=auth) as own:
            token = own.get_access_token(installation)
            assert token.token.startswith("ghs_")
            assert token.expires_at is not None
            with pytest.raises(pygithub.UnknownObjectException):
                own.get_repo_installation("lab", "absent")
