"""The stand-in for GitHub answers a real client (PyGithub) as GitHub does; its description validates all of it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import github as pygithub
import pytest
import requests
from github import Auth, Github, GithubException
from github.Repository import Repository as Remote

from tests.services.github import GitHub, Repository

FILES = {"train.yml": "name: mnist\n", "src/train.py": "print(1)\n", "odd name é.txt": "x"}


def client(url: str, token: str) -> Github:
    return Github(
        base_url=url, auth=Auth.Token(token), retry=None, seconds_between_requests=0, seconds_between_writes=0
    )


@pytest.fixture
def repo(github: GitHub) -> Repository:
    return github.repository("lab/mnist", FILES)


@pytest.fixture
def remote(github: GitHub, repo: Repository) -> Remote:
    return client(github.url, github.token).get_repo(repo.name)


def ask(
    github: GitHub, path: str, *, token: str | None = None, method: str = "GET", json: object = None
) -> requests.Response:
    headers = {"Authorization": f"Bearer {github.token if token is None else token}"}
    return requests.request(
        method, github.url + path, headers=headers, json=json, allow_redirects=False, timeout=10
    )


def test_a_repository_has_its_files(repo: Repository, remote: Remote) -> None:
    assert (remote.default_branch, remote.private, remote.full_name) == ("main", False, "lab/mnist")
    for name, text in FILES.items():
        found = remote.get_contents(name)
        assert not isinstance(found, list)
        assert found.decoded_content.decode() == text
    listed = remote.get_contents("src", ref=repo.head())
    assert isinstance(listed, list)
    assert [entry.path for entry in listed] == ["src/train.py"]
    with pytest.raises(pygithub.UnknownObjectException):
        remote.get_contents("absent.yml")


def test_roles_are_told_as_github_tells_them(github: GitHub, repo: Repository, remote: Remote) -> None:
    repo.grant("ann", "maintain")
    repo.grant("bo", "write", role_name="ml-engineer")
    github.user("eve")
    told = {name: remote.get_collaborator_permission(name) for name in ("lab", "ann", "bo", "eve")}
    assert told == {"lab": "admin", "ann": "write", "bo": "write", "eve": "read"}
    body = ask(github, f"/repos/{repo.name}/collaborators/bo/permission").json()
    assert (body["role_name"], body["user"]["permissions"]["push"]) == ("ml-engineer", True)
    for name in ("nobody", "..%2F..%2Fuser"):
        assert ask(github, f"/repos/{repo.name}/collaborators/{name}/permission").status_code == 404


def test_a_pull_request_follows_its_branch_and_pushes_are_recorded(
    github: GitHub, repo: Repository, remote: Remote
) -> None:
    first = repo.push("lr", {"src/train.py": "print(2)\n"}, by="ann", at_s=1_800_000_000)
    number = repo.pull("lr", by="ann").number
    second = repo.push("lr", {"src/new.py": "print(3)\n"}, by="ann", at_s=1_800_000_100)
    third = repo.push("lr", {"src/new.py": "print(4)\n"}, by="ann", at_s=1_800_000_200, onto=first)
    pull = remote.get_pull(number)
    assert (pull.head.sha, pull.head.ref, pull.base.ref, pull.user.login) == (third, "lr", "main", "ann")
    assert [commit.sha for commit in pull.get_commits()] == [first, third]
    assert {file.filename: file.status for file in pull.get_files()} == {
        "src/train.py": "modified",
        "src/new.py": "added",
    }
    told = ask(github, f"/repos/{repo.name}/activity?ref=refs/heads/lr").json()
    assert [(one["activity_type"], one["after"]) for one in told] == [
        ("force_push", third),
        ("push", second),
        ("branch_creation", first),
    ]
    assert told[0]["timestamp"] == "2027-01-15T08:03:20Z"
    assert [pull.number for pull in remote.get_pulls()] == [number]
    assert [pull.number for pull in remote.get_commit(third).get_pulls()] == [number]


def test_a_fork_shares_objects_and_its_pull_request_is_told_as_one(repo: Repository, remote: Remote) -> None:
    fork = repo.fork("eve")
    sha = fork.push("evil", {"train.yml": "name: evil\n"})
    number = repo.pull("evil", of=fork).number
    pull = remote.get_pull(number)
    assert (pull.head.repo.full_name, pull.head.repo.fork, pull.head.sha) == ("eve/mnist", True, sha)
    assert repo.text("rev-parse", f"refs/pull/{number}/head") == sha
    assert remote.get_commit(sha).sha == sha


def test_comments_are_by_whom_the_token_is_of(github: GitHub, repo: Repository, remote: Remote) -> None:
    number = repo.issue().number
    asked = repo.comment(number, "/train", by="ann")
    issue = remote.get_issue(number)
    made = issue.create_comment("seen")
    assert (made.user.login, made.user.type) == ("github-actions[bot]", "Bot")
    made.edit("done")
    assert [comment.body for comment in repo.comments(number)] == ["/train", "done"]
    assert [comment.user.login for comment in issue.get_comments()] == ["ann", "github-actions[bot]"]
    path = f"/repos/{repo.name}/issues/comments/{asked.id}/reactions"
    assert [ask(github, path, method="POST", json={"content": "eyes"}).status_code for _ in range(2)] == [
        201,
        200,
    ]
    reaction = issue.get_comment(asked.id).get_reactions()[0]
    assert (reaction.content, reaction.user.login) == ("eyes", "github-actions[bot]")
    made.delete()
    with pytest.raises(pygithub.UnknownObjectException):
        made.edit("again")


def test_a_comment_that_is_too_long_is_refused(repo: Repository, remote: Remote) -> None:
    issue = remote.get_issue(repo.issue().number)
    issue.create_comment("x" * 65_536)
    with pytest.raises(GithubException, match="Body is too long"):
        issue.create_comment("x" * 65_537)


def annotation(line: int) -> dict[str, object]:
    return {
        "path": "train.yml",
        "start_line": line,
        "end_line": line,
        "annotation_level": "failure",
        "message": "wrong",
    }


def test_annotations_come_in_batches_of_fifty(github: GitHub, repo: Repository, remote: Remote) -> None:
    check = remote.create_check_run("train", repo.head(), status="in_progress", external_id="run-1")
    output = {"title": "t", "summary": "s", "annotations": [annotation(line + 1) for line in range(51)]}
    with pytest.raises(GithubException, match="No more than 50 items are allowed; 51 were supplied"):
        check.edit(output=output)
    assert github.forgive("annotations: maxItems is 50, here are 51")
    output["annotations"] = [annotation(line + 1) for line in range(50)]
    check.edit(output=output)
    output["annotations"] = [annotation(51)]
    check.edit(output=output, conclusion="failure")
    assert [one.start_line for one in check.get_annotations()] == list(range(1, 52))
    told = remote.get_commit("main").get_check_runs()[0]
    assert (told.status, told.conclusion, told.external_id) == ("completed", "failure", "run-1")


def test_a_person_has_no_check_runs_and_an_app_only_its_own(
    github: GitHub, repo: Repository, remote: Remote
) -> None:
    check = remote.create_check_run("train", repo.head())
    mine = client(github.url, github.personal_token("lab")).get_repo(repo.name)
    with pytest.raises(GithubException, match="You must authenticate via a GitHub App"):
        mine.create_check_run("train", repo.head())
    app = github.app("pushtrain", repo.name)
    auth = Auth.AppAuth(app.id, app.private_key).get_installation_auth(app.installation)
    other = Github(base_url=github.url, auth=auth, retry=None, seconds_between_writes=0).get_repo(repo.name)
    with pytest.raises(GithubException, match="can only be modified by the GitHub App that created it"):
        other.get_check_run(check.id).edit(status="in_progress")
    link = "https://example.org/run"
    assert remote.create_check_run("ours", repo.head(), details_url=link).details_url != link
    made = other.create_check_run("app", repo.head(), details_url=link)
    assert (made.app.slug, made.details_url) == ("pushtrain", link)


def test_an_app_asks_for_tokens_of_its_installation(github: GitHub, repo: Repository) -> None:
    app = github.app("pushtrain", repo.name, lifetime_s=2)
    own = pygithub.GithubIntegration(base_url=github.url, auth=Auth.AppAuth(app.id, app.private_key))
    assert own.get_repo_installation("lab", "mnist").id == app.installation
    token = own.get_access_token(app.installation).token
    assert ask(github, f"/repos/{repo.name}", token=token).ok
    with github.at(time.time() + 3):
        assert ask(github, f"/repos/{repo.name}", token=token).status_code == 401


def test_a_permission_that_is_missing_is_named(github: GitHub, repo: Repository) -> None:
    token = github.actions_token(permissions={"contents": "read"})
    answer = ask(
        github,
        f"/repos/{repo.name}/check-runs",
        token=token,
        method="POST",
        json={"name": "a", "head_sha": repo.head()},
    )
    assert (answer.status_code, answer.json()["message"]) == (403, "Resource not accessible by integration")
    assert answer.headers["X-Accepted-GitHub-Permissions"] == "checks=write"
    assert ask(github, "/user", token=token).status_code == 403
    assert ask(github, "/user", token=github.personal_token("ann")).json()["login"] == "ann"


def test_a_private_repository_is_absent_for_others(github: GitHub) -> None:
    hidden = github.repository("lab/secret", FILES, private=True)
    hidden.grant("ann", "read")
    path = f"/repos/{hidden.name}"
    tokens = {"ann": github.personal_token("ann"), "eve": github.personal_token("eve"), "none": ""}
    assert {who: ask(github, path, token=token).status_code for who, token in tokens.items()} == {
        "ann": 200,
        "eve": 404,
        "none": 404,
    }
    assert ask(github, path, token="unknown").status_code == 401


def test_tags_and_their_messages(repo: Repository, remote: Remote) -> None:
    made = remote.create_git_tag("net@v1.0.0", "The first", repo.head(), "commit")
    remote.create_git_ref("refs/tags/net@v1.0.0", made.sha)
    remote.create_git_ref("refs/tags/net#production#1", made.sha)
    with pytest.raises(GithubException, match="Reference already exists"):
        remote.create_git_ref("refs/tags/net@v1.0.0", made.sha)
    with pytest.raises(GithubException, match="Could not verify object"):
        remote.create_git_tag("net@v1.0.0", "The first", "1" * 40, "commit")
    with pytest.raises(GithubException, match="Object does not exist"):
        remote.create_git_ref("refs/tags/x", "1" * 40)
    assert [ref.ref for ref in remote.get_git_matching_refs("tags/net")] == [
        "refs/tags/net#production#1",
        "refs/tags/net@v1.0.0",
    ]
    told = remote.get_git_tag(remote.get_git_ref("tags/net@v1.0.0").object.sha)
    assert (told.tag, told.message, told.object.sha) == ("net@v1.0.0", "The first", repo.head())
    assert {tag.name: tag.commit.sha for tag in remote.get_tags()}["net@v1.0.0"] == repo.head()
    assert repo.text("for-each-ref", "--format=%(contents)", "refs/tags/net@v1.0.0") == "The first"
    remote.get_git_ref("tags/net#production#1").delete()
    assert set(repo.tags) == {"net@v1.0.0"}


def test_a_release_is_a_draft_until_it_is_published(repo: Repository, remote: Remote, tmp_path: Path) -> None:
    draft = remote.create_git_release("net@v1.0.0", "Net 1.0.0", "card", draft=True)
    with pytest.raises(pygithub.UnknownObjectException):
        remote.get_release("net@v1.0.0")
    file = tmp_path / "model (best).bin"
    file.write_bytes(b"weights")
    asset = draft.upload_asset(str(file), name=file.name, content_type="application/octet-stream")
    assert (asset.name, asset.state, asset.size) == ("model.best.bin", "uploaded", 7)
    assert asset.raw_data["digest"].startswith("sha256:")
    with pytest.raises(GithubException, match="already_exists"):
        draft.upload_asset(str(file), name=file.name)
    draft.update_release("Net 1.0.0", "card", draft=False)
    assert [release.id for release in remote.get_releases()] == [draft.id]
    assert remote.get_release("net@v1.0.0").id == draft.id
    assert repo.tags == {"net@v1.0.0": repo.head()}
    with pytest.raises(GithubException, match="already_exists"):
        remote.create_git_release("net@v1.0.0", "again", "card")
    asset.delete_asset()
    assert not repo.release("net@v1.0.0").assets
    remote.get_git_ref("tags/net@v1.0.0").delete()
    assert repo.release("net@v1.0.0").draft


def test_the_storage_takes_no_second_credential_and_goes_on_from_a_byte(
    github: GitHub, repo: Repository
) -> None:
    release = client(github.url, github.token).get_repo(repo.name).create_git_release("v1", "v1", "")
    asset = requests.post(
        release.upload_url.replace("{?name,label}", "?name=a.bin"),
        data=b"0123456789",
        headers={"Authorization": f"token {github.token}", "Content-Type": "application/x-model"},
        timeout=10,
    )
    place = requests.get(
        asset.json()["url"],
        headers={"Accept": "application/octet-stream", "Authorization": f"token {github.token}"},
        allow_redirects=False,
        timeout=10,
    )
    assert place.status_code == 302
    where = place.headers["Location"]
    assert requests.get(where, headers={"Authorization": "token x"}, timeout=10).status_code == 400
    rest = requests.get(where, headers={"Range": "bytes=4-"}, timeout=10)
    assert (rest.status_code, rest.content) == (206, b"456789")
    assert requests.get(asset.json()["browser_download_url"], timeout=10).content == b"0123456789"


def test_three_hundred_releases_come_in_pages(github: GitHub, repo: Repository, remote: Remote) -> None:
    for number in range(300):
        repo.add_release(f"v{number}", draft=True)
    assert len({release.id for release in remote.get_releases()}) == 300
    answer = ask(github, f"/repos/{repo.name}/releases?per_page=100")
    assert len(answer.json()) == 100
    assert f"/repositories/{repo.record.id}/releases?per_page=100&page=2" in answer.links["next"]["url"]
    assert (
        requests.get(
            answer.links["last"]["url"], headers={"Authorization": f"Bearer {github.token}"}, timeout=10
        ).json()[-1]["tag_name"]
        == "v0"
    )


def test_what_did_not_change_costs_nothing(github: GitHub, repo: Repository) -> None:
    path = f"/repos/{repo.name}/contents/train.yml"
    first = ask(github, path)
    again = requests.get(
        github.url + path,
        headers={"Authorization": f"Bearer {github.token}", "If-None-Match": first.headers["ETag"]},
        timeout=10,
    )
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["X-RateLimit-Remaining"] == first.headers["X-RateLimit-Remaining"] == "999"
    repo.push("main", {"train.yml": "name: other\n"})
    assert ask(github, path).headers["ETag"] != first.headers["ETag"]


def test_below_api_v3_it_is_github_enterprise(github: GitHub, repo: Repository) -> None:
    answer = ask(github, f"/api/v3/repos/{repo.name}")
    assert answer.json()["url"] == f"{github.url}/api/v3/repos/lab/mnist"
    assert "X-GitHub-Enterprise-Version" in answer.headers
    assert client(f"{github.url}/api/v3", github.token).get_repo(repo.name).get_contents("train.yml")


def git(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0", "HOME": "/nonexistent"}
    return subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, env=env, check=False)


def test_git_fetches_any_commit_and_a_push_is_recorded(github: GitHub, tmp_path: Path) -> None:
    repo = github.repository("lab/secret", FILES, private=True)
    fork = repo.fork("eve")
    sha = fork.push("evil", {"train.yml": "name: evil\n"})
    assert "could not read Username" in git("clone", repo.git_url, tmp_path / "no").stderr
    work = tmp_path / "work"
    assert git("clone", repo.git_url_with(github.token), work).returncode == 0
    assert git("fetch", "--depth=1", "origin", sha, cwd=work).returncode == 0
    assert git("fetch", "--filter=blob:none", "origin", "main", cwd=work).returncode == 0
    (work / "train.yml").write_text("name: pushed\n")
    git("-c", "user.name=ann", "-c", "user.email=a@example.com", "commit", "-qam", "Push", cwd=work)
    assert git("push", "origin", "HEAD:refs/heads/main", cwd=work).returncode == 0
    assert repo.record.activity[-1].after == git("rev-parse", "HEAD", cwd=work).stdout.strip()
    reader = github.actions_token(permissions={"contents": "read"})
    assert "denied" in git("push", repo.git_url_with(reader), "HEAD:refs/heads/x", cwd=work).stderr
    assert {call.kind for call in github.calls} == {"git"}


def test_a_workflow_run_can_be_cancelled_once(github: GitHub, repo: Repository, remote: Remote) -> None:
    run = remote.get_workflow_run(repo.workflow_run().id)
    assert run.status == "in_progress"
    assert run.cancel()
    assert not run.cancel()


def test_branches_compare_and_commits(repo: Repository, remote: Remote) -> None:
    base = repo.head()
    sha = repo.push("lr", {"src/train.py": "print(2)\n", "odd name é.txt": None})
    told = remote.compare(base, sha)
    assert (told.status, told.ahead_by, told.behind_by) == ("ahead", 1, 0)
    assert {file.filename: file.status for file in told.files} == {
        "odd name é.txt": "removed",
        "src/train.py": "modified",
    }
    assert remote.get_branch("lr").commit.sha == sha
    repo.move("fix/one", sha)
    for name in ("fix/one", "fix%2Fone"):
        assert requests.get(f"{repo.api_url}/git/ref/heads/{name}", timeout=10).json()["object"]["sha"] == sha
    assert remote.get_git_commit(sha).parents[0].sha == base
    assert [commit.sha for commit in remote.get_commits(sha="lr")] == [sha, base]
    merged = repo.merge(repo.pull("lr").number)
    assert remote.get_branch("main").commit.sha == merged


def test_statuses(repo: Repository, remote: Remote) -> None:
    commit = remote.get_commit(repo.head())
    commit.create_status("pending", context="pushtrain")
    commit.create_status("success", context="pushtrain")
    assert commit.get_combined_status().state == "success"
    assert [status.state for status in commit.get_statuses()] == ["success", "pending"]
