"""What an agent does about versions and settings that are not its head's, and while they cannot be known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from runner.agent import endpoint, inventory, skew
from runner.agent.__main__ import _compare
from runner.agent.layout import About
from runner.agent.settings import State
from runner.agent.token import metrics_token
from runner.errors import EngineError
from runner.slurm.client import run_folder

MEMBER = About(
    role="member",
    works=True,
    name="gpu1",
    address="127.0.0.1",
    cluster="lab",
    head="gpu0",
    head_address="127.0.0.1",
    store=None,
    registry=None,
    metrics_port=1,
    state="/nonexistent",
    pushtrain="0.1.0",
    slurm="22.05.8",
    host_conf="",
    serves_registry=False,
)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """Of an agent whose folder of this boot is empty but for what its head said last."""
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    (tmp_path / "head-versions").write_text("0.0.1/22.05.8")
    made = State(folder=tmp_path / "state")
    made.key.parent.mkdir(parents=True, exist_ok=True)
    made.key.write_bytes(b"k" * 128)
    return made


def test_while_pip_replaces_pushtrain_its_version_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inventory.own_version()
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(EngineError, match="no Pushtrain is installed at this moment"):
        inventory.own_version()


def test_versions_that_cannot_be_compared_now_are_compared_later(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _compare(MEMBER, state, "")
    assert "while the head has 0.0.1" in told
    with monkeypatch.context() as away:
        away.setattr(sys, "path", [])
        assert _compare(MEMBER, state, told) == told
    state.key.unlink()
    assert _compare(MEMBER, state, told) == told


def test_a_host_whose_head_was_told_another_store_says_so_with_the_cure(state: State) -> None:
    key = metrics_token(state.key.read_bytes())
    (run_folder() / "head-versions").unlink()
    head = replace(MEMBER, role="head", store="s3://bucket/fleet", registry="10.0.0.1:5000")
    (run_folder() / "agent.json").write_bytes(msgspec.json.encode(head))
    served = endpoint._Server("127.0.0.1", 0, token=key, text=bytes)
    answers = endpoint.Endpoint(served)
    try:
        member = replace(MEMBER, metrics_port=answers.port, pushtrain=head.pushtrain)
        said = skew.look(member, token=key)
        assert "another store and registry than the head" in said
        assert "scp root@127.0.0.1:/var/lib/pushtrain/token /nonexistent/token; pushtrain agent start" in said
        assert "bucket" not in skew.settings(head)
        same = replace(member, store=head.store, registry=head.registry)
        assert "than the head" not in skew.look(same, token=key)
        one = replace(member, store=head.store)
        assert skew.other_settings(one).startswith("another registry than the head")
    finally:
        answers.close()
    assert skew.other_settings(head) == ""
