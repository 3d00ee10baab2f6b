"""A key of the store -> whose turn it is there: one process of all machines, until it is done or its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from runner import decoding
from runner.errors import Conflict, Corrupt, NotFound

if TYPE_CHECKING:
    from runner.store import Store, Versioned

Standing = Literal["ours", "theirs", "done"]


class _Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`by` is who has the turn, until `until_s`, at the `tries`th attempt."""

    by: str
    until_s: float
    tries: int = 1
    done: bool = False


class Lease:
    """The turn at `key` as `by` sees it, `lasts_s` long from its last `take`. Clocks of machines may differ by less.

    `is_gone` is asked of another who has it: whether he is known to be no more.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        by: str,
        lasts_s: float,
        now_s: Callable[[], float] = time.time,
        is_gone: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._store, self._key, self._by, self._lasts_s, self._now_s = store, key, by, lasts_s, now_s
        self._is_gone = is_gone
        self._first, self._taken_s = True, 0.0
        self.inherited = False
        """Whether somebody had the turn before this process."""

    def take(self) -> Standing:
        """Take the turn, or prolong it: "ours" if it is ours now, else "theirs", or "done" for ever.

        Of several at once one has it. One whose time is over or whose owner is gone is taken over, and one that was
        ours before this process.
        """
        there, self._taken_s = self._read(), self._now_s()
        if self._first:
            self._first, self.inherited = False, there is not None
        if there is None:
            return "ours" if self._put(self._turn(), None) else "theirs"
        turn = _decoded(there.data, self._key)
        if turn.done:
            return "done"
        left_s = turn.until_s - self._now_s()
        if turn.by != self._by and left_s > 0 and not self._is_gone(turn.by):
            return "theirs"
        if turn.by == self._by and left_s > self._lasts_s / 2:
            return "ours"
        return "ours" if self._put(self._turn(turn.tries), there.version) else "theirs"

    def stay(self) -> None:
        """Prolong a turn that is ours while there is nothing to do. To be called often: it seldom asks the store."""
        if self._now_s() - self._taken_s >= self._lasts_s / 4:
            self.take()

    def failed(self) -> int:
        """Count a try of ours that came to nothing, and give the turn back; returns how many there were."""
        there = self._read()
        turn = _decoded(there.data, self._key) if there is not None else self._turn()
        given = msgspec.structs.replace(turn, by="", until_s=0.0, tries=turn.tries + 1)
        self._put(given, there.version if there is not None else None)
        return turn.tries

    def finish(self) -> None:
        """Nobody has a turn here again. Safe to repeat."""
        turn = msgspec.structs.replace(self._turn(), done=True)
        self._store.write(self._key, msgspec.json.encode(turn))

    def give_back(self) -> None:
        """Let others take it at once. Safe to repeat; does nothing where it is theirs."""
        there = self._read()
        if there is not None and _decoded(there.data, self._key).by == self._by:
            self._store.delete(self._key)

    def _turn(self, tries: int = 1) -> _Turn:
        return _Turn(by=self._by, until_s=self._now_s() + self._lasts_s, tries=tries)

    def _read(self) -> Versioned | None:
        try:
            return self._store.read_versioned(self._key)
        except NotFound:
            return None

    def _put(self, turn: _Turn, version: str | None) -> bool:
        data = msgspec.json.encode(turn)
        try:
            if version is None:
                self._store.create(self._key, data)
            else:
                self._store.replace(self._key, data, version=version)
        except (Conflict, NotFound):
            return False
        return True


def _decoded(data: bytes, key: str) -> _Turn:
    try:
        return decoding.from_json(data, _Turn)
    except msgspec.DecodeError as error:
        raise Corrupt(f"{key} cannot be read: {error}", tip="was it written by a newer pushtrain?") from error
