"""What hosts tell of their fetching -> one sentence for whoever follows the run, now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runner.quantities import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SAY_EVERY_S = 3.0


class Progress:
    """The bytes that each host still brings. `names` are the hosts by node rank, `say` takes the sentence."""

    def __init__(self, names: Mapping[int, str], *, say: Callable[[str], None]) -> None:
        self._names, self._say = names, say
        self._parts: dict[tuple[str, str], str] = {}
        self._said_at_s = -SAY_EVERY_S

    def note(self, node: int, event: Mapping[str, Any]) -> None:
        """Take a `progress` event of a host's."""
        done, total, waits = event["bytes"], event.get("total"), event.get("waits")
        of = f" of {format_size(total)}" if total else ""
        key = (self._names.get(node, f"node {node}"), event["what"])
        before = self._parts.get(key)
        self._parts[key] = f"{key[1]}: {waits}" if waits else f"{key[1]} {format_size(done)}{of}"
        is_news = bool(waits) and self._parts[key] != before
        if (total and done >= total) or waits == "":
            del self._parts[key]
        if self._parts and (is_news or time.monotonic() >= self._said_at_s + SAY_EVERY_S):
            self._said_at_s = time.monotonic()
            self._say(
                "fetching: " + ", ".join(f"{host} {text}" for (host, _), text in sorted(self._parts.items()))
            )

    def end(self) -> None:
        """All have what they need."""
        if self._said_at_s > 0 or self._parts:
            self._say("")
        self._parts.clear()
