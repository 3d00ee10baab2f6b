"""Calls between the nodes of one run: what the caller's host tells -> what the called node's host is told, and back."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.host.channel import Channel, Event

REFUSED = 255  # as ssh has it
EVENTS = frozenset({"call", "call-data", "call-eof", "call-out", "call-end"})


class Switchboard:
    """Connects nodes by the names that their launchers know; whoever is not of this run cannot be reached."""

    def __init__(self, channels: Mapping[int, Channel], *, names: Mapping[str, int]) -> None:
        self._channels, self._names = channels, names
        self._callee: dict[str, int] = {}

    def pass_on(self, node: int, event: Event, *, again: bool = False) -> None:
        """Pass an event of `node` on. `again`: told anew to a supervisor that took over, so only remember who calls."""
        kind = event["event"]
        if kind == "call":
            self._connect(node, event, again=again)
        elif again:
            return
        elif kind in ("call-data", "call-eof"):
            call = f"{node}/{event['call']}"
            if call in self._callee:
                self._channels[self._callee[call]].send(kind, **{**_fields(event), "call": call})
        else:
            caller, _, call = event["call"].partition("/")
            self._channels[int(caller)].send(kind, **{**_fields(event), "call": call})

    def _connect(self, node: int, event: Event, *, again: bool) -> None:
        call, wanted = f"{node}/{event['call']}", event["node"]
        called = self._names.get(wanted)
        if called is not None:
            self._callee[call] = called
        if again:
            return
        if called is None:
            said = f"pushtrain-agent: there is no node {wanted} in this run: {', '.join(self._names)}\n"
            text = base64.b64encode(said.encode()).decode()
            self._channels[node].send("call-out", call=event["call"], stream=2, data=text)
            self._channels[node].send("call-end", call=event["call"], code=REFUSED)
        else:
            self._channels[called].send("call", call=call, command=event["command"])


def _fields(event: Event) -> dict[str, object]:
    return {name: value for name, value in event.items() if name != "event"}
