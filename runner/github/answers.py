"""Answers of GitHub that were read before -> asked for again by their ETag, which costs nothing of the limit."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from cachecontrol import CacheControlAdapter
from cachecontrol.caches import FileCache
from cachecontrol.controller import CacheController
from cachecontrol.serialize import Serializer
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from datetime import datetime

    from requests import PreparedRequest, Response
    from urllib3 import HTTPResponse

logger = logging.getLogger(__name__)

_KEPT_S = 2 * 86400.0
# Named by its content: it cannot change.
_IMMUTABLE = re.compile(r"/git/(?:tags|commits|trees|blobs)/[0-9a-f]{40}$")


class Adapter(HTTPAdapter):
    """Sends requests and tells of each."""

    def __init__(self, *, on_send: Callable[[], None], **kwargs: Any) -> None:
        self._on_send = on_send
        super().__init__(**kwargs)

    def send(self, *args: Any, **kwargs: Any) -> Response:
        """See HTTPAdapter.send."""
        self._on_send()
        return super().send(*args, **kwargs)


class CachingAdapter(CacheControlAdapter, Adapter):
    """An Adapter that asks only whether an answer is still the one that lies in the cache."""

    def __init__(self, folder: Path, *, on_send: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(
            cache=_Folder(folder),
            controller_class=_AskAlways,
            serializer=_WithoutToken(),
            on_send=on_send,
            **kwargs,
        )


def cache_folder(cache: Path, identity: str) -> Path | None:
    """Returns the folder below `cache` for what one identity may see; None, with a warning, where it cannot be made.

    Folders of others that were not used for two days are removed: a job's token never comes again.
    """
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.touch()
        for other in cache.iterdir():
            if re.fullmatch(r"[0-9a-f]{32}", other.name) and other.stat().st_mtime < time.time() - _KEPT_S:
                shutil.rmtree(other, ignore_errors=True)
    except OSError as error:
        logger.warning("answers of GitHub are not kept: %s", error)
        return None
    return folder


class _Folder(FileCache):
    """Files that may not be writable or there: a cache is never a reason to fail."""

    def get(self, key: str) -> bytes | None:
        with suppress(OSError):
            return super().get(key)
        return None

    def set(self, key: str, value: bytes, expires: int | datetime | None = None) -> None:
        with suppress(OSError):
            super().set(key, value, expires)

    def delete(self, key: str) -> None:
        with suppress(OSError):
            super().delete(key)


class _AskAlways(CacheController):
    """Answers nothing on its own, however fresh: a permission is asked for at that very moment."""

    def cached_request(self, request: PreparedRequest) -> HTTPResponse | Literal[False]:
        if _IMMUTABLE.search(request.url or ""):
            return self._load_from_cache(request) or False
        return False


class _WithoutToken(Serializer):
    """Keeps no Authorization; GitHub's `Vary` names it, and the folder is one identity's already."""

    def dumps(self, request: PreparedRequest, response: HTTPResponse, body: bytes | None = None) -> bytes:
        return super().dumps(_without_token(request), response, body)

    def loads(
        self, request: PreparedRequest, data: bytes, body_file: IO[bytes] | None = None
    ) -> HTTPResponse | None:
        return super().loads(_without_token(request), data, body_file)


def _without_token(request: PreparedRequest) -> PreparedRequest:
    bare = request.copy()
    bare.headers.pop("Authorization", None)
    return bare
