"""What differs from a tree that was packed before travels alone, and gives the same folder as the whole."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import archive, repository, source
from runner.errors import SourceError, StoreError
from runner.gc.blobs import references
from runner.store import Store, open_store
from tests.test_source import commit, git, packed, pointer

BULK_BYTES = 1 << 20


def new_repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "bulk.bin").write_bytes(os.urandom(BULK_BYTES))
    commit(folder, {"train.py": "print(1)\n", "sub/model.py": "x = 1\n"})
    return folder


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repo")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def size_bytes(store: Store) -> int:
    return sum(blob.size_bytes for blob in store.blobs())


def digests(store: Store) -> set[str]:
    return {blob.digest for blob in store.blobs()}


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Each path of a folder, empty folders included -> mode and content."""
    found = {}
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in folders + names):
            is_link, mode = path.is_symlink(), path.lstat().st_mode
            content = os.fsencode(path.readlink()) if is_link else b"" if path.is_dir() else path.read_bytes()
            found[path.relative_to(folder).as_posix()] = (mode, content)
    return found


def tree_id(folder: Path) -> str:
    """What git says the folder is, by a repository of its own."""
    with tempfile.TemporaryDirectory() as kept:
        place = ["--git-dir", kept, "--work-tree", str(folder)]
        git(folder, "init", "-q", "--bare", kept)
        git(folder, *place, "-c", "core.bare=false", "add", "-A", "-f", ".")
        return git(folder, *place, "-c", "core.bare=false", "write-tree")


def test_after_a_one_line_change_only_that_file_is_put_into_the_store(
    repo: Path, store: Store, cache: Path
) -> None:
    packed(repo, store)
    before = size_bytes(store)
    commit(repo, {"train.py": "print(22)\n"})
    place = source.unpack(store, packed(repo, store), cache)
    assert 0 < size_bytes(store) - before < 1000
    assert tree_id(place) == place.name


def test_uncommitted_changes_are_compared_although_git_has_lost_what_they_are_compared_to(
    repo: Path, store: Store, cache: Path
) -> None:
    (repo / "train.py").write_text("print(22)\n")
    packed(repo, store)
    before = size_bytes(store)
    (repo / "train.py").write_text("print(333)\n")
    place = source.unpack(store, packed(repo, store), cache)
    assert size_bytes(store) - before < 1000
    assert tree_id(place) == place.name


def test_the_store_is_not_asked_for_what_the_host_has(repo: Path, store: Store, cache: Path) -> None:
    first = packed(repo, store)
    source.unpack(store, first, cache)
    whole = digests(store)
    commit(repo, {"train.py": "print(22)\n"})
    second = packed(repo, store)
    for digest in whole:
        store.delete_blob(digest)
    place = source.unpack(store, second, cache)
    assert (place / "bulk.bin").samefile(cache / "sources" / first / "bulk.bin")


def test_what_was_evicted_is_unpacked_again_for_the_next_change(
    repo: Path, store: Store, cache: Path
) -> None:
    place = source.unpack(store, packed(repo, store), cache)
    os.utime(place, (0, 0))
    assert source.evict(cache, [place.name]) == {place.name}
    commit(repo, {"train.py": "print(22)\n"})
    second = packed(repo, store)
    assert tree_id(source.unpack(store, second, cache)) == second
    assert place.is_dir()


def test_a_tree_of_which_most_differs_is_packed_whole_and_the_next_is_compared_to_it(
    repo: Path, store: Store, cache: Path
) -> None:
    packed(repo, store)
    before, whole = size_bytes(store), digests(store)
    (repo / "bulk.bin").write_bytes(os.urandom(BULK_BYTES + 1))
    second = packed(repo, store)
    assert size_bytes(store) - before > BULK_BYTES
    (repo / "train.py").write_text("print(22)\n")
    third = packed(repo, store)
    for digest in whole:
        store.delete_blob(digest)
    for tree in (third, second):
        assert tree_id(source.unpack(store, tree, cache)) == tree


def test_many_removed_files_make_a_tree_be_packed_whole(repo: Path, store: Store) -> None:
    commit(repo, {f"many/{number}": "" for number in range(2000)})
    packed(repo, store)
    before = size_bytes(store)
    git(repo, "rm", "-rq", "many")
    packed(repo, store)
    assert size_bytes(store) - before > BULK_BYTES


def test_a_tree_is_packed_again_where_what_it_was_compared_to_is_gone(
    repo: Path, store: Store, cache: Path
) -> None:
    packed(repo, store)
    whole = digests(store)
    commit(repo, {"train.py": "print(22)\n"})
    tree = packed(repo, store)
    for digest in whole:
        store.delete_blob(digest)
    assert not source.has(store, tree)
    assert packed(repo, store) == tree
    assert tree_id(source.unpack(store, tree, cache)) == tree


def test_what_a_tree_was_compared_to_is_referred_to_as_long_as_the_tree(repo: Path, store: Store) -> None:
    first = packed(repo, store)
    commit(repo, {"train.py": "print(22)\n"})
    packed(repo, store)
    store.delete(f"sources/{first}.json")
    assert len(digests(store)) == 2
    assert references(store) == digests(store)


def test_what_could_be_compared_to_is_forgotten_where_it_cannot_be_read(repo: Path, store: Store) -> None:
    packed(repo, store)
    before = size_bytes(store)
    (key,) = store.keys("latest-sources/")
    store.write(key, b"{")
    commit(repo, {"train.py": "print(22)\n"})
    packed(repo, store)
    assert size_bytes(store) - before > BULK_BYTES


def test_equal_changes_give_equal_archives(repo: Path, store: Store, tmp_path: Path) -> None:
    other = open_store(tmp_path / "other")
    for text in ("print(1)\n", "print(22)\n"):
        (repo / "train.py").write_text(text)
        packed(repo, store)
        packed(repo, other)
    assert digests(store) == digests(other)


def test_only_the_changed_files_of_a_submodule_travel(
    repo: Path, store: Store, cache: Path, tmp_path: Path
) -> None:
    library = new_repository(tmp_path / "library")
    git(repo, "submodule", "--quiet", "add", str(library), "lib")
    commit(repo, {})
    packed(repo, store)
    before = size_bytes(store)
    commit(repo / "lib", {"train.py": "print(22)\n", "new.py": ""})
    git(repo / "lib", "rm", "-q", "sub/model.py")
    commit(repo / "lib", {})
    commit(repo, {})
    place = source.unpack(store, packed(repo, store), cache)
    assert size_bytes(store) - before < 2000
    assert sorted(path.name for path in (place / "lib").iterdir()) == ["bulk.bin", "new.py", "train.py"]
    assert (place / "lib" / "train.py").read_text() == "print(22)\n"


def test_a_git_lfs_file_is_needed_only_when_it_changed(repo: Path, store: Store, cache: Path) -> None:
    commit(repo, {"weights.h5": pointer(b"weights")})
    digest = hashlib.sha256(b"weights").hexdigest()
    kept = repo / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4]
    kept.mkdir(parents=True)
    (kept / digest).write_bytes(b"weights")
    packed(repo, store)
    (kept / digest).unlink()
    commit(repo, {"train.py": "print(22)\n"})
    assert (source.unpack(store, packed(repo, store), cache) / "weights.h5").read_bytes() == b"weights"
    commit(repo, {"weights.h5": pointer(b"others!")})
    with pytest.raises(SourceError, match="git-lfs files are not here"):
        packed(repo, store)


def test_a_link_that_leads_out_only_since_another_changed_is_refused(repo: Path, store: Store) -> None:
    (repo / "link").symlink_to("hop/../train.py")
    commit(repo, {"hop/file": ""})
    packed(repo, store)
    (repo / "hop" / "file").unlink()
    (repo / "hop").rmdir()
    (repo / "hop").symlink_to(".")
    with pytest.raises(SourceError, match="lead out of the source folder: link"):
        packed(repo, store)


PATHS = ("a", "a/b", "a/b/c", "a/b/d", "e", "e/f", "g-h/i", "g", "g/ü j")
State = Mapping[str, tuple[str, str]]
STATES = st.dictionaries(
    st.sampled_from(PATHS),
    st.tuples(st.sampled_from(["file", "program", "link"]), st.sampled_from(["", "1\n", "2\n"])),
)


def show(state: State, folder: Path) -> None:
    """Makes the folder be in a state: path -> kind and text; of two that exclude each other, the deeper."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if ".git" not in path.parts and path.name != "bulk.bin":
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, (kind, text) in state.items():
        if any(other.startswith(f"{name}/") for other in state):
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(f"target{text.strip()}")
        else:
            path.write_text(text)
            path.chmod(0o755 if kind == "program" else 0o644)


@settings(max_examples=15, deadline=None)
@given(before=STATES, after=STATES, commits=st.booleans())
def test_any_change_gives_the_tree_that_packing_the_whole_gives(
    before: State, after: State, commits: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        repo, store = new_repository(top / "repo"), open_store(top / "store")
        show(before, repo)
        source.unpack(store, packed(repo, store), top / "cache")
        size_before = size_bytes(store)
        show(after, repo)
        if commits:
            git(repo, "add", "-A")
            git(repo, "commit", "-q", "--allow-empty", "-m", "change")
        tree = packed(repo, store)
        place = source.unpack(store, tree, top / "cache")
        whole = open_store(top / "whole")
        assert packed(repo, whole) == tree
        assert everything(place) == everything(source.unpack(whole, tree, top / "other"))
        assert tree_id(place) == tree
        assert size_bytes(store) - size_before < BULK_BYTES


def put_archive(store: Store, folder: Path, members: Mapping[str, str | None], **more: object) -> str:
    """Puts a source that no `pack` made: path -> where it links to, or None for a file. Returns its tree."""
    path, tree = folder / "made.tar", f"{len(list(store.blobs())):040x}"
    with tarfile.open(path, "w") as tar:
        for name, target in members.items():
            member = tarfile.TarInfo(name)
            if target is not None:
                member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member, io.BytesIO())
    record = {"archive": store.put_blob(path).digest, **more}
    store.write(f"sources/{tree}.json", json.dumps(record).encode())
    return tree


@pytest.mark.parametrize(
    "members",
    [
        {"../outside": None},
        {"/outside": None},
        {"a/./b": None},
        {"link": "../outside"},
        {"link": "/"},
        {"link": "sub", "link/file": None},
        {"sub/kept": None, "link": "sub", "link/file": "x"},
        {"link/file": "x", "link": "sub"},
        {"file": None, "file/below": None},
    ],
)
def test_an_archive_that_reaches_out_of_its_folder_is_refused_and_leaves_nothing(
    store: Store, cache: Path, tmp_path: Path, members: Mapping[str, str | None]
) -> None:
    tree = put_archive(store, tmp_path, members)
    with pytest.raises(StoreError):
        source.unpack(store, tree, cache)
    assert [path.name for path in (cache / "sources").iterdir()] == [".lock"]
    assert not (cache / "sources" / "outside").exists()


def test_a_link_in_the_place_of_an_unchanged_folder_is_refused(
    store: Store, cache: Path, tmp_path: Path
) -> None:
    first = put_archive(store, tmp_path, {"sub/file": None, "other/file": None})
    base = {"tree": first, "archive": next(iter(digests(store)))}
    second = put_archive(store, tmp_path, {"sub": "other"}, base=base, removed=[])
    with pytest.raises(StoreError):
        source.unpack(store, second, cache)
    assert source.cached(cache) == [cache / "sources" / first]


def test_a_base_that_is_no_tree_is_refused(store: Store, cache: Path, tmp_path: Path) -> None:
    base = {"tree": "../../outside", "archive": "sha256:" + "0" * 64}
    tree = put_archive(store, tmp_path, {}, base=base, removed=[])
    with pytest.raises(StoreError, match="no git tree"):
        source.unpack(store, tree, cache)


def test_unchanged_files_are_copied_where_they_cannot_be_linked(repo: Path, tmp_path: Path) -> None:
    """A folder in memory is another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    tree = archive.read(repository.inspect(repo))
    path = tmp_path / "changes.tar"
    with path.open("wb") as file:
        archive.write_changes(tree, file, known=tree.files, limit_bytes=BULK_BYTES)
    (repo / "bulk.bin").chmod(0o555)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        archive.extract(path, Path(folder), unchanged=repo, removed=["train.py"])
        copied = Path(folder, "bulk.bin")
        assert copied.read_bytes() == (repo / "bulk.bin").read_bytes()
        assert stat.S_IMODE(copied.stat().st_mode) == 0o555
        assert not Path(folder, "train.py").exists()
