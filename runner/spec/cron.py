"""Lines of cron, as GitHub reads them -> checked, with their fields one space apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.quantities import MalformedError, shown

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_ITEM = re.compile(
    r"(?:\*|(?P<first>[0-9]{1,2}|[A-Z]{3})(?:-(?P<last>[0-9]{1,2}|[A-Z]{3}))?)(?:/(?P<step>[0-9]{1,2}))?",
    re.ASCII,
)
_EXPECTED = "five fields: minute, hour, day, month, day of the week, such as 0 3 * * *"


@dataclass(frozen=True, kw_only=True)
class _Unit:
    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int | None:
        """The number that `text` stands for; None where it is out of bounds, or no name of this unit."""
        if text in self.names:
            return self.names.index(text) + self.first
        return int(text) if text.isdecimal() and self.first <= int(text) <= self.last else None


_UNITS = (
    _Unit(name="minute", first=0, last=59),
    _Unit(name="hour", first=0, last=23),
    _Unit(name="day of the month", first=1, last=31),
    _Unit(name="month", first=1, last=12, names=_MONTHS),
    _Unit(name="day of the week", first=0, last=6, names=_DAYS),
)


def times(value: object) -> object:
    """A list, as a tuple; the lines in it are checked by `line`. Raises MalformedError for all else."""
    if not isinstance(value, list | tuple):
        raise MalformedError("the schedule is no list of times", expected='a list such as ["0 3 * * *"]')
    return tuple(value)


def line(value: object) -> str:
    """A line of `on.schedule`, as text or as GitHub writes it, `cron: text`; its fields are one space apart.

    Raises MalformedError. Source:
    https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#schedule
    """
    text = value["cron"] if isinstance(value, dict) and value.keys() == {"cron"} else value
    fields = text.split() if isinstance(text, str) else []
    if len(fields) != len(_UNITS):
        raise MalformedError(f"{shown(text)} is not a line of cron", expected=_EXPECTED)
    for field, unit in zip(fields, _UNITS, strict=True):
        if not all(_fits(part, unit) for part in field.upper().split(",")):
            raise MalformedError(
                f"{shown(field)} is no {unit.name}", expected=f"{unit.first} to {unit.last}, or *"
            )
    return " ".join(fields)


def _fits(part: str, unit: _Unit) -> bool:
    match = _ITEM.fullmatch(part)
    if match is None or (match["step"] is not None and int(match["step"]) == 0):
        return False
    if match["first"] is None:
        return True
    first = unit.number(match["first"])
    last = unit.number(match["last"]) if match["last"] else first
    return first is not None and last is not None and first <= last
