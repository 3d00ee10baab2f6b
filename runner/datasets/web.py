"""A file behind a URL: pinned by what the server says of it, brought by going on where it broke off."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from runner.datasets import CONTENT, VALIDATORS, Dataset, Pin, Progress, Where, changed, shown
from runner.datasets.contents import digest_of
from runner.errors import DatasetError

_TRIES = 5
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
_TIMEOUT_S = 30.0
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_HEAD_REFUSED = frozenset({403, 405, 501})

Sleep = Callable[[float], None]


class _Unfinished(Exception):
    """An attempt that may be made again."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server says of a file."""

    url: str
    etag: str
    modified: str
    size_bytes: int | None

    @property
    def digest(self) -> str:
        """The digest over the URL, ETag, time and length."""
        rows = digest_of([[self.url, self.etag, self.modified, self.size_bytes]])
        return rows.replace("sha256:", VALIDATORS)

    @property
    def validator(self) -> str:
        """What to say for "if it is still this one"; empty where the server gave nothing to say it with."""
        return self.modified if not self.etag or self.etag.startswith("W/") else self.etag


class Web:
    """A file behind `http://` or `https://`."""

    def __init__(self, *, sleep: Sleep = time.sleep) -> None:
        self._sleep = sleep

    def pin(self, source: str) -> Pin:
        """See Backend.pin; one request without a body."""
        answer = self._look(source)
        name = unquote(urlsplit(source).path).rpartition("/")[2] or "download"
        return Pin(source=source, digest=answer.digest, size_bytes=answer.size_bytes, file_name=name)

    def bring(self, dataset: Dataset, folder: Path, *, progress: Progress) -> None:
        """See Backend.bring; goes on from what an earlier fetch left in the folder."""
        answer = self._look(dataset.source)
        if dataset.digest.startswith(CONTENT):
            # What lies there may be of an older file: only validators tell, and these are not pinned.
            shutil.rmtree(folder)
            folder.mkdir()
        elif answer.digest != dataset.digest:
            raise changed(dataset.source, found=answer.digest, pinned=dataset.digest)
        transfer = _Transfer(answer=answer, file=folder / dataset.file_name, progress=progress)
        with _our_words(dataset.source), _client() as client:
            self._retrying(transfer.gave_up)(transfer.go_on, client)

    def _look(self, url: str) -> Answer:
        with _our_words(url), _client() as client:
            return self._retrying(lambda state: state.attempt_number >= _TRIES)(_look, client, url)

    def _retrying(self, stop: Callable[[RetryCallState], bool]) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type((httpx.TransportError, _Unfinished)),
            wait=wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
            stop=stop,
            sleep=self._sleep,
            reraise=True,
        )


def open_backend(_where: Where) -> Web:
    """Return the backend; it needs nothing of this host."""
    return Web()


@dataclass(kw_only=True)
class _Transfer:
    answer: Answer
    file: Path
    progress: Progress
    _told_bytes: int = 0
    _tries: int = 0
    _furthest_bytes: int = field(default=0)

    def gave_up(self, _state: RetryCallState) -> bool:
        """Return whether the last few attempts brought nothing; a link may break as often as it likes."""
        here_bytes = self._here_bytes()
        if here_bytes > self._furthest_bytes:
            self._furthest_bytes, self._tries = here_bytes, 0
        self._tries += 1
        return self._tries >= _TRIES

    def go_on(self, client: httpx.Client) -> None:
        """Bring what is missing; raises _Unfinished or httpx's TransportError where it broke off."""
        here_bytes = self._here_bytes()
        if self.file.exists() and here_bytes == self.answer.size_bytes:
            return
        how = {}
        if here_bytes and self.answer.validator:
            how = {"Range": f"bytes={here_bytes}-", "If-Range": self.answer.validator}
        with client.stream("GET", self.answer.url, headers=how) as response:
            self._check(response)
            self._receive(response, goes_on=response.status_code == httpx.codes.PARTIAL_CONTENT)
        if (self.answer.size_bytes or 0) > self._here_bytes():
            raise _Unfinished("the answer ended early")

    def _check(self, response: httpx.Response) -> None:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.file.unlink()
            raise _Unfinished("the server has less than was brought already")
        _check(response)
        etag = response.headers.get("etag", "")
        if etag and self.answer.etag and etag != self.answer.etag:
            raise changed(self.answer.url, found=f"ETag {etag}", pinned=f"ETag {self.answer.etag}")

    def _receive(self, response: httpx.Response, *, goes_on: bool) -> None:
        with self.file.open("ab" if goes_on else "wb") as file:
            for data in response.iter_raw():
                file.write(data)
                if file.tell() > self._told_bytes:
                    self.progress(file.tell() - self._told_bytes)
                    self._told_bytes = file.tell()

    def _here_bytes(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0


def _look(client: httpx.Client, url: str) -> Answer:
    response = client.head(url)
    if response.status_code in _HEAD_REFUSED:
        # A signed URL is good for GET alone; the body is not read.
        with client.stream("GET", url) as response:
            _check(response)
    _check(response)
    length = response.headers.get("content-length", "")
    return Answer(
        url=url,
        etag=response.headers.get("etag", ""),
        modified=response.headers.get("last-modified", ""),
        size_bytes=int(length) if length.isdigit() else None,
    )


def _check(response: httpx.Response) -> None:
    status, where = response.status_code, shown(str(response.request.url))
    if status in _BUSY:
        raise _Unfinished(f"{where} answers {status} {response.reason_phrase}")
    if status in {404, 410}:
        raise DatasetError(f"there is nothing at {where} ({status})", tip="correct the source in train.yml")
    if status in {401, 403}:
        raise DatasetError(
            f"{where} refuses ({status} {response.reason_phrase})", tip="use a URL that may be read, or s3://"
        )
    if status >= httpx.codes.BAD_REQUEST:
        raise DatasetError(f"{where} answers {status} {response.reason_phrase}")


def _client() -> httpx.Client:
    # As it is stored: a length, a range and a digest are of these bytes, not of compressed ones.
    return httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S, headers={"Accept-Encoding": "identity"})


@contextmanager
def _our_words(url: str) -> Iterator[None]:
    try:
        yield
    except _Unfinished as error:
        raise DatasetError(str(error), tip="try again later") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        host = urlsplit(url).netloc.rpartition("@")[2]
        raise DatasetError(
            f"{shown(url)} cannot be read: {error}", tip=f"see whether {host} answers"
        ) from error
