"""What an agent does again and again goes on after an error that nobody expected, and the error is told."""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path

import pytest

from runner.agent import lasting


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))


def test_what_fails_for_a_full_disk_is_begun_again_and_told(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with caplog.at_level(logging.ERROR):
        lasting.go_on("hosts that come and go", work, ended=lambda: False, pause_s=0.0)
    assert begun == [0, 1, 2]
    assert caplog.text.count("hosts that come and go: failed, and is begun again") == 2
    [told] = lasting.lately()
    assert told.name == "hosts that come and go"
    assert told.why == "OSError: [Errno 28] No space left on device"


def test_what_failed_long_ago_is_told_no_more(tmp_path: Path) -> None:
    (tmp_path / "failed-runs that wait").write_text("MemoryError: ")
    assert [each.why for each in lasting.lately()] == ["MemoryError: "]
    os.utime(tmp_path / "failed-runs that wait", (0, 0))
    assert lasting.lately() == ()


def test_nothing_is_begun_again_once_the_agent_ends() -> None:
    ending = threading.Event()

    def work() -> None:
        ending.set()
        raise RuntimeError("can't start new thread")

    lasting.go_on("the caches of this host", work, ended=ending.is_set, pause_s=0.0)
    assert ending.is_set()
