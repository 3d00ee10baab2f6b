"""Who we are on GitHub, where it is, and what is asked of it only once."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from runner.errors import GitHubDenied, GitHubError, UsageError
from runner.github import changes, check, client, contents, people, pulls, releases, tags, thread
from runner.github.features import Features
from runner.github.permissions import FEATURES, accepted
from tests.fakes.storage import Storage, serving
from tests.github.ours import a_check, connected, ours
from tests.services.github import GitHub

# who we are


def test_the_environment_says_who_we_are() -> None:
    token = client.auth_from({"GITHUB_TOKEN": "ghs_1", "PUSHTRAIN_TOKEN": " github_pat_2\n"})
    assert token == client.Token(value="github_pat_2")
    assert client.auth_from({"GITHUB_TOKEN": "ghs_1", "PUSHTRAIN_TOKEN": ""}) == client.Token(value="ghs_1")
    app = {"PUSHTRAIN_APP_ID": "7", "PUSHTRAIN_APP_PRIVATE_KEY": "-----A\\nB-----", "GITHUB_TOKEN": "ghs_1"}
    assert client.auth_from(app) == client.App(id="7", private_key="-----A\nB-----", installation=None)
    numbered = client.auth_from({**app, "PUSHTRAIN_APP_INSTALLATION": "42"})
    assert isinstance(numbered, client.App)
    assert numbered.installation == 42


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"GITHUB_TOKEN": " "},
        {"GITHUB_TOKEN": "ghs_1\nX-Evil: 1"},
        {"PUSHTRAIN_APP_ID": "7"},
        {"PUSHTRAIN_APP_PRIVATE_KEY": "key"},
        {"PUSHTRAIN_APP_ID": "7", "PUSHTRAIN_APP_PRIVATE_KEY": "key", "PUSHTRAIN_APP_INSTALLATION": "x"},
    ],
)
def test_half_an_identity_is_none(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        client.auth_from(environ)
    assert "X-Evil" not in f"{caught.value}{caught.value.tip}"


def test_secrets_are_not_in_what_is_printed_of_an_identity() -> None:
    said = repr((client.Token(value="ghs_1"), client.App(id="7", private_key="PEM")))
    assert "ghs_1" not in said
    assert "PEM" not in said


def test_what_has_nothing_to_ask_does_not_load_pygithub(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from runner.github.client import Token, connect

where = {{"api_url": "http://127.0.0.1:1", "repository": "lab/mnist", "cache": Path({str(tmp_path / "kept")!r})}}
with connect(auth=Token(value="ghs_1"), **where) as repository:
    print(repository.token(), repository.impatient().calls, repository.api_url, "github" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ghs_1", "0", "http://127.0.0.1:1", "False"]
    assert not (tmp_path / "kept").exists()


def test_a_view_from_before_the_first_request_has_the_same_connection(github: GitHub) -> None:
    mine = ours(github)
    view = mine.repository.impatient()
    people.role(view, "ann")
    assert mine.repository.calls == view.calls == 1
    assert mine.repository.line is view.line


def test_an_app_is_let_in_and_its_token_renewed_before_it_ends(github: GitHub) -> None:
    app = github.app("trainer", "lab/mnist", lifetime_s=3600)
    mine = ours(github, auth=client.App(id=str(app.id), private_key=app.private_key))
    assert people.role(mine.repository, "ann") == "write"
    assert people.role(mine.repository, "ann") == "write"
    assert len(github.api_calls("POST", "access_tokens")) == 1
    mine.clock.skip(3400)  # a long training
    first = mine.repository.token()
    assert len(github.api_calls("POST", "access_tokens")) == 2
    assert len(github.api_calls("GET", "/installation$")) == 1
    github.expire(first)
    assert people.role(mine.repository, "ann") == "write"
    assert mine.repository.token() != first
    assert mine.repository.calls == len(github.calls)


def test_the_token_of_an_app_that_is_refused_is_renewed_once(github: GitHub) -> None:
    app = github.app("trainer", "lab/mnist")
    auth = client.App(id=str(app.id), private_key=app.private_key, installation=app.installation)
    mine = ours(github, auth=auth)
    fault = github.fault(status=401, path="/collaborators/", times=1)
    assert people.role(mine.repository, "ann") == "write"
    assert fault.hits == 1
    github.fault(status=401, path="/collaborators/", times=2)
    with pytest.raises(GitHubDenied, match="Bad credentials"):
        people.role(mine.repository, "ann")
    assert github.api_calls("GET", "/installation$") == []


def test_asking_for_a_token_outlasts_faults(github: GitHub) -> None:
    app = github.app("trainer", "lab/mnist")
    mine = ours(github, auth=client.App(id=str(app.id), private_key=app.private_key))
    github.fault(status=502, path="access_tokens", times=3)
    assert people.role(mine.repository, "ann") == "write"
    assert mine.clock.pauses == [1.0, 2.0, 4.0]


def test_an_app_with_the_wrong_key_is_told_so(github: GitHub) -> None:
    app = github.app("trainer", "lab/mnist")
    another = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for key, said in (("no key", "cannot be read"), (another.decode(), f"did not let the App {app.id} in")):
        repository = connected(github, auth=client.App(id=str(app.id), private_key=key))
        with pytest.raises(GitHubDenied, match=said):
            people.role(repository, "ann")


def test_no_log_shows_the_token_of_an_app(github: GitHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = github.app("trainer", "lab/mnist")
    mine = ours(github, auth=client.App(id=str(app.id), private_key=app.private_key))
    thread.write(mine.repository, mine.pull, "Hello")
    assert mine.repository.token() not in caplog.text
    assert app.private_key[100:150] not in caplog.text


# where it is


@pytest.mark.parametrize(
    ("api_url", "repository"),
    [
        ("http://api.github.com", "lab/mnist"),
        ("http://10.0.0.1/api/v3", "lab/mnist"),
        ("ftp://127.0.0.1", "lab/mnist"),
        ("api.github.com", "lab/mnist"),
        ("https://api.github.com", "lab"),
        ("https://api.github.com", "lab/mnist/.."),
        ("https://api.github.com", "lab/mnist?x"),
    ],
)
def test_a_wrong_address_is_refused_before_the_token_goes_there(api_url: str, repository: str) -> None:
    with pytest.raises(UsageError):
        client.connect(api_url=api_url, repository=repository, auth=client.Token(value="t"), cache=None)


def test_connecting_asks_nothing(github: GitHub) -> None:
    assert connected(github).calls == 0
    assert github.calls == []


def test_an_enterprise_server_has_its_api_below_a_path(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, api="/api/v3", cache=tmp_path / "cache")
    repository, model = mine.repository, tmp_path / "model.bin"
    model.write_bytes(b"weights")
    for n in range(101):
        mine.theirs.add_release(f"v0.{n}", draft=True)
    assert contents.text(repository, "train.yml", ref="main") == "name: mnist\n"
    check.create(repository, a_check(mine.commit))
    draft = releases.create_draft(repository, "mnist@v1.0.0", name="mnist", body="card")
    asset = releases.upload(repository, draft, model, "model.bin")
    releases.download(repository, asset, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"weights"
    assert len(list(releases.releases(repository))) == 102


def test_what_is_no_api_of_github_is_told_so(github: GitHub) -> None:
    with serving(Storage(b"<html>Welcome</html>")) as elsewhere:
        repository = client.connect(
            api_url=elsewhere.url, repository="lab/mnist", auth=client.Token(value="t"), cache=None
        )
        with pytest.raises(GitHubError, match="does not speak JSON") as caught:
            people.role(repository, "ann")
        assert "GITHUB_API_URL" in caught.value.tip
    with serving(Storage(b'{"welcome": 1}')) as elsewhere:
        repository = client.connect(
            api_url=elsewhere.url, repository="lab/mnist", auth=client.Token(value="t"), cache=None
        )
        with pytest.raises(GitHubError, match="as documented"):
            people.role(repository, "ann")


def test_a_repository_that_moved_is_told_so(github: GitHub) -> None:
    for status, location in ((301, "https://elsewhere.example/repos/lab/new"), (307, "/repositories/7")):
        with serving(Storage(b"{}", status=status, location=location)) as server:
            repository = client.connect(
                api_url=server.url, repository="lab/mnist", auth=client.Token(value="t"), cache=None
            )
            with pytest.raises(GitHubError, match=r"redirected|moved"):
                people.role(repository, "ann")
            assert len(server.asked) == 1


@pytest.mark.parametrize("api", ["", "/api/v3"])
def test_a_repository_of_another_name_is_not_followed_and_the_name_is_told(github: GitHub, api: str) -> None:
    mine = ours(github, api=api)
    mine.theirs.comment(mine.pull, "/train", by="ann", at_s=1_700_000_000)
    mine.theirs.rename("digits")
    with pytest.raises(GitHubError, match="the repository lab/mnist moved to lab/digits") as caught:
        list(changes.comments(mine.repository, since_s=1_800_000_000))
    assert "name it so" in caught.value.tip
    assert [(call.path, call.status) for call in github.calls] == [
        ("/repos/lab/mnist/issues/comments", 301),
        ("/repos/lab/digits", 200),
    ]


def test_an_app_is_told_that_its_repository_has_another_name(github: GitHub) -> None:
    app = github.app("trainer", "lab/digits")
    mine = ours(github, auth=client.App(id=str(app.id), private_key=app.private_key))
    mine.theirs.rename("digits")
    with pytest.raises(GitHubError, match="moved to"):
        people.role(mine.repository, "ann")


def test_what_is_written_to_a_repository_of_another_name_is_refused(github: GitHub) -> None:
    mine = ours(github)
    mine.theirs.rename("digits")
    with pytest.raises(GitHubError, match="moved to"):
        thread.write(mine.repository, mine.pull, "Hello")
    assert not mine.theirs.comments(mine.pull)


# what is asked once


def test_what_did_not_change_costs_nothing_of_the_limit(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, cache=tmp_path)
    for _ in range(3):
        assert contents.text(mine.repository, "train.yml", ref="main") == "name: mnist\n"
    assert [call.status for call in github.calls] == [200, 304, 304]
    assert github.world.tokens[github.token].used == 1
    mine.theirs.push("main", {"train.yml": "name: other\n"})
    assert contents.text(mine.repository, "train.yml", ref="main") == "name: other\n"


def test_a_permission_is_asked_for_at_that_moment(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, cache=tmp_path)
    assert people.role(mine.repository, "ann") == "write"
    mine.theirs.grant("ann", "read")
    assert people.role(mine.repository, "ann") == "read"
    assert mine.repository.calls == 2


def test_another_process_knows_the_answers_of_this_one(github: GitHub, tmp_path: Path) -> None:
    ours(github, cache=tmp_path)
    assert contents.default_branch(connected(github, cache=tmp_path)) == "main"
    assert contents.default_branch(connected(github, cache=tmp_path)) == "main"
    assert [call.status for call in github.calls] == [200, 304]


def test_answers_to_one_token_are_not_given_to_another(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, cache=tmp_path)
    contents.text(mine.repository, "train.yml", ref="main")
    other = connected(github, auth=client.Token(value=github.personal_token("ann")), cache=tmp_path)
    contents.text(other, "train.yml", ref="main")
    assert [call.status for call in github.calls] == [200, 200]
    assert len(list(tmp_path.iterdir())) == 2


def test_no_token_lies_in_the_cache(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, cache=tmp_path)
    people.role(mine.repository, "ann")
    people.role(mine.repository, "ann")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(github.token.encode() not in path.read_bytes() for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files if path.stat().st_size)
    assert all(github.token not in str(path) for path in files)


def test_what_can_never_change_is_asked_for_once(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, cache=tmp_path)
    tags.create_tag(mine.repository, "mnist@v1.0.0", commit=mine.commit, message="first")
    (ref,) = tags.refs(mine.repository, "mnist@")
    before = mine.repository.calls
    assert tags.read(mine.repository, ref) == tags.read(mine.repository, ref)
    assert mine.repository.calls == before + 1


def test_a_cache_that_cannot_be_written_is_done_without(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mine = ours(github, cache=tmp_path / "file" / "cache")
    assert people.role(mine.repository, "ann") == "write"


def test_a_damaged_cache_is_done_without(github: GitHub, tmp_path: Path) -> None:
    mine = ours(github, cache=tmp_path)
    people.role(mine.repository, "ann")
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.stat().st_size:
            path.write_bytes(path.read_bytes()[:50])
    assert people.role(mine.repository, "ann") == "write"
    assert people.role(mine.repository, "ann") == "write"


# what a token may not


def test_a_feature_that_is_refused_is_off_and_told_once(github: GitHub) -> None:
    mine = ours(github)
    github.permit(github.token, {"contents": "read", "pull-requests": "write", "issues": "write"})
    features = Features()
    for _ in range(3):
        assert features.use("checks", lambda: check.create(mine.repository, a_check(mine.commit))) is None
    assert features.use("comments", lambda: thread.write(mine.repository, mine.pull, "Hello")) is not None
    assert features.notes == ("checks are off: the token lacks `checks: write`",)
    assert len(github.api_calls("POST", "/check-runs")) == 1


def test_a_token_that_is_not_accepted_turns_nothing_off(github: GitHub) -> None:
    mine = ours(github)
    github.expire(github.token)
    features = Features()
    with pytest.raises(GitHubDenied):
        features.use("checks", lambda: check.create(mine.repository, a_check(mine.commit)))
    assert features.notes == ()


def test_permissions_are_written_as_in_a_workflow() -> None:
    assert accepted("checks=write") == "checks: write"
    assert accepted("issues=write; pull_requests=write") == "issues: write or pull-requests: write"
    assert accepted("contents=write,workflows=write") == "contents: write and workflows: write"
    assert accepted("") == ""
    assert all(": " in feature.permission and feature.lost for feature in FEATURES)


def test_the_permission_is_known_also_where_an_old_server_does_not_name_it() -> None:
    with serving(Storage(b'{"message": "Resource not accessible by integration"}', status=403)) as server:
        repository = client.connect(
            api_url=server.url, repository="lab/mnist", auth=client.Token(value="t"), cache=None
        )
        with pytest.raises(GitHubDenied, match="not accessible") as caught:
            check.create(repository, a_check("0" * 40))
    assert caught.value.permission == "checks: write"


def test_pauses_grow_up_to_a_minute(github: GitHub) -> None:
    mine = ours(github)
    mine.clock.then = lambda: github.outage("503" if len(mine.clock.pauses) < 9 else None)
    github.outage("503")
    pulls.pull(mine.repository, mine.pull)
    assert mine.clock.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
