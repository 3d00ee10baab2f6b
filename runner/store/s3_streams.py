"""Growing streams in S3: appended bytes -> segment objects named by their offset, and back.

    .streams/KEY/00000000000000000000     the first bytes
    .streams/KEY/00000000000000000812     the bytes from 812 on

Segments never leave a gap. Many small ones are merged: the whole is put in place of the first, then the
others are deleted. So a reader may find a segment longer than it was listed, or gone; it then lists again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from runner.errors import Conflict, NotFound, StoreError
from runner.store.s3_bucket import Bucket
from runner.store.s3_transfer import fetch, in_order

ROOT = ".streams/"
_SMALL_BYTES = 512 << 10
_MANY = 256
_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Bytes of a stream, from `start` up to `end`."""

    start: int
    end: int


class Streams:
    """The streams of one bucket; remembers what it listed, so that following a stream asks for news only."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._known: dict[str, tuple[Segment, ...]] = {}
        self._lock = threading.Lock()

    def append(self, key: str, data: bytes, *, offset: int) -> None:
        """See Store.append."""
        for _ in range(_TRIES):
            end = self._end(key, expected=offset)
            if offset > end:
                raise Conflict(
                    f"{key} ends at byte {end}, before {offset}", tip="append what lies between first"
                )
            rest = data[end - offset :]
            if not rest or self._put(key, rest, end):
                return
        raise StoreError(f"{key}: somebody else is appending to it", tip="let one process write a stream")

    def pieces(self, key: str, *, offset: int) -> Iterator[bytes]:
        """Yields the bytes from `offset` to the end so far, in order; none where there is no stream."""
        position = offset
        for _ in range(_TRIES):
            try:
                for data in self._news(key, position):
                    position += len(data)
                    yield data
                return
            except NotFound:  # merged meanwhile
                self._forget(key)
        raise StoreError(f"{key}: its segments go away while they are read", tip="try again")

    def exists(self, key: str) -> bool:
        """Returns whether anything was appended."""
        return bool(self._listed(key))

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields the key of every segment whose key starts with `prefix`: each key at least once."""
        for entry in self._bucket.entries(ROOT + prefix):
            yield entry.name.removeprefix(ROOT).rpartition("/")[0]

    def delete(self, key: str) -> None:
        """Removes a stream; safe to repeat."""
        self._forget(key)
        if segments := self._listed(key):
            self._bucket.delete([_name(key, segment.start) for segment in segments])
        self._forget(key)

    def _put(self, key: str, data: bytes, start: int) -> bool:
        """Puts a segment; says no where somebody else, or an attempt that seemed lost, has put one."""
        try:
            with self._bucket.calling(f"appending to {key}"):
                self._bucket.client.put_object(
                    **self._bucket.at(_name(key, start)), Body=data, IfNoneMatch="*"
                )
        except Conflict:
            self._forget(key)
            return False
        known = self._known.get(key, ())
        self._remember(key, (*known, Segment(start=start, end=start + len(data))))
        self._merge(key)
        return True

    def _end(self, key: str, *, expected: int) -> int:
        """Returns where the stream ends; asks S3 unless it is known to be as expected."""
        known = self._known.get(key)
        if known and known[-1].end == expected:
            return expected
        self._forget(key)
        return max((segment.end for segment in self._listed(key)), default=0)

    def _listed(self, key: str) -> tuple[Segment, ...]:
        """Returns the segments by their start: those known, and what came after them.

        The last one known is listed again: if it is gone, it was merged, and what is known is of no use.
        """
        known = self._known.get(key, ())
        news = self._entries(key, known[-1].start if known else 0)
        if known and (not news or news[0].start != known[-1].start):
            known, news = (), self._entries(key, 0)
        return self._remember(key, (*known[:-1], *news))

    def _entries(self, key: str, start: int) -> list[Segment]:
        after = _name(key, start - 1) if start else ""
        found = self._bucket.entries(f"{ROOT}{key}/", after=after)
        starts = ((int(entry.name.rpartition("/")[2]), entry.size_bytes) for entry in found)
        return [Segment(start=begin, end=begin + size_bytes) for begin, size_bytes in starts]

    def _news(self, key: str, offset: int) -> Iterator[bytes]:
        """Yields the bytes from `offset` on, piece by piece; raises NotFound where a segment went away."""

        def get(segment: Segment) -> tuple[int, bytes]:
            start = max(segment.start, offset)
            return start, fetch(self._bucket, _name(key, segment.start), start=start - segment.start)

        position = offset
        for start, data in in_order(get, [segment for segment in self._listed(key) if segment.end > offset]):
            if start > position:
                raise NotFound(f"{key}: bytes {position} to {start} are not in {self._bucket.uri}")
            news = data[position - start :]
            position += len(news)
            yield news

    def _merge(self, key: str) -> None:
        """Makes one segment of many small ones at the end; gives up where somebody else is at it."""
        small = _small_tail(self._known[key])
        if len(small) < _MANY:
            return
        start = small[0].start
        place = self._bucket.at(_name(key, start))
        with suppress(NotFound, Conflict), self._bucket.calling(f"merging {key}"):
            etag = self._bucket.client.head_object(**place)["ETag"]
            data = b"".join(self._news(key, start))
            self._bucket.client.put_object(**place, Body=data, IfMatch=etag)
            merged = [part for part in self._known[key] if start < part.start < start + len(data)]
            self._bucket.delete([_name(key, part.start) for part in merged])
        self._forget(key)

    def _remember(self, key: str, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        with self._lock:
            self._known[key] = segments
        return segments

    def _forget(self, key: str) -> None:
        with self._lock:
            self._known.pop(key, None)


def _small_tail(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    for index in range(len(segments), 0, -1):
        if segments[index - 1].end - segments[index - 1].start >= _SMALL_BYTES:
            return segments[index:]
    return segments


def _name(key: str, start: int) -> str:
    return f"{ROOT}{key}/{start:020d}"
