from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import sync
from runner.errors import Conflict, Corrupt, NotFound, StoreError
from runner.store import Blob, Progress, Store, open_store
from runner.store.directory import DirectoryStore
from runner.sync import FileEntry, Manifest, Mirror

PREFIX = "runs/r1/live/"


class Clock:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class WatchedStore(DirectoryStore):
    """A store in a directory that tells what is sent, and lets a test act while it is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sent: list[str] = []
        self.before_file: Callable[[str], None] = lambda _: None
        self.before_blob: Callable[[Path], None] = lambda _: None
        self.document_takes: Callable[[], None] = lambda: None

    def write(self, key: str, data: bytes) -> str:
        self.document_takes()
        return super().write(key, data)

    def put_file(self, key: str, path: Path, *, progress: Progress | None = None) -> Blob:
        self.before_file(key)
        self.sent.append(key.removeprefix(PREFIX))
        return super().put_file(key, path, progress=progress)

    def append(self, key: str, data: bytes, *, offset: int) -> None:
        self.sent.append(f"{key.removeprefix(PREFIX)}+{len(data)}")
        super().append(key, data, offset=offset)

    def put_blob(self, path: Path, *, digest: str | None = None, progress: Progress | None = None) -> Blob:
        self.before_blob(path)
        self.sent.append(f"blob {path.name}")
        return super().put_blob(path, digest=digest, progress=progress)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(tmp_path / "store")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "outputs" / "model").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "outputs" / "model" / "weights").write_bytes(b"w" * 1000)
    (folder / "logs" / "rank0.log").write_bytes(b"one\n")
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror(store: WatchedStore, work: Path, clock: Clock) -> Mirror:
    return open_mirror(store, work, clock)


def open_mirror(store: Store, work: Path, clock: Clock | None = None, **limits: int) -> Mirror:
    folders = {name: work / name for name in ("outputs", "logs")}
    caps = sync.Limits(**limits)
    return Mirror(store, PREFIX, folders, limits=caps, clock=clock or Clock())


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def restored(store: Store, folder: Path) -> dict[str, bytes]:
    sync.restore(store, PREFIX, folder)
    return contents(folder)


def test_the_first_sync_sends_everything_and_the_second_nothing(mirror: Mirror, store: WatchedStore) -> None:
    assert mirror.sync() == sync.Synced(files=2, bytes=1004)
    assert mirror.sync() == sync.Synced(files=0, bytes=0)
    assert sorted(store.sent) == ["logs/rank0.log+4", "outputs/model/weights"]


def test_only_changed_files_are_sent(mirror: Mirror, store: WatchedStore, work: Path) -> None:
    (work / "outputs" / "other").write_text("x")
    mirror.sync()
    store.sent.clear()
    (work / "outputs" / "model" / "weights").write_bytes(b"v" * 1000)
    assert mirror.sync() == sync.Synced(files=1, bytes=1000)
    assert store.sent == ["outputs/model/weights"]


def test_of_a_grown_log_only_the_tail_is_sent(mirror: Mirror, store: WatchedStore, work: Path) -> None:
    mirror.sync()
    with (work / "logs" / "rank0.log").open("ab") as log:
        log.write(b"two\n")
    assert mirror.sync() == sync.Synced(files=1, bytes=4)
    assert store.tail(f"{PREFIX}logs/rank0.log", offset=0) == b"one\ntwo\n"


@pytest.mark.parametrize("text", [b"x\n", b"another beginning\n"])
def test_a_log_that_was_started_anew_replaces_the_old_one(
    mirror: Mirror, store: WatchedStore, work: Path, text: bytes
) -> None:
    mirror.sync()
    (work / "logs" / "rank0.log").write_bytes(text)
    mirror.sync()
    assert store.tail(f"{PREFIX}logs/rank0.log", offset=0) == text


def test_what_was_synced_comes_back_after_the_machine_died(
    mirror: Mirror, store: WatchedStore, work: Path, tmp_path: Path
) -> None:
    (work / "outputs" / "run.sh").write_text("#!/bin/sh\n")
    (work / "outputs" / "run.sh").chmod(0o755)
    mirror.sync()
    assert restored(store, tmp_path / "next") == contents(work)
    assert os.access(tmp_path / "next" / "outputs" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "next" / "outputs" / "model" / "weights", os.X_OK)


def test_a_restored_folder_is_not_sent_again(
    mirror: Mirror, store: WatchedStore, work: Path, tmp_path: Path
) -> None:
    mirror.sync()
    sync.restore(store, PREFIX, tmp_path / "next")
    store.sent.clear()
    assert open_mirror(store, tmp_path / "next").sync().bytes == 0
    assert store.sent == []


def test_nothing_of_a_run_that_sent_nothing_is_restored(store: WatchedStore, tmp_path: Path) -> None:
    assert restored(store, tmp_path / "next") == {}


def test_vanished_files_are_dropped(mirror: Mirror, store: WatchedStore, work: Path, tmp_path: Path) -> None:
    mirror.sync()
    (work / "outputs" / "model" / "weights").unlink()
    mirror.sync()
    assert set(restored(store, tmp_path / "next")) == {"logs/rank0.log"}


def test_a_file_that_became_a_folder_is_followed(mirror: Mirror, store: WatchedStore, work: Path) -> None:
    mirror.sync()
    (work / "outputs" / "model" / "weights").unlink()
    (work / "outputs" / "model" / "weights").mkdir()
    (work / "outputs" / "model" / "weights" / "part").write_text("p")
    mirror.sync()
    assert list(store.keys(f"{PREFIX}outputs")) == [f"{PREFIX}outputs/model/weights/part"]


def test_a_file_that_vanishes_while_it_is_sent_is_no_error(
    mirror: Mirror, store: WatchedStore, work: Path
) -> None:
    store.before_file = lambda _: (work / "outputs" / "model" / "weights").unlink()
    assert mirror.sync().files == 1
    assert "outputs/model/weights" not in {each.path for each in sync.listing(store, PREFIX)}


def test_a_file_that_is_rewritten_while_it_is_sent_is_sent_by_the_next_sync(
    mirror: Mirror, store: WatchedStore, work: Path, tmp_path: Path
) -> None:
    def rewrite(key: str) -> None:
        raise Conflict(f"{key} was changed while it was being stored")

    store.before_file = rewrite
    assert mirror.sync().files == 1
    store.before_file = lambda _: None
    assert mirror.sync().files == 1
    assert restored(store, tmp_path / "next") == contents(work)


def test_a_log_that_somebody_else_deleted_from_the_store_is_sent_again(
    mirror: Mirror, store: WatchedStore, work: Path
) -> None:
    mirror.sync()
    store.delete(f"{PREFIX}logs/rank0.log")
    with (work / "logs" / "rank0.log").open("ab") as log:
        log.write(b"two\n")
    mirror.sync()
    mirror.sync()
    assert store.tail(f"{PREFIX}logs/rank0.log", offset=0) == b"one\ntwo\n"


def test_the_list_of_files_rests_too_but_is_written_before_sealing_moves_them(
    mirror: Mirror, store: WatchedStore, work: Path, clock: Clock, tmp_path: Path
) -> None:
    mirror.sync()
    store.document_takes = lambda: setattr(clock, "now_s", clock.now_s + 1.0)
    (work / "outputs" / "a").write_text("a")
    mirror.sync()
    (work / "outputs" / "b").write_text("b")
    mirror.sync()
    assert "outputs/b" not in {each.path for each in sync.listing(store, PREFIX)}

    def die(path: Path) -> None:
        raise StoreError("no answer")

    store.before_blob = die
    with pytest.raises(StoreError, match="no answer"):
        mirror.seal()
    assert restored(store, tmp_path / "next") == contents(work)


def test_a_file_that_is_slow_to_send_rests_ten_times_as_long(
    mirror: Mirror, store: WatchedStore, work: Path, clock: Clock
) -> None:
    def take_a_while(key: str) -> None:
        clock.now_s += 3.0

    store.before_file = take_a_while
    weights = work / "outputs" / "model" / "weights"
    mirror.sync()
    weights.write_bytes(b"1" * 1000)
    clock.now_s = 32.9
    assert mirror.sync().files == 0
    clock.now_s = 33.0
    assert mirror.sync().files == 1


def test_sealing_does_not_wait_for_a_file_that_rests(
    mirror: Mirror, store: WatchedStore, work: Path, clock: Clock, tmp_path: Path
) -> None:
    def take_a_while(key: str) -> None:
        clock.now_s += 3.0

    store.before_file = take_a_while
    mirror.sync()
    (work / "outputs" / "model" / "weights").write_bytes(b"last")
    mirror.seal()
    assert restored(store, tmp_path / "next") == contents(work)


def test_links_out_of_the_folder_sockets_and_pipes_are_skipped_and_named_once(
    mirror: Mirror, work: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(work / "outputs" / "pipe")
    (work / "outputs" / "out").symlink_to("/etc/hostname")
    (work / "outputs" / "up").symlink_to("..")
    monkeypatch.chdir(work / "outputs")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener, caplog.at_level(logging.WARNING):
        listener.bind("socket")
        assert mirror.sync().files == 2
        mirror.sync()
        manifest = mirror.seal()
    assert {each.path for each in manifest.files} == {"logs/rank0.log", "outputs/model/weights"}
    named = sorted(record.getMessage().split(" ")[0] for record in caplog.records)
    assert named == ["outputs/out", "outputs/pipe", "outputs/socket", "outputs/up"]


def test_links_within_the_folder_are_kept_as_what_they_point_to(mirror: Mirror, work: Path) -> None:
    (work / "outputs" / "latest").symlink_to("model")
    (work / "outputs" / "model" / "best").symlink_to("weights")
    (work / "outputs" / "model" / "circle").symlink_to(".")
    manifest = mirror.seal()
    names = ["latest/best", "latest/weights", "model/best", "model/weights"]
    assert [each.path for each in manifest.files if "outputs" in each.path] == [f"outputs/{n}" for n in names]


def test_a_name_that_no_store_can_hold_is_named_and_skipped(
    mirror: Mirror, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (work / "outputs" / "two\nlines").write_text("x")
    mirror.sync()
    assert len(mirror.seal().files) == 2
    assert len([record for record in caplog.records if "control characters" in record.getMessage()]) == 1


def test_sealing_returns_every_file_by_digest_and_leaves_nothing_live(
    mirror: Mirror, store: WatchedStore, tmp_path: Path, work: Path
) -> None:
    mirror.sync()
    manifest = mirror.seal()
    assert [each.path for each in manifest.files] == ["logs/rank0.log", "outputs/model/weights"]
    assert all(store.has_blob(each.digest) for each in manifest.files)
    assert list(store.keys(PREFIX)) == []
    assert restored(store, tmp_path / "next") == contents(work)


def test_sealing_sends_nothing_that_the_mirror_holds(mirror: Mirror, store: WatchedStore) -> None:
    mirror.sync()
    store.sent.clear()
    mirror.seal()
    assert store.sent == ["blob rank0.log"]


def test_sealing_without_a_sync_before_keeps_everything(mirror: Mirror, store: WatchedStore) -> None:
    assert {each.size_bytes for each in mirror.seal().files} == {4, 1000}


def test_sealing_twice_gives_the_same_manifest(mirror: Mirror, store: WatchedStore, work: Path) -> None:
    mirror.sync()
    first = mirror.seal()
    assert mirror.seal() == first
    assert open_mirror(store, work).seal() == first


def test_a_sealed_run_whose_folders_are_gone_still_has_its_manifest(
    mirror: Mirror, store: WatchedStore, work: Path
) -> None:
    first = mirror.seal()
    work.rename(work.with_name("elsewhere"))
    assert open_mirror(store, work).seal() == first


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_seal_that_was_killed_half_way_loses_nothing(
    store: WatchedStore, work: Path, tmp_path: Path, kept: int
) -> None:
    """The process ends itself without any clean-up after it made `kept` files into blobs."""
    for name in ("a", "b", "c"):
        (work / "outputs" / name).write_text(name)
    program = f"""if True:
        import os, pathlib, sys
        from runner.store.directory import DirectoryStore
        from runner.sync import Mirror
        work = pathlib.Path(sys.argv[2])
        class Store(DirectoryStore):
            adopted = 0
            def adopt(self, key, blob):
                if self.adopted == {kept}:
                    os._exit(9)
                self.adopted += 1
                super().adopt(key, blob)
        folders = {{name: work / name for name in ("outputs", "logs")}}
        mirror = Mirror(Store(pathlib.Path(sys.argv[1])), "{PREFIX}", folders)
        mirror.sync()
        mirror.seal()
    """
    root = store.uri.removeprefix("file://")
    assert subprocess.run([sys.executable, "-c", program, root, str(work)], check=False).returncode == 9
    assert restored(store, tmp_path / "next") == contents(work)
    assert (
        open_mirror(store, tmp_path / "next").seal() == open_mirror(open_store(tmp_path / "s2"), work).seal()
    )


def test_more_files_than_the_limit_are_refused_by_the_seal_and_named_by_the_sync(
    store: WatchedStore, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = open_mirror(store, work, files=1)
    assert mirror.sync().files == 1
    assert "only the first 1 of 2" in caplog.text
    with pytest.raises(StoreError, match="wrote 2 files"):
        mirror.seal()


def test_more_bytes_than_the_limit_are_refused(store: WatchedStore, work: Path) -> None:
    with pytest.raises(StoreError, match="at most"):
        open_mirror(store, work, size_bytes=100).seal()


def test_a_store_that_failed_gets_the_rest_at_the_next_sync(
    mirror: Mirror, store: WatchedStore, work: Path, tmp_path: Path
) -> None:
    def refuse(key: str) -> None:
        raise StoreError("no answer")

    store.before_file = refuse
    with pytest.raises(StoreError, match="no answer"):
        mirror.sync()
    store.before_file = lambda _: None
    mirror.sync()
    assert restored(store, tmp_path / "next") == contents(work)


def test_the_listing_shows_live_and_sealed_files(mirror: Mirror, store: WatchedStore) -> None:
    mirror.sync()
    live = sync.listing(store, PREFIX)
    mirror.seal()
    sealed = sync.listing(store, PREFIX)
    assert [(each.path, each.size_bytes) for each in live] == [
        (each.path, each.size_bytes) for each in sealed
    ]
    assert live[0].digest is None
    assert sealed[0].digest is not None


def test_one_file_is_fetched_live_and_sealed(mirror: Mirror, store: WatchedStore, tmp_path: Path) -> None:
    mirror.sync()
    sync.fetch(store, PREFIX, "outputs/model/weights", tmp_path / "live")
    mirror.seal()
    sync.fetch(store, PREFIX, "outputs/model/weights", tmp_path / "sealed")
    assert (tmp_path / "live").read_bytes() == (tmp_path / "sealed").read_bytes() == b"w" * 1000
    with pytest.raises(NotFound):
        sync.fetch(store, PREFIX, "outputs/absent", tmp_path / "absent")


def test_a_manifest_is_read_back_from_its_json() -> None:
    entry = FileEntry(path="outputs/x", size_bytes=3, digest=f"sha256:{'0' * 64}", executable=True)
    manifest = Manifest(files=(entry,))
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"files": [{"path": "x"}]}', b'{"files": [{"no": 1}]}']
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        Manifest.from_json(data)


def test_a_document_that_names_files_outside_the_folder_is_refused(
    store: WatchedStore, tmp_path: Path
) -> None:
    entry = {"path": "../x", "size_bytes": 1, "digest": None, "executable": False}
    store.write("runs/r1/live.json", json.dumps({"sealed": False, "files": [entry]}).encode())
    with pytest.raises(StoreError):
        sync.restore(store, PREFIX, tmp_path / "next")


def test_a_folder_that_was_replaced_by_a_link_out_of_the_work_is_not_kept(
    store: WatchedStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("of somebody else")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "outputs").symlink_to(tmp_path / "private")
    folders = {"outputs": tmp_path / "work" / "outputs"}

    sealed = Mirror(store, "runs/x/live/", folders, within=tmp_path / "work").seal()

    assert sealed.files == ()
    assert "outputs is not kept: it is a link out of the working folder" in caplog.text


@pytest.mark.parametrize("target", ["/proc/1/exe", "/proc/1/fd/0", "/nowhere"])
def test_a_folder_that_became_a_link_which_leads_nowhere_is_not_kept(
    store: WatchedStore, tmp_path: Path, target: str
) -> None:
    (tmp_path / "outputs").symlink_to(target)
    mirror = Mirror(store, "runs/x/live/", {"outputs": tmp_path / "outputs"}, within=tmp_path)

    assert mirror.seal().files == ()
    assert "outputs" in mirror.skipped


def test_a_tree_too_deep_for_the_file_system_is_left_out_and_named(
    store: WatchedStore, tmp_path: Path
) -> None:
    script = (
        "import os, sys; os.chdir(sys.argv[1])\nfor _ in range(300): os.mkdir('n' * 19); os.chdir('n' * 19)"
    )
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "kept").write_text("x")
    subprocess.run([sys.executable, "-c", script, tmp_path / "outputs"], check=True)
    mirror = Mirror(store, "runs/x/live/", {"outputs": tmp_path / "outputs"}, within=tmp_path)

    assert [each.path for each in mirror.seal().files] == ["outputs/kept"]
    assert any("too long" in why for why in mirror.skipped.values())
