"""The command line: it starts at once, tells errors in one place, and exits with the code of what failed."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import cli, runs
from runner.cli import main
from runner.runs import State
from runner.store import Store, open_store
from tests.flow import made

RUN = "20260101-000000-aaaa"
HEAVY = (
    "pydantic",
    "yaml",
    "rich",
    "boto3",
    "docker",
    "httpx",
    "tensorboard",
    "plotext",
    "msgspec",
    "psutil",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, away from any setting of the machine."""
    for name in ("PUSHTRAIN_STORE", "PUSHTRAIN_ENGINE", "PUSHTRAIN_REGISTRY", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PUSHTRAIN_HOME", str(tmp_path / "home"))
    programs = tmp_path / "bin"  # No Docker.
    programs.mkdir()
    (programs / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(programs))
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return open_store(home / "store")


Told = pytest.CaptureFixture[str]


def files(folder: Path, text: str = made.PLAIN) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "train.yml").write_text(text)
    (folder / "train.py").write_text("print(1)\n")
    return str(folder)


# Starting


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], [], ["--version"]])
def test_help_is_there_before_anything_heavy_is_imported(argv: list[str]) -> None:
    program = f"""if True:
        import sys
        from runner.cli import main
        try:
            main({argv!r})
        except SystemExit as ended:
            assert ended.code == 0
        print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: []\n")


def subcommands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield below
                yield from subcommands(below)


def test_every_command_leads_to_a_function_and_explains_itself() -> None:
    commands = list(subcommands(cli.parser()))
    assert len(commands) >= 20
    for command in commands:
        module, _, name = command.get_default("target").partition(":")
        assert callable(getattr(importlib.import_module(f"runner.commands.{module}"), name))
        assert command.description


def test_a_command_that_does_not_exist_is_refused_with_what_to_type(capsys: Told) -> None:
    assert main(["tain"]) == 64
    said = capsys.readouterr().err
    assert "tain" in said
    assert "tip: pushtrain --help" in said


# Errors


@pytest.mark.parametrize(
    "command",
    [
        ["show", "nothing"],
        ["logs", "nothing"],
        ["outputs", "nothing"],
        ["cancel", "nothing"],
        ["resume", "nothing"],
        ["compare", "nothing"],
    ],
)
def test_a_run_that_is_not_there_is_73_and_says_where_to_look(command: list[str], capsys: Told) -> None:
    assert main(command) == 73
    assert capsys.readouterr().err == "error: there is no run 'nothing'\n  tip: pushtrain runs\n"


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["run", "{folder}", "--engine", "kubernetes"], 64),
        (["run", "{folder}/nothing"], 66),
        (["run", "{folder}", "-f", "other.yml"], 64),
        (["check", "{folder}", "-f", "other.yml"], 64),
        (["runs", "--state", "dancing"], 64),
        (["show", "nothing"], 73),
        (["models", "show", "nothing"], 76),
        (["promote", "nothing@1.0.0", "production"], 76),
        (["data", "add", "x"], 64),
        (["data", "add", "x", "/nothing"], 69),
        (["data", "add", "../x", "{folder}"], 69),
        (["gc", "--older-than", "soon"], 64),
        (["runs", "--store", "ftp://x"], 74),
        (["init", "{folder}"], 64),
        (["init", "{folder}/nothing"], 64),
    ],
)
def test_every_error_has_its_exit_code_and_says_what_happened(
    argv: list[str], code: int, tmp_path: Path, capsys: Told
) -> None:
    folder = files(tmp_path / "repository")
    assert main([each.replace("{folder}", folder) for each in argv]) == code
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "{folder}", "--engine", "kubernetes"],
        ["run", "{folder}", "-f", "other.yml"],
        ["runs", "--state", "dancing"],
        ["models", "show", "nothing"],
        ["data", "add", "x"],
        ["gc", "--older-than", "soon"],
        ["runs", "--store", "ftp://x"],
        ["init", "{folder}"],
        ["plan", "{folder}", "-p", "lr=1"],
        ["plan", "{folder}", "--engine", "docker"],
    ],
)
def test_errors_have_a_tip(argv: list[str], tmp_path: Path, capsys: Told) -> None:
    folder = files(tmp_path / "repository")
    assert main([each.replace("{folder}", folder) for each in argv]) != 0
    assert "\n  tip: " in capsys.readouterr().err


def test_every_fault_of_a_file_is_told_with_its_line(tmp_path: Path, capsys: Told) -> None:
    folder = files(tmp_path / "repository", "name: x\nrnu: python train.py\nresources: {nodes: many}\n")
    assert main(["check", folder]) == 65
    path = f"{folder}/train.yml"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {path}:1:1: neither")
    assert lines[1].startswith(f"       {path}:2:1: rnu: ")
    assert lines[1].endswith("(did you mean run?)")
    assert lines[2].startswith(f"       {path}:3:20: resources.nodes: 'many'")
    assert lines[3:] == ["       3 faults"]


def test_a_file_that_is_right_is_said_to_be(tmp_path: Path, capsys: Told) -> None:
    folder = files(tmp_path / "repository")
    assert main(["check", folder]) == 0
    assert capsys.readouterr().out == f"{folder}/train.yml is right: example, 0 inputs\n"


def test_a_reader_that_goes_away_is_no_error(store: Store) -> None:
    for number in range(200):
        made.run(store, f"20260101-000000-{number:04x}")
    argv = [sys.executable, "-m", "runner.cli", "runs", "-n", "200"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode in (1, 141)  # 1 where it was rich that noticed


# Runs


def test_runs_are_listed_and_filtered(store: Store, capsys: Told) -> None:
    made.run(store, RUN, State.PREPARING, State.FAILED)
    assert main(["runs", "--state", "failed"]) == 0
    assert RUN in capsys.readouterr().out
    assert main(["runs", "--state", "succeeded"]) == 0
    assert RUN not in capsys.readouterr().out


def test_a_run_is_shown_as_json(store: Store, capsys: Told) -> None:
    made.run(store, RUN, State.PREPARING, State.FAILED, made=made.plan())
    assert main(["show", "last", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == RUN
    assert main(["show", "aaaa"]) == 0
    assert RUN in capsys.readouterr().out


def test_the_logs_of_a_rank_that_is_not_there_name_those_that_are(store: Store, capsys: Told) -> None:
    made.run(store, RUN, State.PREPARING, State.RUNNING, State.FAILED)
    assert main(["logs", RUN, "--rank", "3"]) == 64
    assert "the run has ranks 0 to 0" in capsys.readouterr().err


def test_a_run_that_ended_is_neither_cancelled_nor_taken_up(store: Store, capsys: Told) -> None:
    made.run(store, RUN, State.PREPARING, State.FAILED)
    assert main(["cancel", RUN]) == 73
    assert main(["resume", RUN]) == 73
    assert "failed" in capsys.readouterr().err


# Data and clean-up


def test_data_is_registered_and_listed(tmp_path: Path, capsys: Told) -> None:
    (tmp_path / "digits.csv").write_text("1,2\n")
    assert main(["data", "add", "digits", str(tmp_path / "digits.csv")]) == 0
    assert capsys.readouterr().out == "digits@v1\nin train.yml: datasets: {digits: {source: digits@v1}}\n"
    assert main(["data"]) == 0
    name, version, *rest = capsys.readouterr().out.splitlines()[1].split()
    assert (name, version, rest[:3]) == ("digits", "v1", ["4", "B", "1"])


def test_the_line_for_train_yml_works_as_it_is(tmp_path: Path, capsys: Told) -> None:
    from runner import spec

    (tmp_path / "digits.csv").write_text("1,2\n")
    main(["data", "add", "digits", str(tmp_path / "digits.csv")])
    line = capsys.readouterr().out.splitlines()[1].removeprefix("in train.yml: ")
    found = spec.parse("name: x\nrun: cat ${{ datasets.digits }}\n" + line)
    assert found.datasets["digits"].source == "digits@v1"


def test_a_clean_up_says_first_what_it_would_remove(home: Path, store: Store, capsys: Told) -> None:
    made.run(store, RUN, State.PREPARING, State.FAILED)
    scratch = home / "scratch" / RUN
    scratch.mkdir(parents=True)
    (scratch / "left").write_bytes(b"x" * 2048)
    assert main(["gc"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "images are left as they are: Docker is not installed",
        "size   what     name                  unused for",
        f"2 KiB  scratch  {RUN}  0s        ",
        "2 KiB in all",
        "nothing was removed; to remove it: pushtrain gc --yes",
    ]
    assert scratch.exists()


def test_a_clean_up_removes_what_it_said(home: Path, store: Store, capsys: Told) -> None:
    made.run(store, RUN, State.PREPARING, State.FAILED)
    (home / "scratch" / RUN).mkdir(parents=True)
    assert main(["gc", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "removed 1, 0 B"
    assert not (home / "scratch" / RUN).exists()
    assert main(["gc", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "there is nothing to remove"


def test_a_clean_up_of_the_store_removes_what_killed_transfers_left(
    home: Path, store: Store, capsys: Told
) -> None:
    left = home / "store" / ".tmp" / "x.part"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    os.utime(left, (0, 0))
    assert main(["gc"]) == 0
    assert left.exists()
    assert main(["gc", "--yes"]) == 0
    assert not left.exists()
    assert "removed 1 pieces of transfers that were killed" in capsys.readouterr().out


def test_a_starter_file_passes_its_own_check(tmp_path: Path, capsys: Told) -> None:
    (tmp_path / "train.py").write_text("print(1)\n")
    assert main(["init", str(tmp_path)]) == 0
    assert "next: pushtrain plan" in capsys.readouterr().out
    assert main(["check", str(tmp_path)]) == 0


def test_the_schema_is_printed(capsys: Told) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"]


def test_a_run_without_its_secrets_names_them_before_anything_starts(
    home: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PUSHTRAIN_HOME", str(home))
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    folder = files(tmp_path / "repository", made.PLAIN + "secrets: [NO_SUCH_TOKEN]\n")
    assert main(["run", folder]) == 67
    assert "NO_SUCH_TOKEN" in capsys.readouterr().err
    assert runs.ids(open_store(home / "store")) == ()
