"""A shell line read so far -> how a value is to be written at that place."""

from __future__ import annotations

import re
from shlex import quote

from runner.quantities import MalformedError

_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_CASE = re.compile(r"case\s")


class Scanner:
    """Knows in which quotes the next character of a shell line stands.

    Quoting a value is only right for the place where it lands: 'x y' inside "…" keeps its apostrophes, and
    inside '…' it ends them. So the line is followed as far as sh's grammar of quotes and $(…) goes, and a
    placeholder is refused wherever the shell reads text by other rules (backquotes, ${…}, arithmetic, here
    documents, $'…'). The innermost of `_states` is one of: "" (no quotes), ', ", (, `, {, $', #.
    """

    _REFUSED = {
        "`": "between backquotes; write $(…) instead",
        "{": "in or behind such a ${…}",
        "((": "inside arithmetic",
        "$'": "in or behind $'…'",
        "<<": "after <<, in or behind a here document",
        "\\": "right behind a backslash",
        "$": "right behind a $",
        "case": "after case inside $(…)",
    }

    def __init__(self) -> None:
        self._states = [""]
        self._word_starts = True
        self._pending = ""  # a backslash or a $ whose meaning depends on the next character
        self._lost = ""  # what made the rest of the line unreadable, if anything did
        self._used = False

    def read(self, text: str) -> None:
        """Goes on past literal text of the line."""
        at = 0
        while at < len(text):
            at += self._step(text, at)

    def _step(self, text: str, at: int) -> int:
        """Reads on from `at`; how many characters were read."""
        state, character = self._states[-1], text[at]
        if self._pending == "\\" and state != "'":
            self._pending, self._word_starts = "", False
            return 1
        if state in {"'", "$'", "#", "`"}:
            return self._inside_plain(state, character)
        if state == '"':
            return self._inside_double(text, at)
        return self._outside(text, at)

    def _inside_plain(self, state: str, character: str) -> int:
        self._pending = "\\" if character == "\\" and state in {"$'", "`"} else ""
        if character == {"'": "'", "$'": "'", "#": "\n", "`": "`"}[state]:
            self._states.pop()
            self._word_starts = state == "#"
        return 1

    def _inside_double(self, text: str, at: int) -> int:
        character = text[at]
        if character == '"':
            self._states.pop()
            self._pending = ""
            return 1
        return self._expansion(text, at)

    def _expansion(self, text: str, at: int) -> int:
        """What means the same inside "…" and outside: \\ $( $(( ${ and backquotes."""
        for opening, state in (("$((", "(("), ("$(", "("), ("${", "{"), ("`", "`")):
            if text.startswith(opening, at):
                self._states.append(state)
                self._pending, self._word_starts = "", True
                return len(opening)
        self._pending = text[at] if text[at] in "\\$" else ""
        return 1

    def _outside(self, text: str, at: int) -> int:
        character, state = text[at], self._states[-1]
        self._note_lost(text, at)
        opening = self._opening(text, at)
        if opening:
            self._states.append(opening)
            self._pending, self._word_starts = "", opening == "("
            return len(opening)
        if character == {"(": ")", "((": ")", "{": "}"}.get(state):
            self._states.pop()
            self._pending, self._word_starts = "", False
            return len("))") if state == "((" and text.startswith("))", at) else 1
        read = self._expansion(text, at)
        if read == 1 and text[at] not in "`":
            self._word_starts = character in " \t\n;&|()<>"
        return read

    def _opening(self, text: str, at: int) -> str:
        if text[at] == "#" and self._word_starts and self._states[-1] in {"", "("}:
            return "#"
        if text.startswith("((", at):
            return "(("
        return next((opening for opening in ("$'", "'", '"', "(") if text.startswith(opening, at)), "")

    def _note_lost(self, text: str, at: int) -> None:
        for opening, reason in (("<<", "<<"), ("$'", "$'"), ("$[", "((")):
            if text.startswith(opening, at):
                self._lost = reason
        if self._states[-1] == "{" and text[at] == "'":
            self._lost = "{"  # an apostrophe in "${…}" quotes in some shells and not in others
        # A pattern of `case` ends with a ) that closes nothing.
        if "(" in self._states and self._word_starts and _CASE.match(text, at):
            self._lost = "case"

    def literal(self, value: str) -> str:
        """`value` as it must be written here so that the shell takes it as it is."""
        if "\0" in value:
            raise MalformedError("a value with a NUL character cannot be passed to a program")
        if _SAFE.fullmatch(value):
            return self._place(value, value, value)
        return self._place(quote(value), f'"{quote(value)}"', f"'{quote(value)}'")

    def variable(self, name: str) -> str:
        """A reference to an environment variable, not split into words here."""
        return self._place(f'"${name}"', f"${{{name}}}", f"'\"${name}\"'")

    def _place(self, bare: str, double: str, single: str) -> str:
        state = self._states[-1]
        why = self._lost or (self._pending if state != "'" else "") or state
        if why in self._REFUSED:
            raise MalformedError(f"a placeholder cannot stand {self._REFUSED[why]}")
        self._used, self._word_starts = True, False
        if state == "#":
            return ""  # a newline in the value would end the comment
        return {"'": single, '"': double}.get(state, bare)

    def finish(self) -> None:
        """Refuses quotes that are open at the end of a line with placeholders."""
        open_state = next((state for state in self._states if state not in {"", "#"}), "")
        if self._used and not self._lost and open_state:
            raise MalformedError(f"{open_state} is not closed")
