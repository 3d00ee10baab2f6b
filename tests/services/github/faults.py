"""What goes wrong with GitHub, and for which requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.services.github.routing import DOCS, Problem

Outage = Literal["reset", "503"]
_LIMITS = f"{DOCS}/overview/rate-limits-for-the-rest-api"


@dataclass(kw_only=True)
class Fault:
    """One kind of failure, for `times` requests that match (None: for all of them)."""

    status: int | None = None
    times: int | None = 1
    method: str = ""
    path: str = ""
    retry_after_s: int | None = None
    delay_s: float = 0.0
    until: threading.Event | None = None
    reset: bool = False
    cut_upload_after_bytes: int | None = None
    after: bool = False
    errors: tuple[Mapping[str, object], ...] = ()
    hits: int = field(default=0)

    def matches(self, method: str, path: str) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        return (not self.method or self.method == method) and re.search(self.path, path) is not None

    def problem(self) -> Problem | None:
        """The answer in place of the true one."""
        if self.status is None:
            return None
        if self.status in (403, 429):
            return secondary_limit(self.status, self.retry_after_s)
        if self.status == 401:
            return Problem(401, "Bad credentials")
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return Problem(self.status, _WORDS.get(self.status, "Server Error"), headers=headers)


_WORDS = {
    404: "Not Found",
    500: "Server Error",
    502: "Server Error",
    503: "Service unavailable",
    504: "We couldn't respond to your request in time. Sorry about that.",
}


def secondary_limit(status: int, retry_after_s: int | None) -> Problem:
    """GitHub's documentation: without Retry-After one is to wait for a minute at least."""
    return Problem(
        status,
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
        "If you reach out to GitHub Support for help, please include the request ID.",
        headers={} if retry_after_s is None else {"Retry-After": str(retry_after_s)},
        docs=f"{_LIMITS}#about-secondary-rate-limits",
    )


def primary_limit(who: str) -> Problem:
    return Problem(403, f"API rate limit exceeded for {who}.", docs=_LIMITS)
