"""A refusal or a cut line -> another try after the pause that GitHub asks for, within the patience of the call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self, cast

from github.GithubRetry import GithubRetry
from urllib3 import BaseHTTPResponse

from runner.github.patience import Patience, back_off_s

if TYPE_CHECKING:
    from types import TracebackType

    from urllib3.connectionpool import ConnectionPool

logger = logging.getLogger(__name__)

# What may always be sent twice; of the rest, who sends it knows whether.
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_LIMITED = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
_SECONDARY_WAIT_S = 60.0
_CAUSES = 8


class PatientRetry(GithubRetry):
    """GithubRetry that pauses by a Patience, knows 429, and sends a POST or PATCH again only where nothing was done.

    How long to wait: https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
    """

    def __init__(self, *, patience: Patience, on_again: Callable[[], None], **kwargs: Any) -> None:
        self._patience = patience
        self._on_again = on_again
        # No count limits it but the patience. Only what is neither the line nor an answer (a certificate) is final.
        kwargs = {"total": None, "other": 0, "allowed_methods": REPEATABLE, **kwargs}
        super().__init__(**kwargs)

    def new(self, **kw: Any) -> Self:
        """Returns a copy with other counts; urllib3 asks for one for each try."""
        return super().new(**kw, patience=self._patience, on_again=self._on_again)

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Returns whether to try again; a 403 is looked at by `increment`, which raises where it is no limit."""
        return status_code in _LIMITED or super().is_retry(method, status_code, has_retry_after)

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        """Returns what is left of the retries after a failure; raises it where there is no use in trying again."""
        is_403 = response is not None and response.status == HTTPStatus.FORBIDDEN
        step = super().increment if is_403 else super(GithubRetry, self).increment
        return cast(Self, step(method, url, response, error, _pool, _stacktrace))  # type: ignore[arg-type]

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Pauses before the next try; raises OutOfPatience where that would end too late."""
        wait_s, reason = self._wait_s(response), self._reason(response)
        if response is not None and response.status in _LIMITED:
            self._patience.keep_away(wait_s, reason)
        self._patience.allow(wait_s, reason)
        logger.info("GitHub: %s; trying again in %.0f s", reason, wait_s)
        self._patience.pause(wait_s, reason)
        self._on_again()

    def _wait_s(self, response: BaseHTTPResponse | None) -> float:
        if response is None:
            return back_off_s(len(self.history))
        asked_s = self.get_retry_after(response)
        if asked_s is not None:
            return asked_s
        if response.status not in _LIMITED:
            return back_off_s(len(self.history))
        reset = response.headers.get("X-RateLimit-Reset", "")
        if response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdigit():
            # A second more: it is not said when in that second the limit is lifted.
            return max(int(reset) - self._patience.clock.time(), 0.0) + 1
        return _SECONDARY_WAIT_S * 2.0 ** min(len(self.history) - 1, 5)

    def _reason(self, response: BaseHTTPResponse | None) -> str:
        if response is None:
            return f"it cannot be reached{cause_of(self.history[-1].error)}"
        if response.status in _LIMITED:
            return f"its limit of requests is reached ({response.status})"
        return f"it answers {response.status} {response.reason or ''}".rstrip()


def cause_of(error: BaseException | None) -> str:
    """Returns what the system says of a failed connection, in brackets, such as " (Connection refused)"; or nothing."""
    seen = 0
    while error is not None and seen < _CAUSES:
        if isinstance(error, OSError) and error.strerror:
            return f" ({error.strerror})"
        inner = [each for each in error.args if isinstance(each, BaseException)]
        error = (
            error.__cause__ or error.__context__ or (inner[0] if inner else getattr(error, "reason", None))
        )
        seen += 1
    return ""
