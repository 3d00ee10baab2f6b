"""What is said to somebody who does not listen for a while: nothing waits for it, and nothing that counts is lost."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from typing import IO

import pytest

from runner.host import outbox
from runner.host.outbox import Outbox
from tests.engines.project import wait_for

LONG = "x" * 100_000  # More than a pipe holds.


@pytest.fixture
def pipe() -> Iterator[tuple[Outbox, IO[str]]]:
    read, write = os.pipe()
    with os.fdopen(read) as reader:
        yield Outbox(os.fdopen(write, "w")), reader


def test_messages_arrive_in_their_order_when_somebody_reads_again(pipe: tuple[Outbox, IO[str]]) -> None:
    box, reader = pipe
    for number in range(50):
        box.put({"number": number, "text": LONG})
    assert [json.loads(reader.readline())["number"] for _ in range(50)] == [*range(50)]
    assert box.close(timeout_s=10)
    assert reader.read() == ""


def test_beats_are_left_out_while_much_waits(pipe: tuple[Outbox, IO[str]]) -> None:
    box, reader = pipe
    for _ in range(30):
        box.put({"event": "started", "text": LONG})
    box.put_if_swift({"event": "beat"})
    kinds = [json.loads(reader.readline())["event"] for _ in range(30)]
    box.close(timeout_s=10)
    assert kinds == ["started"] * 30
    assert reader.read() == ""


def test_what_comes_in_any_amount_waits_for_room_and_no_longer_than_the_line_lasts(
    pipe: tuple[Outbox, IO[str]],
) -> None:
    box, _ = pipe
    while box._waiting_bytes < outbox.MOST_BYTES:
        box.put({"text": LONG})
    said = threading.Event()

    def say() -> None:
        box.put_when_room({"text": "more"})
        said.set()

    thread = threading.Thread(target=say)
    thread.start()
    assert not said.wait(0.2)
    box.abort()
    thread.join(10)
    assert said.is_set()


def test_a_reader_that_is_gone_is_no_fault(pipe: tuple[Outbox, IO[str]]) -> None:
    box, reader = pipe
    reader.close()
    box.put({"text": LONG})
    wait_for(lambda: box._broken, what="a line that is known to be broken")
    box.put({"text": LONG})
    assert box.close(timeout_s=10)
