from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from runner import repository
from runner.errors import SourceError


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
    argv = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "a repo: with; odd $name"
    (folder / "sub").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "train.py").write_text("print(1)\n")
    (folder / "sub" / "model.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("data/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Git marks the objects that it finds as used by their times, whatever it is told: these are left out."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    times = {path: 0 if "objects" in path.parts else path.stat().st_mtime_ns for path in files}
    return {str(path): (times[path], path.read_bytes()) for path in files}


def test_a_clean_folder_is_its_commit(repo: Path) -> None:
    source = repository.inspect(repo)
    assert (source.root, source.prefix, source.branch) == (repo, "", "main")
    assert source.commit == git(repo, "rev-parse", "HEAD")
    assert source.tree == git(repo, "rev-parse", "HEAD^{tree}")
    assert (source.dirty, source.changed, source.remote) == (False, (), None)
    assert repository.diff(source) == b""


def test_a_folder_below_the_root_is_looked_at_alone(repo: Path) -> None:
    (repo / "train.py").write_text("print(2)\n")
    source = repository.inspect(repo / "sub")
    assert (source.prefix, source.folder) == ("sub", repo / "sub")
    assert source.tree == git(repo, "rev-parse", "HEAD:sub")
    assert not source.dirty


def test_uncommitted_and_untracked_files_are_taken_along_and_ignored_ones_are_not(repo: Path) -> None:
    (repo / "train.py").write_text("print(2)\n")
    (repo / "new.py").write_text("y = 1\n")
    (repo / "sub" / "model.py").unlink()
    (repo / "data").mkdir()
    (repo / "data" / "big").write_text("0")
    source = repository.inspect(repo)
    git(repo, "add", "-A")
    assert source.tree == git(repo, "write-tree")
    assert source.changed == ("new.py", "sub/model.py", "train.py")
    assert source.dirty


def test_nothing_in_the_repository_is_touched_by_looking_at_uncommitted_changes(repo: Path) -> None:
    (repo / "train.py").write_text("print(2)\n")
    (repo / "new.py").write_text("y = 1\n")
    before = snapshot(repo)
    with_objects = repository.inspect(repo)
    assert repository.diff(with_objects)
    assert snapshot(repo) == before


def test_temporary_objects_are_gone_when_the_source_is_closed_or_collected(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (repo / "new.py").write_text("y = 1\n")
    source = repository.inspect(repo)
    assert len(list(temporary.iterdir())) == 1
    source.close()
    source.close()
    assert not list(temporary.iterdir())
    repository.inspect(repo)
    assert not list(temporary.iterdir())


def test_temporary_objects_of_a_killed_process_go_at_the_next_look(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    abandoned = temporary / "pushtrain-source-dead"
    abandoned.mkdir(parents=True)
    (abandoned / "lock").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    (repo / "new.py").write_text("y = 1\n")
    with_objects = repository.inspect(repo)
    other = repository.inspect(repo)
    assert not abandoned.exists()
    assert with_objects.tree == other.tree
    assert len(list(temporary.iterdir())) == 2


def test_a_change_that_was_staged_and_taken_back_is_no_change(repo: Path) -> None:
    (repo / "train.py").write_text("print(2)\n")
    git(repo, "add", "-A")
    (repo / "train.py").write_text("print(1)\n")
    source = repository.inspect(repo)
    assert (source.dirty, source.changed) == (False, ())


def test_the_diff_applied_to_the_commit_gives_the_tree(repo: Path, tmp_path: Path) -> None:
    (repo / "sub" / "model.py").write_text("x = 2")
    (repo / "sub" / "picture.bin").write_bytes(bytes(range(256)))
    source = repository.inspect(repo / "sub")
    clone = tmp_path / "clone"
    git(repo, "clone", "-q", str(repo), str(clone))
    (tmp_path / "patch").write_bytes(repository.diff(source))
    git(clone, "apply", "--index", str(tmp_path / "patch"))
    assert git(clone, "write-tree", "--prefix=sub/") == source.tree


def test_a_diff_over_the_limit_leaves_whole_files_out_says_so_and_applies_still(
    repo: Path, tmp_path: Path
) -> None:
    (repo / "a.txt").write_text("a\n" * 2000)
    (repo / "b.txt").write_text("b\n")
    text = repository.diff(repository.inspect(repo), limit_bytes=1000)
    assert text.startswith(b"# 1 of 2 changed files left out: more than 1,000 bytes\n")
    (tmp_path / "patch").write_bytes(text)
    git(repo, "rm", "-q", "train.py")
    git(repo, "apply", "--cached", str(tmp_path / "patch"))
    assert "b.txt" in git(repo, "ls-files", "--cached")


def test_a_repository_without_commits_has_no_commit_and_is_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "train.py").write_text("print(1)\n")
    source = repository.inspect(tmp_path)
    assert (source.commit, source.branch, source.dirty) == (None, "main", True)
    assert b"+print(1)" in repository.diff(source)


def test_a_folder_in_no_repository_has_the_tree_that_git_would_give_it(repo: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("train.py", ".gitignore"):
        (plain / name).write_bytes((repo / name).read_bytes())
    (plain / "data").mkdir()
    (plain / "data" / "big").write_text("0")
    source = repository.inspect(plain)
    git(repo, "rm", "-rq", "sub")
    assert source.tree == git(repo, "write-tree")
    assert (source.commit, source.branch, source.dirty) == (None, None, True)
    assert source.changed == (".gitignore", "train.py")
    assert not (plain / ".git").exists()
    assert b"+print(1)" in repository.diff(source)


def test_a_folder_that_its_repository_ignores_is_read_as_if_it_were_in_none(repo: Path) -> None:
    (repo / "data").mkdir()
    (repo / "data" / "train.py").write_text("print(1)\n")
    source = repository.inspect(repo / "data")
    assert (source.commit, source.dirty, source.changed) == (None, True, ("train.py",))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no files"):
        repository.inspect(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is no folder"):
        repository.inspect(tmp_path / "absent")


def test_variables_that_git_sets_for_hooks_do_not_choose_the_repository(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    expected = repository.inspect(repo)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    monkeypatch.setenv("GIT_PREFIX", "sub/")
    assert repository.inspect(repo) == expected


def test_a_merge_with_conflicts_is_refused(repo: Path) -> None:
    git(repo, "checkout", "-qb", "other")
    (repo / "train.py").write_text("print(2)\n")
    git(repo, "commit", "-qam", "other")
    git(repo, "checkout", "-q", "main")
    (repo / "train.py").write_text("print(3)\n")
    git(repo, "commit", "-qam", "main")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "other")
    with pytest.raises(SourceError, match=r"train\.py has conflicts"):
        repository.inspect(repo)


def test_a_submodule_with_changes_of_its_own_is_refused(repo: Path, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    (library / "lib.py").write_text("z = 1\n")
    git(library, "add", "-A")
    git(library, "commit", "-qm", "library")
    git(repo, "submodule", "--quiet", "add", str(library), "lib")
    git(repo, "commit", "-qm", "submodule")
    assert not repository.inspect(repo).dirty
    (repo / "lib" / "lib.py").write_text("z = 2\n")
    with pytest.raises(SourceError, match="submodule lib has changes"):
        repository.inspect(repo)


def test_credentials_in_the_address_of_the_remote_are_left_out(repo: Path) -> None:
    git(repo, "remote", "add", "origin", "https://me:secret@example.org/team/repo.git")
    assert repository.inspect(repo).remote == "https://example.org/team/repo.git"


def test_the_user_of_an_ssh_remote_is_kept(repo: Path) -> None:
    git(repo, "remote", "add", "origin", "ssh://git@example.org/team/repo.git")
    assert repository.inspect(repo).remote == "ssh://git@example.org/team/repo.git"


def test_a_detached_head_has_no_branch(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    assert repository.inspect(repo).branch is None


def test_a_linked_work_tree_is_its_own_folder(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "new.py").write_text("y = 1\n")
    source = repository.inspect(tmp_path / "side")
    assert (source.branch, source.changed) == ("side", ("new.py",))
    assert not repository.inspect(repo).dirty


def test_data_that_git_should_ignore_is_refused_with_its_name(repo: Path) -> None:
    with (repo / "huge.bin").open("wb") as file:
        file.truncate(repository.UNCOMMITTED_LIMIT_BYTES + 1)
    with pytest.raises(SourceError, match=r"huge\.bin \(1,024 MiB\)") as caught:
        repository.inspect(repo)
    assert ".gitignore" in caught.value.tip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_repository_of_another_user_is_refused_with_the_command_that_allows_it(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for path in (repo, repo / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(SourceError, match="belongs to another user") as caught:
        repository.inspect(repo)
    assert caught.value.tip.startswith("git config --global --add safe.directory")


def test_without_git_the_error_says_how_to_install_it(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git is not installed") as caught:
        repository.inspect(repo)
    assert caught.value.tip == "apt-get install git"
