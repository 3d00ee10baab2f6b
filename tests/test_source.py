from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import repository, source
from runner.errors import NotFound, SourceError, StoreError
from runner.store import Store, open_store


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
    argv = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "change")


def packed(folder: Path, store: Store) -> str:
    found = repository.inspect(folder)
    source.pack(found, store)
    return found.tree


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    commit(folder, {"train.py": "print(1)\n", "sub/ü model.py": "x = 1\n", "sub/deep/empty": ""})
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_what_is_unpacked_is_what_was_committed(repo: Path, store: Store, cache: Path) -> None:
    place = source.unpack(store, packed(repo, store), cache)
    assert contents(place) == contents(repo)
    assert place == cache / "sources" / git(repo, "rev-parse", "HEAD^{tree}")


def test_unpacked_files_are_read_only_and_keep_whether_they_are_executable(
    repo: Path, store: Store, cache: Path
) -> None:
    place = source.unpack(store, packed(repo, store), cache)
    assert stat.S_IMODE((place / "train.py").stat().st_mode) == 0o444
    assert stat.S_IMODE((place / "run.sh").stat().st_mode) == 0o555


def test_uncommitted_and_untracked_files_travel_too(repo: Path, store: Store, cache: Path) -> None:
    (repo / "train.py").write_text("print(2)\n")
    (repo / "new.py").write_text("y = 1\n")
    place = source.unpack(store, packed(repo, store), cache)
    assert contents(place) == contents(repo)


def test_edits_after_the_look_do_not_reach_the_archive(repo: Path, store: Store, cache: Path) -> None:
    (repo / "train.py").write_text("print(2)\n")
    found = repository.inspect(repo)
    (repo / "train.py").write_text("print(3)\n")
    source.pack(found, store)
    assert (source.unpack(store, found.tree, cache) / "train.py").read_text() == "print(2)\n"


def test_a_folder_in_no_repository_travels_too(tmp_path: Path, store: Store, cache: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "train.py").write_text("print(1)\n")
    assert contents(source.unpack(store, packed(plain, store), cache)) == {"train.py": "print(1)\n"}


def test_equal_trees_give_one_archive_wherever_they_are(repo: Path, store: Store, tmp_path: Path) -> None:
    packed(repo, store)
    first = [blob.digest for blob in store.blobs()]
    git(tmp_path, "clone", "-q", str(repo), "clone")
    other = open_store(tmp_path / "other")
    packed(tmp_path / "clone", other)
    assert [blob.digest for blob in other.blobs()] == first


def test_packing_again_does_nothing_unless_the_archive_was_deleted(repo: Path, store: Store) -> None:
    found = repository.inspect(repo)
    source.pack(found, store)
    before = list(store.blobs())
    source.pack(found, store)
    assert list(store.blobs()) == before
    store.delete_blob(before[0].digest)
    source.pack(found, store)
    assert [blob.digest for blob in store.blobs()] == [before[0].digest]


def test_export_ignore_and_line_ends_lose_and_change_nothing(repo: Path, store: Store, cache: Path) -> None:
    attributes = "train.py export-ignore\nsub/** export-ignore\n*.txt eol=crlf\n*.id export-subst\n"
    commit(repo, {".gitattributes": attributes, "a.txt": "a\n", "b.id": "$Format:%H$\n"})
    place = source.unpack(store, packed(repo, store), cache)
    assert (place / "train.py").is_file()
    assert (place / "sub" / "deep" / "empty").is_file()
    assert (place / "a.txt").read_bytes() == b"a\n"
    assert (place / "b.id").read_text() == "$Format:%H$\n"


def test_large_files_travel_whole(repo: Path, store: Store, cache: Path) -> None:
    large = os.urandom(3 << 20)
    (repo / "large.bin").write_bytes(large)
    place = source.unpack(store, packed(repo, store), cache)
    assert (place / "large.bin").read_bytes() == large


def test_a_one_line_change_writes_one_file(repo: Path, store: Store, cache: Path) -> None:
    (repo / "large.bin").write_bytes(b"0" * (2 << 20))
    first = source.unpack(store, packed(repo, store), cache)
    commit(repo, {"train.py": "print(2)\n"})
    second = source.unpack(store, packed(repo, store), cache)
    linked = {name for name in contents(second) if (first / name).samefile(second / name)}
    assert set(contents(second)) - linked == {"train.py"}
    assert (first / "train.py").read_text() == "print(1)\n"


def test_a_file_that_became_executable_is_not_linked(repo: Path, store: Store, cache: Path) -> None:
    first = source.unpack(store, packed(repo, store), cache)
    (repo / "train.py").chmod(0o755)
    second = source.unpack(store, packed(repo, store), cache)
    assert stat.S_IMODE((second / "train.py").stat().st_mode) == 0o555
    assert stat.S_IMODE((first / "train.py").stat().st_mode) == 0o444


def test_what_a_killed_unpack_left_is_removed_and_never_taken_for_whole(
    repo: Path, store: Store, cache: Path
) -> None:
    left = cache / "sources" / ".new-killed" / "tree"
    left.mkdir(parents=True)
    (left / "train.py").write_text("half")
    place = source.unpack(store, packed(repo, store), cache)
    assert contents(place) == contents(repo)
    assert not left.parent.exists()


def test_a_host_without_the_source_says_that_it_is_not_in_the_store(store: Store, cache: Path) -> None:
    with pytest.raises(NotFound):
        source.unpack(store, "0" * 40, cache)


def test_a_tree_that_is_none_is_refused(store: Store, cache: Path) -> None:
    with pytest.raises(StoreError, match="no git tree"):
        source.unpack(store, "../../etc", cache)


def test_a_working_copy_is_writable_and_writing_in_it_leaves_the_cache_alone(
    repo: Path, store: Store, cache: Path, tmp_path: Path
) -> None:
    (repo / "latest").symlink_to("sub/deep")
    cached = source.unpack(store, packed(repo, store), cache)
    work = tmp_path / "work"
    source.working_copy(cached, work)
    (work / "train.py").write_text("print(9)\n")
    (work / "sub" / "new").write_text("")
    assert (cached / "train.py").read_text() == "print(1)\n"
    assert (work / "latest").readlink() == Path("sub/deep")
    assert os.access(work / "run.sh", os.X_OK)
    assert not os.access(work / "train.py", os.X_OK)


@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "sub/../../x", "hop/../../outside"])
def test_links_out_of_the_folder_are_refused(repo: Path, store: Store, target: str) -> None:
    (repo / "hop").symlink_to("sub")
    (repo / "link").symlink_to(target)
    with pytest.raises(SourceError, match="lead out of the source folder: link"):
        packed(repo, store)


@pytest.mark.parametrize("target", ["sub/deep/empty", "hop/deep/../../train.py", "missing", "link", "."])
def test_links_within_the_folder_are_kept(repo: Path, store: Store, cache: Path, target: str) -> None:
    (repo / "hop").symlink_to("sub")
    (repo / "link").symlink_to(target)
    assert (source.unpack(store, packed(repo, store), cache) / "link").readlink() == Path(target)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, {"lib.py": "z = 1\n", "more/lib.py": "z = 2\n"})
    return folder


def test_files_of_submodules_are_taken_along(repo: Path, library: Path, store: Store, cache: Path) -> None:
    git(repo, "submodule", "--quiet", "add", str(library), "sub/lib")
    commit(repo, {})
    place = source.unpack(store, packed(repo, store), cache)
    assert contents(place) == contents(repo)
    assert (place / "sub" / "lib" / "more" / "lib.py").read_text() == "z = 2\n"


def test_a_submodule_that_is_not_checked_out_is_refused_with_the_command(
    repo: Path, library: Path, store: Store, tmp_path: Path
) -> None:
    git(repo, "submodule", "--quiet", "add", str(library), "lib")
    commit(repo, {})
    git(tmp_path, "clone", "-q", str(repo), "clone")
    with pytest.raises(SourceError, match="submodule lib is not checked out") as caught:
        packed(tmp_path / "clone", store)
    assert caught.value.tip == "git submodule update --init --recursive"


def test_a_submodule_with_untracked_files_is_refused(repo: Path, library: Path, store: Store) -> None:
    git(repo, "submodule", "--quiet", "add", str(library), "lib")
    commit(repo, {})
    (repo / "lib" / "new.py").write_text("")
    with pytest.raises(SourceError, match="submodule lib has changes"):
        packed(repo, store)


def pointer(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n"


def test_a_git_lfs_file_that_was_not_pulled_is_refused_with_the_command(repo: Path, store: Store) -> None:
    commit(repo, {"weights.h5": pointer(b"weights")})
    with pytest.raises(SourceError, match=r"not here: weights\.h5") as caught:
        packed(repo, store)
    assert caught.value.tip == "git lfs pull"
    assert not list(store.keys("sources/"))


def test_the_content_of_a_git_lfs_file_travels_instead_of_its_pointer(
    repo: Path, store: Store, cache: Path
) -> None:
    commit(repo, {"weights.h5": pointer(b"weights")})
    digest = hashlib.sha256(b"weights").hexdigest()
    kept = repo / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4]
    kept.mkdir(parents=True)
    (kept / digest).write_bytes(b"weights")
    place = source.unpack(store, packed(repo, store), cache)
    assert (place / "weights.h5").read_bytes() == b"weights"


def test_other_content_of_the_same_length_is_not_taken_for_a_git_lfs_file(repo: Path, store: Store) -> None:
    commit(repo, {"weights.h5": pointer(b"weights")})
    digest = hashlib.sha256(b"weights").hexdigest()
    kept = repo / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4]
    kept.mkdir(parents=True)
    (kept / digest).write_bytes(b"damaged")
    with pytest.raises(SourceError, match="git-lfs files are not here"):
        packed(repo, store)


def test_only_the_trees_that_are_named_are_evicted(repo: Path, store: Store, cache: Path) -> None:
    places = []
    for number in range(4):
        commit(repo, {"train.py": f"print({number})\n", "same.py": ""})
        places.append(source.unpack(store, packed(repo, store), cache))
        aged = time.time() - 2 * source.RECENT_S + number
        os.utime(places[-1], (aged, aged))
    source.unpack(store, places[0].name, cache)
    assert source.cached(cache) == [places[0], places[3], places[2], places[1]]
    gone = source.evict(cache, [place.name for place in places[:3]])
    assert gone == {places[1].name, places[2].name}
    assert [place.exists() for place in places] == [True, False, False, True]
    assert contents(source.unpack(store, places[1].name, cache))["train.py"] == "print(1)\n"


def test_a_tree_that_was_just_asked_for_is_not_evicted(repo: Path, store: Store, cache: Path) -> None:
    place = source.unpack(store, packed(repo, store), cache)
    assert source.evict(cache, [place.name]) == frozenset()
    assert place.exists()


def test_unpacking_waits_for_another_process_that_unpacks(repo: Path, store: Store, cache: Path) -> None:
    tree = packed(repo, store)
    (cache / "sources").mkdir(parents=True)
    program = """if True:
        import pathlib, sys
        from runner import source
        from runner.store import open_store
        print("ready", flush=True)
        print(source.unpack(open_store(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])))
    """
    with (cache / "sources" / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        argv = [sys.executable, "-c", program, str(Path(store.uri.removeprefix("file://"))), tree, str(cache)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
            assert not (cache / "sources" / tree).exists()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert process.stdout.readline().strip() == str(cache / "sources" / tree)
    assert process.returncode == 0
