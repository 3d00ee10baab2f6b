from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.environment import context
from runner.errors import EnvironmentFailed


def listed(folder: Path, *names: str, ignore: str = "") -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    if ignore:
        (folder / ".dockerignore").write_text(ignore)
    return [name for name, _ in context.files(folder) if name != ".dockerignore"]


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ("", ["a.md", "a.py", "b/c/a.py", "b/x.md"]),
        ("*.md", ["a.py", "b/c/a.py", "b/x.md"]),
        ("**/*.md", ["a.py", "b/c/a.py"]),
        ("b", ["a.md", "a.py"]),
        ("/b/", ["a.md", "a.py"]),
        ("b/*", ["a.md", "a.py"]),
        ("*\n!a.py", ["a.py"]),
        ("*\n!b/c", ["b/c/a.py"]),
        ("# *\n\n?.py", ["a.md", "b/c/a.py", "b/x.md"]),
        ("**", []),
        (".", []),
        ("[a].*", ["b/c/a.py", "b/x.md"]),
    ],
)
def test_dockerignore_is_read_as_docker_reads_it(tmp_path: Path, ignore: str, left: list[str]) -> None:
    assert listed(tmp_path, "a.md", "a.py", "b/c/a.py", "b/x.md", ignore=ignore) == left


def test_what_git_ignores_is_no_part_of_a_build(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("data/\n")

    assert listed(tmp_path, "train.py", "data/huge.bin") == [".gitignore", "train.py"]


def test_without_git_every_file_counts_but_those_of_git(tmp_path: Path) -> None:
    assert listed(tmp_path, "train.py", "a/b", ".git/config") == ["a/b", "train.py"]


def test_content_mode_and_target_of_a_file_change_its_digest(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("1")
    link.symlink_to("file")
    seen = {context.files(tmp_path)}
    file.chmod(0o755)
    seen.add(context.files(tmp_path))
    file.write_text("2")
    seen.add(context.files(tmp_path))
    link.unlink()
    link.symlink_to("nowhere")
    seen.add(context.files(tmp_path))

    assert len(seen) == 4


def test_a_build_sees_the_listed_files_only(tmp_path: Path) -> None:
    source, stage = tmp_path / "source", tmp_path / "stage"
    listed(source, "train.py", "b/c", ".git/config")
    (source / "link").symlink_to("train.py")

    context.stage(source, context.files(source), to=stage)

    staged = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*"))
    assert staged == ["b", "b/c", "link", "train.py"]
    assert (stage / "link").is_symlink()


def test_a_file_that_changed_since_the_plan_stops_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    listed(source, "train.py")
    planned = context.files(source)
    (source / "train.py").write_text("other")

    with pytest.raises(EnvironmentFailed, match=r"train\.py changed"):
        context.stage(source, planned, to=tmp_path / "stage")
