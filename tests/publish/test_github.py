"""A version in the store -> its release on GitHub."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import GitHubDenied, GitHubDown, ModelError
from runner.models import StoreShelf
from runner.models.provenance import Origin, statement
from runner.publish import document
from runner.publish.github import Limits, latest
from runner.store import open_store
from tests.publish import made
from tests.publish.made import Desk, published

SIGNED = b'{"payloadType": "x"}'


def written(desk: Desk) -> list[str]:
    return [call.method for call in desk.github.api_calls() if call.method != "GET"]


def content(desk: Desk, tag: str = "digits@v1.0.0") -> dict[str, bytes]:
    return {each.name: each.path.read_bytes() for each in desk.repo.release(tag).assets}


def test_a_version_is_a_release_with_its_card_its_files_and_what_tells_of_them(desk: Desk) -> None:
    version = desk.version()
    desk.store.write("runs/run-1/outputs.json", b'{"sealed": true, "files": []}')

    url = desk.publish(version)

    release = desk.repo.release("digits@v1.0.0")
    assert url == f"{desk.repo.url}/releases/tag/digits%40v1.0.0"
    assert (release.name, release.draft) == ("digits 1.0.0", False)
    assert release.body
    assert release.body.startswith("**digits 1.0.0**")
    assert "pushtrain models download digits@1.0.0 --store github://lab/mnist" in release.body
    files = content(desk)
    assert files.pop("pushtrain-model.json") == document.dump_document(
        document.document(version, store_uri=desk.store.uri)
    )
    assert files == {
        "saved_model.pb": b"graph",
        "variables.index": b"index",
        "pushtrain-manifest.json": b'{"sealed": true, "files": []}',
        "provenance.json": statement(version, Origin(by="ann")),
    }


def test_its_tag_is_annotated_stands_on_its_commit_and_holds_the_digest_of_its_document(desk: Desk) -> None:
    commit = desk.repo.head()
    version = desk.version()
    desk.repo.push("main", {"later": "1"})

    desk.publish(version)

    assert desk.repo.text("cat-file", "-t", "digits@v1.0.0") == "tag"
    assert desk.repo.text("rev-parse", "digits@v1.0.0^{commit}") == commit
    message = desk.repo.text("tag", "-l", "--format=%(contents)", "digits@v1.0.0")
    digest = hashlib.sha256(content(desk)["pushtrain-model.json"]).hexdigest()
    assert document.version_note(message) == document.VersionNote(run_id="run-1", document=f"sha256:{digest}")


def test_publishing_again_writes_nothing(desk: Desk) -> None:
    version = desk.version()
    url = desk.publish(version)
    before = written(desk)

    assert desk.publish(version) == url
    assert written(desk) == before


def test_of_many_releases_a_publication_asks_few_times(desk: Desk) -> None:
    for number in range(300):
        desk.repo.add_release(f"v0.{number}")
    repository = desk.repository

    desk.publish(desk.version(), repository=repository)

    assert repository.calls <= 20


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/git/matching-refs"),
        ("POST", "/releases$"),
        ("POST", "/assets"),
        ("POST", "/git/tags"),
        ("POST", "/git/refs"),
        ("PATCH", "/releases/"),
    ],
)
def test_a_publication_that_was_broken_off_goes_on_where_it_stopped(
    desk: Desk, method: str, path: str
) -> None:
    version = desk.version()
    fault = desk.github.fault(status=503, times=None, method=method, path=path)
    with pytest.raises(GitHubDown):
        desk.publish(version)
    assert fault.hits
    fault.times = 0
    whole = [asset.id for release in desk.repo.releases() for asset in release.assets]

    desk.publish(version)

    (release,) = desk.repo.releases()
    assert not release.draft
    assert content(desk).keys() == {
        "saved_model.pb",
        "variables.index",
        "provenance.json",
        "pushtrain-model.json",
    }
    assert [asset.id for asset in release.assets][: len(whole)] == whole


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize(
    "trouble", [{"status": 502, "times": 3}, {"status": 403, "retry_after_s": 30}, {"reset": True}]
)
def test_trouble_that_passes_costs_time_alone(desk: Desk, method: str, trouble: dict[str, int]) -> None:
    version = desk.version()
    fault = desk.github.fault(method=method, **trouble)  # type: ignore[arg-type]  # as the cases above have it

    desk.publish(version)

    assert fault.hits
    (release,) = desk.repo.releases()
    assert not release.draft
    assert len(release.assets) == len({each.name for each in release.assets}) == 4


def test_an_answer_that_is_lost_makes_nothing_twice(desk: Desk) -> None:
    faults = [
        desk.github.fault(path=path, method=method, reset=True, after=True)
        for method, path in (
            ("POST", "/releases$"),
            ("POST", "/assets"),
            ("POST", "/git/tags"),
            ("POST", "/git/refs"),
            ("PATCH", "/releases/"),
        )
    ]

    desk.publish(desk.version())

    assert all(fault.hits for fault in faults)

    (release,) = desk.repo.releases()
    assert not release.draft
    assert len(release.assets) == 4


def test_a_token_that_ends_in_the_middle_leaves_the_rest_to_another(desk: Desk) -> None:
    version = desk.version()
    fault = desk.github.fault(method="POST", path="/git/tags", status=401, times=None)
    with pytest.raises(GitHubDenied):
        desk.publish(version)
    fault.times = 0

    desk.publish(version, repository=made.connected(desk.github, token=desk.github.actions_token()))

    (release,) = desk.repo.releases()
    assert not release.draft
    assert len(desk.github.api_calls("POST", "/assets")) == 4


def test_a_line_that_is_cut_in_an_upload_costs_one_more_upload(desk: Desk) -> None:
    version = desk.version(files={"weights": b"w" * 300_000})
    desk.github.fault(path="/assets", method="POST", cut_upload_after_bytes=1000)

    desk.publish(version)

    assert content(desk)["weights"] == b"w" * 300_000
    assert [asset.state for asset in desk.repo.release("digits@v1.0.0").assets] == ["uploaded"] * 3


def test_a_version_is_there_only_once_it_is_out(desk: Desk) -> None:
    fault = desk.github.fault(status=503, times=None, method="PATCH", path="/releases/")
    with pytest.raises(GitHubDown):
        desk.publish(desk.version())
    fault.times = 0

    assert desk.repo.tags.keys() == {"digits@v1.0.0"}
    assert desk.shelf.names() == ()


def test_a_draft_that_is_taken_up_tells_what_is_true_by_then(desk: Desk) -> None:
    version = desk.version()
    fault = desk.github.fault(status=503, times=None, method="POST", path="/git/refs")
    with pytest.raises(GitHubDown):
        desk.publish(version)
    fault.times = 0
    StoreShelf(desk.store).add_statement(version, SIGNED)

    desk.publish(version)

    body = desk.repo.release("digits@v1.0.0").body
    assert body
    assert "signed with a key" in body


def test_a_signed_release_gets_no_unsigned_statement(desk: Desk) -> None:
    version = desk.version()
    StoreShelf(desk.store).add_statement(version, SIGNED)
    desk.publish(version)
    desk.store.delete("models/digits/statements/1.0.0.json")
    before = written(desk)

    desk.publish(version)

    assert written(desk) == before


def test_a_card_compares_with_the_version_before(desk: Desk) -> None:
    desk.publish(desk.version())
    desk.publish(desk.version(run="run-2"))

    body = desk.repo.release("digits@v1.1.0").body
    assert body
    assert "| metric | 1.1.0 | 1.0.0 | change |" in body


def test_what_a_draft_has_broken_is_sent_again(desk: Desk) -> None:
    version = desk.version()
    fault = desk.github.fault(status=503, times=None, method="PATCH", path="/releases/")
    with pytest.raises(GitHubDown):
        desk.publish(version)
    fault.times = 0
    broken, changed, *_ = desk.repo.release("digits@v1.0.0").assets
    broken.state, changed.digest = "starter", "sha256:" + "0" * 64

    desk.publish(version)

    assert content(desk)["saved_model.pb"] == b"graph"
    ids = {asset.id for asset in desk.repo.release("digits@v1.0.0").assets}
    assert not ids & {broken.id, changed.id}


def test_a_file_that_somebody_took_from_a_published_release_is_put_back(desk: Desk) -> None:
    version = desk.version()
    desk.publish(version)
    release = desk.repo.release("digits@v1.0.0")
    del release.assets[0]

    desk.publish(version)

    assert content(desk)["saved_model.pb"] == b"graph"


def test_two_who_publish_at_once_make_one_release(desk: Desk) -> None:
    version = desk.version(files={f"part-{number}": bytes([number]) * 1000 for number in range(5)})

    with ThreadPoolExecutor(4) as pool:
        urls = set(pool.map(lambda _: desk.publish(version), range(4)))

    assert urls == {f"{desk.repo.url}/releases/tag/digits%40v1.0.0"}
    (release,) = desk.repo.releases()
    assert not release.draft
    assert sorted(asset.name for asset in release.assets) == [
        *(f"part-{number}" for number in range(5)),
        "provenance.json",
        "pushtrain-model.json",
    ]


def test_a_version_that_another_run_published_is_refused_by_the_name_of_that_run(
    desk: Desk, tmp_path: Path
) -> None:
    desk.publish(desk.version())
    elsewhere = open_store(tmp_path / "elsewhere")
    other = made.version(elsewhere, tmp_path, desk.repo.head(), run="run-2")

    with pytest.raises(ModelError, match=r"digits@v1\.0\.0 in lab/mnist is that of run run-1") as caught:
        published(desk.repository, elsewhere, other)

    assert "train again" in caught.value.tip
    assert len(desk.repo.releases()) == 1


def test_who_is_overtaken_by_another_run_leaves_nothing_behind(desk: Desk, tmp_path: Path) -> None:
    elsewhere = open_store(tmp_path / "elsewhere")
    other = made.version(elsewhere, tmp_path, desk.repo.head(), run="run-2")
    fault = desk.github.fault(status=503, times=None, method="POST", path="/git/refs")
    with pytest.raises(GitHubDown):
        published(desk.repository, elsewhere, other)
    fault.times = 0
    desk.publish(desk.version())
    late = made.connected(desk.github)
    assert len(desk.repo.releases()) == 2

    with pytest.raises(ModelError, match="run-1"):
        published(late, elsewhere, other)

    (release,) = desk.repo.releases()
    assert not release.draft


@pytest.mark.parametrize("message", ["", "Registering digits"])
def test_a_tag_that_somebody_made_by_hand_is_left_alone(desk: Desk, message: str) -> None:
    desk.repo.tag("digits@v1.0.0", message=message, by="ann")

    with pytest.raises(ModelError, match="not by pushtrain"):
        desk.publish(desk.version())
    assert desk.repo.releases() == []


def test_uncommitted_changes_are_not_released(desk: Desk) -> None:
    with pytest.raises(ModelError, match="in no commit") as caught:
        desk.publish(desk.version(dirty=True))
    assert "commit and push" in caught.value.tip


def test_what_was_trained_outside_git_is_not_released(desk: Desk) -> None:
    with pytest.raises(ModelError, match="in no commit"):
        desk.publish(desk.version(commit=None))


@pytest.mark.parametrize("commit", ["c" * 40, "main", "../../etc"])
def test_a_commit_that_github_does_not_have_is_named(desk: Desk, commit: str) -> None:
    with pytest.raises(ModelError, match=f"no commit {commit}") as caught:
        desk.publish(desk.version(commit=commit))
    assert caught.value.tip == "push it: git push origin main"
    assert written(desk) == []


def test_what_is_too_large_stays_in_the_store(desk: Desk) -> None:
    version = desk.version(files={"large": b"x" * 100, "small": b"y"})

    desk.publish(version, limits=Limits(file_bytes=99))

    told = json.loads(content(desk)["pushtrain-model.json"])
    assert told["assets"] == {"small": "small"}
    assert told["store"] == desk.store.uri
    assert "large" not in content(desk)


def test_bytes_that_are_sent_are_told(desk: Desk) -> None:
    told: list[int] = []
    version = desk.version()

    desk.publish(version, progress=told.append)

    assert sum(told) == sum(map(len, content(desk).values()))


def test_the_latest_version_is_that_of_the_tags(desk: Desk) -> None:
    assert latest(desk.repository, "digits") is None
    for tag in ("digits@v1.9.0", "digits@v1.10.0", "digits@v1.x", "digits2@v3.0.0", "other@v9.0.0"):
        desk.repo.tag(tag, message="a version")

    assert latest(desk.repository, "digits") == "1.10.0"


def test_the_next_version_counts_on_from_the_one_that_is_published(desk: Desk, tmp_path: Path) -> None:
    desk.publish(desk.version())
    elsewhere = open_store(tmp_path / "elsewhere")

    other = made.version(
        elsewhere, tmp_path, desk.repo.head(), run="run-2", after=latest(desk.repository, "digits")
    )

    assert published(desk.repository, elsewhere, other).endswith("digits%40v1.1.0")
