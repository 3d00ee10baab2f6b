"""What a rank prints is in its log without secrets, in whole lines, each byte once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StoreError
from runner.host.output import LINE_LIMIT_BYTES, PARTIAL_LINE_S, Mask, OutputStream
from runner.store import Store
from tests.flow.stores import FailingStore

KEY = "runs/r/logs/attempt-1/rank-0.log"
SECRET = "s3cr3t-token"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n"


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stream(store: Store, clock: Clock, *secrets: str, offset: int = 0) -> OutputStream:
    return OutputStream(store, KEY, Mask(secrets), offset=offset, clock=clock)


def log(store: Store) -> bytes:
    return store.tail(KEY, offset=0)


def test_lines_are_appended_as_they_come(store: Store, clock: Clock) -> None:
    output = stream(store, clock)
    for text in (b"a\nb", b"c\n"):
        output.feed(text)
        output.flush()
    assert log(store) == b"a\nbc\n"


def test_a_line_without_an_end_waits_for_it_but_not_for_long(store: Store, clock: Clock) -> None:
    output = stream(store, clock)
    output.feed(b"loss: ")
    output.flush()
    assert log(store) == b""
    clock.now_s += PARTIAL_LINE_S + 0.1
    output.flush()
    assert log(store) == b"loss: "
    output.feed(b"0.5\n")
    output.flush()
    assert log(store) == b"loss: 0.5\n"


def test_the_first_whole_line_is_announced_once_it_can_be_flushed(store: Store, clock: Clock) -> None:
    flushed: list[bytes] = []

    def flush() -> None:
        output.flush()
        flushed.append(log(store))

    output = OutputStream(store, KEY, Mask(()), on_first=flush, clock=clock)
    for text in (b"read", b"y\n", b"step 1\n"):
        output.feed(text)
    assert flushed == [b"ready\n"]


def test_a_progress_bar_that_only_returns_its_carriage_is_shown_at_once(store: Store, clock: Clock) -> None:
    output = stream(store, clock)
    output.feed(b"10%\r20%\r")
    output.flush()
    assert log(store) == b"10%\r20%\r"


def test_the_last_line_needs_no_end(store: Store, clock: Clock) -> None:
    output = stream(store, clock)
    output.feed(b"killed while writ")
    output.flush(last=True)
    assert log(store) == b"killed while writ"
    assert list(output.last_lines) == ["killed while writ"]


def test_a_line_that_never_ends_is_not_kept_in_memory(store: Store, clock: Clock) -> None:
    output = stream(store, clock)
    output.feed(b"x" * (LINE_LIMIT_BYTES + 1))
    output.flush()
    assert len(log(store)) == LINE_LIMIT_BYTES + 1


def test_the_last_lines_are_at_hand_for_the_report(store: Store, clock: Clock) -> None:
    output = stream(store, clock, SECRET)
    output.feed(b"".join(f"{number} {SECRET}\n".encode() for number in range(50)))
    assert list(output.last_lines)[-1] == "49 ***"
    assert len(output.last_lines) == 30


def test_silence_is_counted_from_the_last_output(store: Store, clock: Clock) -> None:
    output = stream(store, clock)
    clock.now_s += 5
    output.feed(b"x")
    clock.now_s += 5
    output.flush(last=True)
    assert clock() - output.last_output_s == 5


def test_a_stream_goes_on_where_an_earlier_one_stopped(store: Store, clock: Clock) -> None:
    store.append(KEY, b"before\n", offset=0)
    output = stream(store, clock, offset=7)
    output.feed(b"after\n")
    output.flush()
    assert log(store) == b"before\nafter\n"


@pytest.mark.parametrize("fails", ["before", "half-way", "answer lost"])
def test_each_byte_is_stored_once_when_the_store_does_not_answer(
    tmp_path: Path, clock: Clock, fails: Literal["before", "half-way", "answer lost"]
) -> None:
    store = FailingStore(tmp_path)
    output = stream(store, clock)
    output.feed(b"first\n")
    output.flush()
    store.fails = fails
    output.feed(b"second\n")
    with pytest.raises(StoreError):
        output.flush()
    output.feed(b"third\n")
    output.flush()
    assert log(store) == b"first\nsecond\nthird\n"


# Secrets


def test_a_secret_is_replaced_wherever_it_stands(store: Store, clock: Clock) -> None:
    output = stream(store, clock, SECRET)
    output.feed(f"Authorization: Bearer {SECRET}; {SECRET}\n".encode())
    output.flush()
    assert log(store) == b"Authorization: Bearer ***; ***\n"


@pytest.mark.parametrize("at", range(1, len(SECRET)))
def test_a_secret_that_comes_in_two_chunks_is_replaced(store: Store, clock: Clock, at: int) -> None:
    output = stream(store, clock, SECRET)
    for chunk in (SECRET[:at], SECRET[at:] + "\n"):
        output.feed(chunk.encode())
        output.flush()
    assert log(store) == b"***\n"


@pytest.mark.parametrize("at", range(1, len(SECRET)))
def test_a_secret_that_is_written_slowly_is_replaced(store: Store, clock: Clock, at: int) -> None:
    """The line is shown before it ends; what may be the beginning of a secret is not."""
    output = stream(store, clock, SECRET)
    output.feed(f"token {SECRET[:at]}".encode())
    clock.now_s += PARTIAL_LINE_S + 0.1
    output.flush()
    assert log(store) == b"token "
    output.feed(f"{SECRET[at:]}\n".encode())
    output.flush()
    assert log(store) == b"token ***\n"


def test_a_secret_at_the_limit_of_a_long_line_is_replaced(store: Store, clock: Clock) -> None:
    output = stream(store, clock, SECRET)
    output.feed(b"x" * (LINE_LIMIT_BYTES - 3) + SECRET[:6].encode())
    output.flush()
    output.feed(SECRET[6:].encode() + b"\n")
    output.flush()
    assert log(store) == b"x" * (LINE_LIMIT_BYTES - 3) + b"***\n"


def test_what_only_began_like_a_secret_is_shown_in_the_end(store: Store, clock: Clock) -> None:
    output = stream(store, clock, SECRET)
    output.feed(SECRET[:4].encode())
    output.flush(last=True)
    assert log(store) == SECRET[:4].encode()


def test_every_line_of_a_secret_of_several_lines_is_replaced() -> None:
    masked = Mask([PEM])
    assert masked(PEM.encode()) == b"***"
    assert masked(b"key: MIIEvQIBADANBgkq!") == b"key: ***!"


def test_a_longer_secret_goes_before_one_that_it_contains() -> None:
    assert Mask(["abc", "abcdef"])(b"abcdef abc") == b"*** ***"


def test_what_is_too_short_to_be_secret_is_not_replaced() -> None:
    assert Mask(["", "1", "ab"])(b"1 ab") == b"1 ab"
    assert Mask([])(b"1 ab") == b"1 ab"


def test_a_secret_is_text_and_not_a_pattern() -> None:
    assert Mask(["a.c+"])(b"abc a.c+") == b"abc ***"
    assert Mask(["pässwörd"])("pässwörd".encode()) == b"***"


@given(
    st.lists(st.sampled_from([SECRET[:5], SECRET[5:], SECRET, "\n", "x", "-----BEGIN", " KEY-----", "MII"]))
)
def test_no_secret_is_ever_in_the_log_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[str]
) -> None:
    from runner.store import open_store

    store = open_store(tmp_path_factory.mktemp("store"))
    clock = Clock()
    output = stream(store, clock, SECRET, PEM)
    for chunk in chunks:
        output.feed(chunk.encode())
        clock.now_s += PARTIAL_LINE_S + 0.1
        output.flush()
    output.flush(last=True)
    text = log(store)
    assert SECRET.encode() not in text
    assert b"-----BEGIN KEY-----" not in text
