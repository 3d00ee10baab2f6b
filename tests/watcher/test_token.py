"""Who the fleet is on GitHub: a file of its own, readable by nobody else, or what the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.github.identity import App, Token
from runner.watcher import token

KEY = "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----"


def secret(folder: Path, text: str, *, mode: int = 0o600) -> Path:
    path = folder / "secret"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_holds_a_token_and_goes_before_the_environment(tmp_path: Path) -> None:
    file = secret(tmp_path, "ghp_1\n")
    assert token.auth({"GITHUB_TOKEN": "ghp_2"}, file=file, agents=tmp_path / "none") == Token(value="ghp_1")


def test_a_file_holds_the_key_of_an_app_that_the_environment_names(tmp_path: Path) -> None:
    file = secret(tmp_path, f"{KEY}\n")
    environ = {"PUSHTRAIN_APP_ID": "7", "PUSHTRAIN_APP_INSTALLATION": "9"}
    assert token.auth(environ, file=file) == App(id="7", private_key=KEY, installation=9)
    with pytest.raises(UsageError, match="nothing says of which App"):
        token.auth({}, file=file)


def test_without_a_file_the_environment_counts_and_then_the_agents_own(tmp_path: Path) -> None:
    agents = secret(tmp_path, "ghp_agent")
    assert token.auth({"GITHUB_TOKEN": "ghp_2"}, file=None, agents=agents) == Token(value="ghp_2")
    assert token.auth({}, file=None, agents=agents) == Token(value="ghp_agent")
    with pytest.raises(UsageError, match="no token") as caught:
        token.auth({}, file=None, agents=tmp_path / "none")
    assert "--token-file" in caught.value.tip


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [("x", 0o644, "read by others"), ("", 0o600, "is empty"), ("a b", 0o600, "no token")],
)
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        token.auth({}, file=secret(tmp_path, text, mode=mode))
    with pytest.raises(UsageError, match="cannot be read"):
        token.auth({}, file=tmp_path / "none")
