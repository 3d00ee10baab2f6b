from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import yaml

from runner.agent import begin, daemons, inventory, layout, unit, wishes
from runner.agent.settings import Settings, State
from runner.errors import Refused, UsageError
from tests.agent.test_token import OURS as TOKEN

OURS = Settings(
    role="member", works=True, name="gpu2", address="10.0.0.2", home="/srv/100% home", labels={"pool": "lab"}
)


def test_a_host_remembers_what_it_was_told(tmp_path: Path) -> None:
    state = State(folder=tmp_path / "state")
    state.make()
    state.save(OURS)
    assert state.load() == OURS
    assert state.folder.stat().st_mode & 0o777 == 0o700


def test_a_machine_that_was_in_no_fleet_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in no fleet yet") as raised:
        State(folder=tmp_path).load()
    assert "--head" in raised.value.tip


def test_damaged_settings_are_told(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"role": "king"}')
    with pytest.raises(UsageError, match="damaged"):
        State(folder=tmp_path).load()


def test_after_leaving_nothing_is_remembered(tmp_path: Path) -> None:
    state = State(folder=tmp_path)
    state.save(OURS)
    state.key.write_bytes(b"k")
    state.forget()
    state.forget()
    assert list(tmp_path.iterdir()) == []


def test_a_hook_runs_with_the_settings_of_the_agent_and_no_secret(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "PUSHTRAIN_HOME": "/srv/it's",
        "PUSHTRAIN_TOKEN": "s3cret",
        "PUSHTRAIN_APP_PRIVATE_KEY": "s3cret",
        "DOCKER_AUTH_CONFIG": "s3cret",
        "EDITOR": "vi",
        "MINE": "a b",
        "PUSHTRAIN_PASS": "MINE",
    }
    program = tmp_path / "hook"
    program.write_text(
        layout.hook("-c 'import os, sys; print(dict(os.environ), sys.argv[1:])'", environ=environ)
    )
    said = subprocess.run(
        ["sh", str(program), "h1"], capture_output=True, text=True, check=True, env={}
    ).stdout
    assert "/srv/it's" in said
    assert "'MINE': 'a b'" in said
    assert "['h1']" in said
    assert "EDITOR" not in said
    assert "s3cret" not in program.read_text()


def test_what_hooks_hold_is_for_root_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PUSHTRAIN_PASS may name the key with which a provider starts machines; any umask may be that of the agent."""
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path / "run"))
    settings = replace(OURS, home=str(tmp_path / "home"))
    before = os.umask(0)
    try:
        layout.write(settings, TOKEN, inventory.look(tmp_path), state=tmp_path)
    finally:
        os.umask(before)
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir() if path.is_file()
    }
    assert {modes[name] for name in ("epilog", "health", "resume", "suspend")} == {0o700}
    assert not any(modes[name] & 0o022 for name in ("slurm.conf", "gres.conf", "agent.json"))


def test_the_unit_starts_the_agent_and_leaves_runs_alone_at_its_end() -> None:
    text = unit.text(State(folder=Path("/var/lib/pushtrain")), settings=OURS)
    assert (
        f'ExecStart="{sys.executable}" -m runner.cli agent start --foreground --state "/var/lib/pushtrain"'
        in text
    )
    assert 'Environment="PUSHTRAIN_HOME=/srv/100%% home"' in text
    assert "KillMode=process" in text


def test_where_systemd_does_not_run_no_unit_is_written(tmp_path: Path) -> None:
    path, runs = tmp_path / "pushtrain-agent.service", tmp_path / "system"
    with pytest.raises(UsageError, match="systemd does not run here") as raised:
        unit.write("[Unit]\n", path=path, runs=runs)
    assert "pushtrain agent start" in raised.value.tip
    assert not path.exists()
    runs.mkdir()
    assert unit.write("[Unit]\n", path=path, runs=runs).read_text() == "[Unit]\n"


def test_the_registry_listens_to_the_fleet_alone() -> None:
    text = daemons.registry_conf(
        folder=Path("/srv/registry"), address="10.0.0.1", port=5000, htpasswd=Path("/srv/htpasswd")
    )
    told = yaml.safe_load(text)
    assert told["http"]["addr"] == "10.0.0.1:5000"
    assert told["auth"] == {"htpasswd": {"realm": "pushtrain", "path": "/srv/htpasswd"}}


@pytest.mark.parametrize("role", ["member", "client"])
def test_a_host_of_a_fleet_does_not_become_the_head_of_another_by_the_way(
    tmp_path: Path, role: Literal["member", "client"]
) -> None:
    state = State(folder=tmp_path)
    state.save(replace(OURS, role=role))
    state.key.write_bytes(b"of its fleet")
    wish = wishes.HeadWish(home=str(tmp_path))
    with pytest.raises(Refused, match=f"a {role} of a fleet already, as gpu2") as raised:
        begin.head(wish, state)
    assert "pushtrain agent leave" in raised.value.tip
    assert state.key.read_bytes() == b"of its fleet"


def test_the_head_of_a_fleet_does_not_join_another_by_the_way(tmp_path: Path) -> None:
    state = State(folder=tmp_path)
    state.save(replace(OURS, role="head"))
    state.key.write_bytes(b"of its fleet")
    wish = wishes.Wish(home=str(tmp_path))
    with pytest.raises(Refused, match="the head of a fleet, as gpu2") as raised:
        begin.member(wish, state, head="gpu1", given=tmp_path / "token", client=False, tell=print)
    assert f"rm {tmp_path}/settings.json" in raised.value.tip
    assert state.key.read_bytes() == b"of its fleet"


def test_a_label_has_one_value(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "agent", "start", "--head", "--state", str(tmp_path / "state"),
         "--label", "pool=a", "--label", "pool=b"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 64, done.stderr
    assert "--label pool=a --label pool=b: a host has one value of a label" in done.stderr


def test_an_agent_that_ended_says_why_first_and_what_to_type() -> None:
    said = begin._ended(
        "2026-01-01 10:00:00,000 INFO munged is started: process 7\n"
        "2026-01-01 10:00:01,000 ERROR there is a host h0 already; tip: give this one another name"
    )
    assert (str(said), said.tip) == ("there is a host h0 already", "give this one another name")
    assert "Killed" in str(begin._ended("Killed"))
