"""Real venvs of tiny packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner.environment import Recipe, Venv, prepare_venv, present
from runner.errors import EnvironmentFailed
from tests.environment.specs import venv


def prepare(recipe: Recipe, root: Path, lines: list[str] | None = None) -> Venv:
    return prepare_venv(recipe, root=root, log=(lines if lines is not None else []).append)


def said(made: Venv, code: str) -> str:
    done = subprocess.run([made.python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def failure(folder: Path, environment: str, files: dict[str, str] | None = None) -> EnvironmentFailed:
    root = folder / "envs"
    with pytest.raises(EnvironmentFailed) as caught:
        prepare(venv(folder, environment, files), root)
    assert [path.name for path in root.iterdir() if path.is_dir()] == [], "a failed build leaves nothing"
    return caught.value


def test_a_venv_has_the_packages_and_the_python_that_were_asked_for(tmp_path: Path) -> None:
    recipe = venv(tmp_path, "pip: [six==1.17.0]")

    made = prepare(recipe, tmp_path / "envs")

    assert said(made, "import six; print(six.__version__)") == "1.17.0"
    assert said(made, "import platform; print(platform.python_version())") == recipe.python
    assert made.path == tmp_path / "envs" / recipe.key


def test_a_venv_sees_nothing_of_the_packages_of_this_program(tmp_path: Path) -> None:
    made = prepare(venv(tmp_path, "pip: []"), tmp_path / "envs")

    assert said(made, "import importlib.util as u; print(u.find_spec('pydantic'))") == "None"


def test_constraints_limit_what_is_installed(tmp_path: Path) -> None:
    files = {"r.txt": "-c limits.txt\nsix\n", "limits.txt": "six<1.17\n"}

    made = prepare(venv(tmp_path, "pip: r.txt", files), tmp_path / "envs")

    assert said(made, "import six; print(six.__version__)") == "1.16.0"


def test_preparing_again_is_instant_and_asks_nobody(tmp_path: Path) -> None:
    recipe = venv(tmp_path, "pip: [six]")
    made = prepare(recipe, tmp_path / "envs")
    lines: list[str] = []
    started_s = time.perf_counter()

    again = prepare(recipe, tmp_path / "envs", lines)

    assert time.perf_counter() - started_s < 0.02
    assert (again, lines) == (made, [])


def test_it_is_present_only_when_it_is_whole(tmp_path: Path) -> None:
    recipe, root = venv(tmp_path, "pip: [six]"), tmp_path / "envs"
    assert not present(recipe, root=root, registry=None)

    made = prepare(recipe, root)
    assert present(recipe, root=root, registry=None)

    made.python.unlink()
    assert not present(recipe, root=root, registry=None)
    assert said(prepare(recipe, root), "import six; print(1)") == "1"


def test_a_killed_build_is_not_taken_for_whole(tmp_path: Path) -> None:
    recipe, root = venv(tmp_path, "pip: [six]"), tmp_path / "envs"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from runner.environment import prepare_venv, venv_recipe\n"
        "from runner.spec import load\n"
        "folder = Path(sys.argv[1])\n"
        "spec = load(folder / 'train.yml').environment\n"
        "recipe = venv_recipe(spec, folder, train_file='train.yml')\n"
        "def die(line):\n"
        "    if 'Installed' in line: os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare_venv(recipe, root=folder / 'envs', log=die)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert (root / recipe.key / "bin" / "python").exists()

    assert not present(recipe, root=root, registry=None)
    assert said(prepare(recipe, root), "import six; print(1)") == "1"


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    recipe, logs = venv(tmp_path, "pip: [six, iniconfig]"), ([], [])  # type: tuple[Recipe, tuple[list[str], list[str]]]
    threads = [threading.Thread(target=prepare, args=(recipe, tmp_path / "envs", log)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    builds = [log for log in logs if any("Installed" in line for line in log)]
    assert len(builds) == 1
    assert present(recipe, root=tmp_path / "envs", registry=None)


def test_a_misspelt_package_is_named_with_its_line_of_train_yml(tmp_path: Path) -> None:
    error = failure(tmp_path, "pip:\n  - six\n  - nosuchpackage-of-pushtrain==1")

    assert str(error).startswith("train.yml:6: nosuchpackage-of-pushtrain==1 cannot be installed\n")
    assert "was not found in the package registry" in str(error)
    assert len(str(error).splitlines()) <= 4
    assert error.tip == "correct the name, or name its index by --extra-index-url"


def test_a_version_that_does_not_exist_is_named_with_its_line_of_the_file(tmp_path: Path) -> None:
    error = failure(tmp_path, "pip: r.txt", {"r.txt": "# ours\niniconfig\nsix==99.0\n"})

    assert str(error).startswith("r.txt:3: six==99.0 cannot be installed\n")
    assert error.tip == "take a version that exists: https://pypi.org/project/six/#history"


def test_packages_that_do_not_go_together_are_both_named(tmp_path: Path) -> None:
    error = failure(tmp_path, "pip: r.txt", {"r.txt": "pytest==8.0.0\nsix\npluggy==0.13.0\n"})

    lines = str(error).splitlines()
    assert lines[0] == "r.txt:1: pytest==8.0.0 cannot be installed"
    assert lines[1] == "r.txt:3: pluggy==0.13.0 cannot be installed"
    assert error.tip.startswith("take versions that go together")


def test_a_package_that_does_not_build_is_named_with_its_own_last_words(tmp_path: Path) -> None:
    with served(tmp_path / "index", package("breaks", "raise SystemExit('no compiler today')")) as url:
        lines = f"pip:\n  - --find-links {url}\n  - breaks"
        error = failure(tmp_path, lines)

    assert str(error).startswith("train.yml:6: breaks cannot be installed\n")
    assert "no compiler today" in str(error)
    assert error.tip.startswith("take a release that has a wheel")


def test_a_line_that_is_no_requirement_is_named(tmp_path: Path) -> None:
    error = failure(tmp_path, "pip: r.txt", {"r.txt": "six\nfoo bar baz\n"})

    assert "foo bar baz" in str(error)
    assert "r.txt:2" in str(error)


def test_an_index_that_does_not_answer_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))

    error = failure(tmp_path, "pip: [six]")

    assert "127.0.0.1:9" in str(error)
    assert error.tip.startswith("check the network")


def test_pips_folder_of_wheels_is_passed_on_to_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "tinytest_of_pushtrain")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)

    made = prepare(venv(tmp_path, "pip: [tinytest-of-pushtrain]"), tmp_path / "envs")

    assert said(made, "import tinytest_of_pushtrain as t; print(t.__name__)") == "tinytest_of_pushtrain"


def test_a_project_where_the_command_is_typed_has_no_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv.toml").write_text("no-index = true\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname='x'\nversion='1'\nrequires-python='>=3.99'\n")
    recipe = venv(tmp_path, "pip: [six]")
    monkeypatch.chdir(tmp_path)

    assert prepare(recipe, tmp_path.parent / f"{tmp_path.name}-envs").python.exists()


def test_legacy_keras_takes_keras_2_of_the_same_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "tensorflow_cpu", version="2.18.7")
    wheel(wheels, "tf_keras", version="2.18.3", requires="tensorflow")
    wheel(wheels, "tf_keras", version="2.19.0", requires="tensorflow")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))

    made = prepare(venv(tmp_path, "pip: [tensorflow-cpu==2.18.7]\nlegacy_keras: true"), tmp_path / "envs")

    versions = (
        "import os, importlib.metadata as m; print(m.version('tf_keras'), os.environ['TF_USE_LEGACY_KERAS'])"
    )
    assert said(made, versions) == "2.18.3 1"


def test_legacy_keras_without_a_tensorflow_is_refused(tmp_path: Path) -> None:
    assert "no TensorFlow among the packages" in str(failure(tmp_path, "pip: [six]\nlegacy_keras: true"))


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="not on Debian")
def test_debian_packages_that_are_missing_are_named_with_what_to_type(tmp_path: Path) -> None:
    recipe = venv(tmp_path, "apt:\n  - dpkg\n  - nosuch-of-pushtrain\n  - awk")

    with pytest.raises(
        EnvironmentFailed, match=r"train\.yml:6: nosuch-of-pushtrain is not installed here"
    ) as caught:
        prepare(recipe, tmp_path / "envs")

    assert caught.value.tip == "sudo apt-get install -y nosuch-of-pushtrain"


def wheel(folder: Path, name: str, *, version: str = "1.0", requires: str = "") -> None:
    """An empty package as a wheel: a zip with three files."""
    import zipfile

    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def package(name: str, setup: str) -> dict[str, bytes]:
    """A source archive whose setup.py is `setup`: file name -> content."""
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        files = {"setup.py": setup, "PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n"}
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return {f"{name}-1.0.tar.gz": buffer.getvalue()}


@contextmanager
def served(folder: Path, files: dict[str, bytes]) -> Iterator[str]:
    """A page that lists `files`, over HTTP on loopback."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=os.fspath(folder), **kwargs)  # type: ignore[arg-type]  # as given

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
