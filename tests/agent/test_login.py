from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import bcrypt
import docker.auth
import pytest

from runner.agent import login
from runner.agent.token import registry_password

KEY = bytes(range(128))
HERE = "10.0.0.1:5000"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an agent; root's own folder of Docker is `home/.docker` beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("PUSHTRAIN_RUN", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return folder


def own(run: Path, **told: object) -> Path:
    folder = run.parent / "home" / ".docker"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def logins(run: Path) -> docker.auth.AuthConfig:
    return docker.auth.load_config(str(run / "docker" / "config.json"))


def test_the_registry_checks_the_password_that_hosts_show(run: Path) -> None:
    file = run / "htpasswd"
    login.write_htpasswd(file, KEY)
    user, _, kept = file.read_text().strip().partition(":")
    assert bcrypt.checkpw(registry_password(KEY).encode(), kept.encode())
    assert not bcrypt.checkpw(registry_password(KEY[::-1]).encode(), kept.encode())
    assert file.stat().st_mode & 0o777 == 0o600
    login.write(run, registry=HERE, key=KEY)
    found = logins(run).resolve_authconfig(HERE)
    assert (found["username"], found["password"]) == (user, registry_password(KEY))


def test_only_its_owner_can_read_the_login_whatever_was_there(run: Path) -> None:
    (run / "docker").mkdir(mode=0o755)
    (run / "docker" / "config.json").write_text("{}")
    login.write(run, registry=HERE, key=KEY)
    assert (run / "docker").stat().st_mode & 0o777 == 0o700
    assert (run / "docker" / "config.json").stat().st_mode & 0o777 == 0o600


def test_the_users_own_logins_settings_and_plugins_are_there_as_well(run: Path) -> None:
    auth = base64.b64encode(b"me:mine").decode()
    folder = own(run, auths={"ghcr.io": {"auth": auth}}, proxies={"default": {"httpProxy": "http://p:1"}})
    (folder / "cli-plugins").mkdir()
    login.write(run, registry=HERE, key=KEY)
    assert logins(run).resolve_authconfig("ghcr.io")["password"] == "mine"
    told = json.loads((run / "docker" / "config.json").read_text())
    assert told["proxies"] == {"default": {"httpProxy": "http://p:1"}}
    assert (run / "docker" / "cli-plugins").resolve() == folder / "cli-plugins"
    assert HERE not in (folder / "config.json").read_text()


def test_a_helper_that_keeps_the_users_passwords_is_not_asked_for_the_fleets() -> None:
    had = {"credsStore": "desktop", "credHelpers": {HERE: "old", "gcr.io": "gcloud"}}
    told = login.merged(had, registry=HERE, auth="x")
    assert told["credsStore"] == "desktop"
    assert told["credHelpers"] == {HERE: "", "gcr.io": "gcloud"}
    assert "credHelpers" not in login.merged({"credHelpers": {HERE: "old"}}, registry=HERE, auth="x")
    assert login.merged({"auths": None}, registry=HERE, auth="x")["auths"] == {HERE: {"auth": "x"}}


def test_a_login_of_later_is_taken_over(run: Path) -> None:
    login.refresh(run, registry=HERE, key=KEY)
    assert not (run / "docker").exists()
    login.write(run, registry=HERE, key=KEY)
    before = (run / "docker" / "config.json").stat()
    login.refresh(run, registry=HERE, key=KEY)
    folder = own(run, auths={"ghcr.io": {"auth": base64.b64encode(b"me:mine").decode()}})
    later_ns = before.st_mtime_ns + 1
    os.utime(folder / "config.json", ns=(later_ns, later_ns))
    login.refresh(run, registry=HERE, key=KEY)
    assert logins(run).resolve_authconfig("ghcr.io")["password"] == "mine"
    assert logins(run).resolve_authconfig(HERE)["password"] == registry_password(KEY)


def test_a_configuration_that_is_damaged_is_told_and_the_login_is_there(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = own(run)
    (folder / "config.json").write_text("{")
    login.write(run, registry=HERE, key=KEY)
    assert str(folder / "config.json") in caplog.text
    assert logins(run).resolve_authconfig(HERE)["username"] == "pushtrain"


def test_the_login_is_forgotten_and_what_it_pointed_to_stays(run: Path) -> None:
    folder = own(run)
    (folder / "contexts").mkdir()
    login.write(run, registry=HERE, key=KEY)
    login.forget(run)
    login.forget(run)
    assert not (run / "docker").exists()
    assert (folder / "contexts").is_dir()
