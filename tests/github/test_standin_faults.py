"""What can be made to go wrong on the stand-in looks to a client as GitHub's own trouble does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.services.github import GitHub, Repository


@pytest.fixture
def repo(github: GitHub) -> Repository:
    return github.repository("lab/mnist", {"train.yml": "name: mnist\n"})


def get(github: GitHub, path: str = "/repos/lab/mnist", *, token: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token or github.token}"}
    return requests.get(github.url + path, headers=headers, timeout=10)


def upload(github: GitHub, release: int, content: bytes) -> requests.Response:
    return requests.post(
        f"{github.url}/api/uploads/repos/lab/mnist/releases/{release}/assets?name=model.bin",
        data=content,
        headers={"Authorization": f"Bearer {github.token}", "Content-Type": "application/octet-stream"},
        timeout=10,
    )


def test_a_bad_gateway_comes_as_often_as_it_was_asked_for(github: GitHub, repo: Repository) -> None:
    fault = github.fault(status=502, times=3, method="GET", path="/repos/lab/mnist$")
    answers = [get(github) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [502, 502, 502, 200]
    assert answers[0].headers["Content-Type"].startswith("text/html")
    assert fault.hits == 3
    assert [call.status for call in github.api_calls("GET", "mnist")] == [502, 502, 502, 200]


@pytest.mark.parametrize("status", [403, 429])
def test_the_secondary_limit_says_when_to_come_again(github: GitHub, repo: Repository, status: int) -> None:
    github.fault(status=status, retry_after_s=7)
    answer = get(github)
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
    assert "secondary rate limit" in answer.json()["message"]


def test_the_primary_limit_ends_at_its_reset(github: GitHub, repo: Repository) -> None:
    github.exhaust(github.token, reset_in_s=0.4)
    answer = get(github)
    assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (403, "0")
    assert "API rate limit exceeded" in answer.json()["message"]
    assert int(answer.headers["X-RateLimit-Reset"]) <= time.time() + 2
    assert get(github, "/rate_limit").json()["rate"]["remaining"] == 0
    time.sleep(0.45)
    assert get(github).status_code == 200


def test_a_token_is_refused_from_a_moment_on(github: GitHub, repo: Repository) -> None:
    other = github.actions_token()
    github.expire(github.token)
    assert (get(github).status_code, get(github, token=other).status_code) == (401, 200)
    assert get(github).json()["message"] == "Bad credentials"


def test_a_permission_can_be_taken_away(github: GitHub) -> None:
    github.repository("lab/mnist", {"train.yml": "x"}, private=True)
    github.permit(github.token, {"checks": "write"})
    answer = get(github, "/repos/lab/mnist/contents/train.yml")
    assert (answer.status_code, answer.headers["X-Accepted-GitHub-Permissions"]) == (403, "contents=read")


def test_an_upload_that_is_cut_leaves_an_empty_asset(github: GitHub, repo: Repository) -> None:
    release = repo.add_release("v1", draft=True)
    github.fault(cut_upload_after_bytes=1_000_000)
    content = bytes(3_000_000)
    assert get(github).status_code == 200
    with pytest.raises(requests.ConnectionError):
        upload(github, release.id, content)
    assert [(asset.name, asset.state, asset.size_bytes) for asset in release.assets] == [
        ("model.bin", "starter", 0)
    ]
    refused = upload(github, release.id, content)
    assert refused.json()["errors"][0]["code"] == "already_exists"
    listed = get(github, f"/repos/lab/mnist/releases/{release.id}/assets").json()
    assert [asset["state"] for asset in listed] == ["starter"]
    requests.delete(listed[0]["url"], headers={"Authorization": f"Bearer {github.token}"}, timeout=10)
    assert upload(github, release.id, content).json()["size"] == len(content)
    assert repo.content(release.assets[0]) == content


def test_the_answer_can_be_lost_after_the_work_was_done(github: GitHub, repo: Repository) -> None:
    number = repo.issue().number
    github.fault(reset=True, after=True, method="POST", path="/comments$")
    with pytest.raises(requests.ConnectionError):
        requests.post(
            f"{github.url}/repos/lab/mnist/issues/{number}/comments",
            json={"body": "once"},
            headers={"Authorization": f"Bearer {github.token}"},
            timeout=10,
        )
    assert [comment.body for comment in repo.comments(number)] == ["once"]


def test_an_outage_lasts_until_it_is_over(github: GitHub, repo: Repository) -> None:
    github.outage("503")
    assert get(github).status_code == 503
    github.outage("reset")
    with pytest.raises(requests.ConnectionError):
        get(github)
    github.outage(None)
    assert get(github).status_code == 200
    assert [call.status for call in github.calls] == [503, 0, 200]


def test_an_answer_can_be_late(github: GitHub, repo: Repository) -> None:
    github.fault(delay_s=0.2)
    begun_s = time.monotonic()
    assert get(github).status_code == 200
    assert time.monotonic() - begun_s >= 0.2


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/check-runs", {"name": "train"}, "'head_sha' is a required property"),
        ("/check-runs", {"name": "train", "head_sha": "main", "status": "done"}, "status: "),
        ("/check-runs", {"name": "train", "head_sha": "main", "titel": "x"}, "no field 'titel' is described"),
        ("/releases?draft=1", {"tag_name": "v1"}, "no query parameter 'draft' is described"),
    ],
)
def test_a_request_that_github_does_not_describe_is_seen(
    github: GitHub, repo: Repository, path: str, body: dict[str, str], said: str
) -> None:
    requests.post(
        f"{github.url}/repos/lab/mnist{path}",
        json=body,
        headers={"Authorization": f"Bearer {github.token}"},
        timeout=10,
    )
    assert said in "\n".join(github.violations)
    assert github.forgive(".*")
    assert github.violations == []


def test_an_endpoint_that_is_not_here_is_seen(github: GitHub) -> None:
    assert get(github, "/repos/lab/mnist/no-such-thing").status_code == 404
    assert github.forgive("the stand-in has no such endpoint")


def test_it_runs_by_hand_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.yml").write_text("name: mnist\n")
    command = [
        sys.executable,
        "-m",
        "tests.services.github",
        "--folder",
        str(tmp_path),
        f"lab/mnist={tmp_path / 'files'}",
    ]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout
        told = json.loads(process.stdout.readline())
        answer = requests.get(
            f"{told['url']}/repos/lab/mnist/contents/train.yml",
            headers={"Authorization": f"Bearer {told['token']}"},
            timeout=10,
        )
        process.terminate()
    assert answer.json()["encoding"] == "base64"
    assert process.returncode == 0
