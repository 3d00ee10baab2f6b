from __future__ import annotations

import base64
from pathlib import Path

import pytest

from runner.agent import token
from runner.agent.token import Token
from runner.errors import Refused, UsageError
from runner.slurm.conf import Cluster, Power

KEY = bytes(range(128))
POWER = Power(resume_program="/r", suspend_program="/s", suspend_time_s=60, resume_timeout_s=300)
OURS = Token(
    cluster=Cluster(name="yard", head="gpu1", address="10.0.0.1", power=POWER),
    key=base64.b64encode(KEY).decode(),
    store="s3://bucket/runs",
    registry=None,
    slurm="22.05.8",
    pushtrain="0.1.0",
)


def test_a_token_comes_back_from_its_file_which_its_owner_alone_can_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token.write(path, OURS)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text().splitlines()) == 1
    assert token.read(path) == OURS
    assert token.read(path).key_bytes == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o620])
def test_a_token_that_others_can_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    token.write(path, OURS)
    path.chmod(mode)
    with pytest.raises(Refused, match="others on this machine") as raised:
        token.read(path)
    assert f"chmod 600 {path}" in raised.value.tip


def test_a_token_that_was_cut_is_refused_without_being_shown() -> None:
    line = token.encode(OURS)
    for cut in range(len(token.PREFIX), len(line) - 1):
        with pytest.raises(UsageError, match="damaged") as raised:
            token.decode(line[:cut], named="f")
        assert line[20:40] not in str(raised.value) + raised.value.tip


def test_what_is_no_token_is_named() -> None:
    with pytest.raises(UsageError, match="mine holds no token"):
        token.decode("hello", named="mine")


def test_a_token_of_a_later_pushtrain_asks_for_that() -> None:
    with pytest.raises(UsageError, match="pushtrain2") as raised:
        token.decode(token.encode(OURS).replace("pushtrain1", "pushtrain2"), named="f")
    assert "scripts/venv" in raised.value.tip


def test_a_folder_in_the_place_of_a_token_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder: expected the file"):
        token.read(tmp_path)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match="No such file"):
        token.read(Path("/nonexistent/token"))


def test_a_token_never_shows_its_key() -> None:
    assert OURS.key not in repr(OURS)
    assert OURS.key not in f"{OURS} {[OURS]}"


def test_metrics_have_a_token_of_their_own() -> None:
    assert token.metrics_token(KEY) != token.metrics_token(KEY[::-1])
    assert len(token.metrics_token(KEY)) == 64


def test_the_registry_has_a_password_of_its_own() -> None:
    assert token.registry_password(KEY) != token.registry_password(KEY[::-1])
    assert token.registry_password(KEY) != token.metrics_token(KEY)
    assert len(token.registry_password(KEY)) == 64
