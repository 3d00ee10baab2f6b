"""Tags that exist once, releases by the hundred, files that arrive whole or are sent again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runner.errors import Conflict, Corrupt, GitHubAbsent, GitHubDown, GitHubError
from runner.github import releases, tags
from runner.github.releases import Asset, Release
from runner.github.tags import Ref, Tag
from tests.fakes.storage import Storage, serving
from tests.github.ours import Ours, ours
from tests.services.github import GitHub

TAG = "mnist@v1.0.0"
CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def mine(github: GitHub) -> Ours:
    return ours(github)


@pytest.fixture
def draft(mine: Ours) -> Release:
    return releases.create_draft(mine.repository, TAG, name="mnist 1.0.0", body="A card.")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(CONTENT)
    return path


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


# tags


def test_a_tag_says_what_it_was_made_with(mine: Ours) -> None:
    tags.create_tag(mine.repository, TAG, commit=mine.commit, message="First.\n\nBecause.")
    tags.create_tag(mine.repository, "mnist#production#1", commit=mine.commit, message="promoted")
    (version,) = tags.tags(mine.repository, "mnist@")
    assert (version.name, version.commit, version.by) == (TAG, mine.commit, "github-actions[bot]")
    assert version.message.strip() == "First.\n\nBecause."
    assert version.at_s == pytest.approx(mine.github.world.now_s, abs=60)
    assert [ref.name for ref in tags.refs(mine.repository, "mnist#")] == ["mnist#production#1"]
    assert tags.refs(mine.repository, "mnist#production#2") == ()
    assert mine.theirs.text("cat-file", "-t", TAG).strip() == "tag"


def test_a_plain_tag_says_its_commit_alone(mine: Ours) -> None:
    mine.theirs.tag("v1", mine.commit)
    (ref,) = tags.refs(mine.repository, "v")
    assert ref == Ref(name="v1", object=mine.commit, annotated=False)
    assert tags.read(mine.repository, ref) == Tag(name="v1", commit=mine.commit, message="", by="", at_s=None)


def test_a_name_is_taken_once(mine: Ours) -> None:
    tags.create_tag(mine.repository, TAG, commit=mine.commit, message="first")
    with pytest.raises(Conflict, match="exists already"):
        tags.create_tag(mine.repository, TAG, commit=mine.commit, message="first")
    with pytest.raises(Conflict):
        tags.create_tag(mine.repository, TAG, commit=mine.theirs.head(), message="another")


def test_a_tag_that_somebody_made_while_the_line_was_cut_is_not_ours(mine: Ours) -> None:
    mine.github.fault(status=502, method="POST", path="/git/refs$", times=1)
    mine.clock.then = lambda: mine.theirs.tag(TAG, mine.commit, message="theirs")
    with pytest.raises(Conflict):
        tags.create_tag(mine.repository, TAG, commit=mine.commit, message="ours")


# releases


def test_three_hundred_releases_come_by_the_hundred(mine: Ours) -> None:
    for n in range(300):
        mine.theirs.add_release(f"v0.{n}", draft=n % 2 == 0)
    found = list(releases.releases(mine.repository))
    assert len({each.tag for each in found}) == 300
    assert mine.repository.calls == 3
    assert [call.query.get("per_page") for call in mine.github.calls] == ["100", "100", "100"]


def test_a_draft_is_found_changed_and_published(mine: Ours, draft: Release) -> None:
    assert (draft.tag, draft.name, draft.body, draft.draft) == (TAG, "mnist 1.0.0", "A card.", True)
    assert releases.release(mine.repository, TAG) == draft
    tags.create_tag(mine.repository, TAG, commit=mine.commit, message="first")
    changed = releases.update(mine.repository, draft, name="mnist", body="Another card.")
    assert (changed.name, changed.body, changed.draft) == ("mnist", "Another card.", True)
    for _ in range(2):
        published = releases.publish(mine.repository, draft)
    assert not published.draft
    before = mine.repository.calls
    assert releases.release(mine.repository, TAG) == published
    assert mine.repository.calls == before + 1
    assert len(mine.theirs.releases()) == 1


def test_there_may_be_no_release(mine: Ours) -> None:
    assert releases.release(mine.repository, TAG) is None


def test_a_draft_of_another_run_is_not_taken_for_ours_after_a_fault(mine: Ours, draft: Release) -> None:
    mine.github.fault(status=502, method="POST", times=1)
    another = releases.create_draft(mine.repository, TAG, name="mnist 1.0.0", body="Another run's card.")
    assert another.id != draft.id
    mine.github.fault(status=502, method="POST", times=1, after=True)
    third = releases.create_draft(mine.repository, TAG, name="mnist 1.0.0", body="A third card.\r\n")
    assert len(mine.theirs.releases()) == 3
    assert third.id not in (draft.id, another.id)


def test_a_release_is_deleted_and_may_be_gone_already(mine: Ours, draft: Release) -> None:
    mine.github.fault(status=502, method="DELETE", times=1, after=True)
    releases.delete(mine.repository, draft)
    releases.delete(mine.repository, draft)
    assert mine.theirs.releases() == []
    with pytest.raises(GitHubAbsent):
        releases.update(mine.repository, draft, name="x", body="y")


def test_a_text_that_github_would_refuse_is_a_mistake_of_ours(mine: Ours) -> None:
    with pytest.raises(ValueError, match="125000"):
        releases.create_draft(mine.repository, TAG, name="x", body="y" * 125_001)


# files that go up


def sent(mine: Ours) -> list[tuple[str, bytes]]:
    release = mine.theirs.release(TAG)
    return [(each.name, mine.theirs.content(each)) for each in release.assets if each.state == "uploaded"]


def test_a_file_is_streamed_and_its_digest_compared(mine: Ours, draft: Release, model: Path) -> None:
    done: list[int] = []
    asset = releases.upload(mine.repository, draft, model, "model.bin", progress=done.append)
    assert (asset.name, asset.size_bytes, asset.digest) == ("model.bin", len(CONTENT), digest(CONTENT))
    assert sum(done) == len(CONTENT)
    assert len(done) > 10
    assert sent(mine) == [("model.bin", CONTENT)]


def test_what_is_there_is_not_sent_again(mine: Ours, draft: Release, model: Path) -> None:
    asset = releases.upload(mine.repository, draft, model, "model.bin")
    again = releases.release(mine.repository, TAG)
    assert again
    before = mine.repository.calls
    assert releases.upload(mine.repository, again, model, "model.bin", digest=digest(CONTENT)) == asset
    assert mine.repository.calls == before
    # From what was known before the first upload, it is found out by the refusal.
    assert releases.upload(mine.repository, draft, model, "model.bin").id == asset.id


@pytest.mark.parametrize("after_bytes", [0, 1, 300_000])
def test_an_upload_that_was_cut_is_removed_and_sent_again(
    mine: Ours, draft: Release, model: Path, after_bytes: int
) -> None:
    done: list[int] = []
    mine.github.fault(cut_upload_after_bytes=after_bytes, times=2)
    asset = releases.upload(mine.repository, draft, model, "model.bin", progress=done.append)
    assert asset.digest == digest(CONTENT)
    assert sent(mine) == [("model.bin", CONTENT)]
    assert len(mine.theirs.release(TAG).assets) == 1
    assert sum(done) == len(CONTENT)
    assert mine.clock.pauses == [1.0, 2.0]


def test_a_fault_after_the_whole_file_arrived_sends_nothing_again(
    mine: Ours, draft: Release, model: Path
) -> None:
    fault = mine.github.fault(status=502, method="POST", path="/assets", times=1, after=True)
    releases.upload(mine.repository, draft, model, "model.bin")
    assert fault.hits == 1
    assert len(mine.github.api_calls("POST", "/assets")) == 1
    assert sent(mine) == [("model.bin", CONTENT)]


def test_an_upload_that_is_cut_again_and_again_is_given_up(mine: Ours, draft: Release, model: Path) -> None:
    mine.github.fault(cut_upload_after_bytes=1000, times=None)
    with pytest.raises(GitHubDown, match=r"take the file model\.bin into the release"):
        releases.upload(mine.repository, draft, model, "model.bin")
    assert mine.clock.pauses == [1, 2, 4, 8, 16]


def test_a_long_upload_that_is_cut_late_is_sent_again(mine: Ours, draft: Release, model: Path) -> None:
    mine.github.fault(cut_upload_after_bytes=500_000, times=1)
    slow = {"left": 3}

    def pass_time(_: int) -> None:
        slow["left"] -= 1
        if slow["left"] >= 0:
            mine.clock.skip(600)

    assert releases.upload(mine.repository, draft, model, "model.bin", progress=pass_time).digest == digest(
        CONTENT
    )


def test_another_file_of_that_name_is_replaced_in_a_draft_alone(
    mine: Ours, draft: Release, model: Path
) -> None:
    releases.upload(mine.repository, draft, model, "model.bin")
    model.write_bytes(b"other")
    releases.upload(mine.repository, draft, model, "model.bin")
    assert sent(mine) == [("model.bin", b"other")]
    tags.create_tag(mine.repository, TAG, commit=mine.commit, message="first")
    published = releases.publish(mine.repository, draft)
    model.write_bytes(b"third")
    with pytest.raises(Conflict, match="another file"):
        releases.upload(mine.repository, published, model, "model.bin")
    assert sent(mine) == [("model.bin", b"other")]


def test_where_github_tells_no_digest_the_file_is_read_back(mine: Ours, draft: Release, model: Path) -> None:
    asset = releases.upload(mine.repository, draft, model, "model.bin")
    (there,) = mine.theirs.release(TAG).assets
    there.digest = None
    again = releases.release(mine.repository, TAG)
    assert again
    assert again.assets[0].digest is None
    assert releases.upload(mine.repository, again, model, "model.bin").id == asset.id
    there.path.write_bytes(CONTENT[:-1] + b"!")
    assert releases.upload(mine.repository, again, model, "model.bin").id != asset.id
    assert sent(mine) == [("model.bin", CONTENT)]


@pytest.mark.parametrize("name", ["a b.bin", "a/b", ".hidden", "end.", "ü.bin", "a~b", "a..b", ""])
def test_a_name_that_github_would_change_is_refused(
    mine: Ours, draft: Release, model: Path, name: str
) -> None:
    before = mine.repository.calls
    with pytest.raises(GitHubError, match="under this name"):
        releases.upload(mine.repository, draft, model, name)
    assert mine.repository.calls == before


def test_names_that_github_keeps_are_kept(mine: Ours, draft: Release, model: Path) -> None:
    for name in ("model-1.0+cu12_a@b.tar.gz", "a", "LICENSE"):
        assert releases.upload(mine.repository, draft, model, name).name == name


def test_an_empty_file_is_refused(mine: Ours, draft: Release, model: Path) -> None:
    model.write_bytes(b"")
    with pytest.raises(GitHubError, match="it is empty"):
        releases.upload(mine.repository, draft, model, "model.bin")


def test_a_file_of_two_gib_is_refused(mine: Ours, draft: Release, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(GitHubError, match="2 GiB"):
        releases.upload(mine.repository, draft, tmp_path / "large", "large", digest=digest(b""))


def test_the_token_is_sent_to_github_alone(mine: Ours, draft: Release, model: Path) -> None:
    with serving(Storage(b"{}")) as elsewhere:
        port = elsewhere.url.rpartition(":")[2]
        away = Release(**{**vars(draft), "upload_url": f"http://localhost:{port}/upload"})
        with pytest.raises(GitHubError, match="not its own"):
            releases.upload(mine.repository, away, model, "model.bin")
    assert elsewhere.asked == []


# files that come down


@pytest.fixture
def asset(mine: Ours, draft: Release, model: Path) -> Asset:
    return releases.upload(mine.repository, draft, model, "model.bin")


def test_a_file_comes_down_from_the_storage_host_without_our_token(
    mine: Ours, asset: Asset, tmp_path: Path
) -> None:
    done: list[int] = []
    found = releases.download(mine.repository, asset, tmp_path / "deep" / "got", progress=done.append)
    assert (tmp_path / "deep" / "got").read_bytes() == CONTENT
    assert (found.digest, sum(done)) == (digest(CONTENT), len(CONTENT))
    assert [call.status for call in mine.github.calls if call.kind == "storage"] == [200]


@pytest.mark.parametrize("ranges", [True, False], ids=["goes on", "begins again"])
def test_a_download_that_is_cut_goes_on(mine: Ours, asset: Asset, tmp_path: Path, ranges: bool) -> None:
    done: list[int] = []
    with serving(Storage(CONTENT, cuts=(400_000, 1), ranges=ranges)) as storage:
        mine.github.service.storage_url = storage.url
        releases.download(mine.repository, asset, tmp_path / "got", progress=done.append)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert sum(done) == len(CONTENT)
    assert all("authorization" not in headers for headers in storage.asked)
    assert ("range" in storage.asked[1]) is True


def test_a_download_that_is_not_what_it_should_be_leaves_nothing(
    mine: Ours, asset: Asset, tmp_path: Path
) -> None:
    with serving(Storage(b"x" * len(CONTENT))) as storage:
        mine.github.service.storage_url = storage.url
        with pytest.raises(Corrupt, match=r"model\.bin of lab/mnist"):
            releases.download(mine.repository, asset, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_download_outlasts_faults_of_github_and_of_the_storage(
    mine: Ours, asset: Asset, tmp_path: Path
) -> None:
    mine.github.fault(status=502, path="/releases/assets/", times=3)
    releases.download(mine.repository, asset, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert mine.clock.pauses == [1.0, 2.0, 4.0]
    with serving(Storage(b"no", status=503)) as storage:
        mine.github.service.storage_url = storage.url
        with pytest.raises(GitHubDown) as caught:
            releases.download(mine.repository, asset, tmp_path / "more")
    assert "sig=" not in str(caught.value)


def test_a_download_that_lasts_longer_than_anybody_waits_goes_on_as_long_as_bytes_come(
    mine: Ours, asset: Asset, tmp_path: Path
) -> None:
    mine.clock.then = lambda: mine.clock.skip(500)
    with serving(Storage(CONTENT, cuts=(100_000,) * 10)) as storage:
        mine.github.service.storage_url = storage.url
        releases.download(mine.repository, asset, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == CONTENT
        storage.cuts = [0] * 100
        with pytest.raises(GitHubDown, match="give the file"):
            releases.download(mine.repository, asset, tmp_path / "more")
    assert len(storage.cuts) > 90


def test_a_file_that_was_deleted_is_absent(mine: Ours, asset: Asset, tmp_path: Path) -> None:
    releases.delete_asset(mine.repository, asset)
    releases.delete_asset(mine.repository, asset)
    with pytest.raises(GitHubAbsent):
        releases.download(mine.repository, asset, tmp_path / "got")
