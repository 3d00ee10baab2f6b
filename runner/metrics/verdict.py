"""Series, a goal and a bar -> whether the run passes, in one sentence."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from runner.metrics.points import Goal, Series

Operator = Literal["<", "<=", ">", ">="]

# TensorBoard keeps 32-bit numbers: 0.95 comes back as 0.949999988 and must not fail `< 0.95`.
_SINGLE_PRECISION = 1e-7

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Bar(Protocol):
    """When a run fails: `< 0.95`, or where `relative`, `< base - 0.01` with an offset of -0.01."""

    @property
    def operator(self) -> Operator:
        """How the value is compared."""

    @property
    def relative(self) -> bool:
        """True where the offset is added to the base run's value."""

    @property
    def offset(self) -> float:
        """The bar, or what is added to the base."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a run passes: `value` is the primary metric's last value, `best` its best by the goal.

    Both are None where it was never logged; `best` also where all values are NaN. `base` is what it was
    compared with. `sentence` says it all in plain words.
    """

    passed: bool
    value: float | None
    best: float | None
    base: float | None
    sentence: str


def find(series: Mapping[str, Series], name: str) -> Series | None:
    """The series of that name, else the only one whose name ends with `/NAME`; None where neither is there.

    So `accuracy` finds `validation/accuracy` as long as no `train/accuracy` stands beside it.
    """
    if name in series:
        return series[name]
    matches = _below(series, name)
    return series[matches[0]] if len(matches) == 1 else None


def _below(names: Iterable[str], name: str) -> tuple[str, ...]:
    return tuple(logged for logged in names if logged.endswith(f"/{name}"))


def judge(
    series: Mapping[str, Series], *, primary: str, goal: Goal, fail_if: Bar | None, base: float | None
) -> Verdict:
    """The verdict on the primary metric's last value, since the last step is what was saved.

    A metric that was never logged fails, and so does NaN. A bar relative to the base passes where there is no
    base value, or none that is a number.
    """
    found = find(series, primary)
    if found is None:
        sentence = _missing(primary, tuple(series))
        return Verdict(passed=False, value=None, best=None, base=base, sentence=sentence)
    failed, reason = _weigh(found.last, fail_if, base)
    sentence = f"{found.name} is {show(found.last)}{_peak(found, goal)}: {reason}"
    return Verdict(passed=not failed, value=found.last, best=found.best(goal), base=base, sentence=sentence)


def _weigh(value: float, bar: Bar | None, base: float | None) -> tuple[bool, str]:
    if math.isnan(value):
        return True, "failed, since it is not a number"
    if math.isinf(value):
        return True, "failed, since it is not finite"
    if bar is None:
        return False, "no bar was set"
    if bar.relative and (base is None or math.isnan(base)):
        return False, f"passed, since there is no base to hold it to ({_written(bar)})"
    limit = bar.offset + (base if bar.relative and base is not None else 0.0)
    close = math.isclose(value, limit, rel_tol=_SINGLE_PRECISION)
    failed = _COMPARE[bar.operator](limit if close else value, limit)
    of_base = f", base is {show(base)}" if bar.relative and base is not None else ""
    return failed, f"{'failed' if failed else 'passed'}, fails if {bar.operator} {show(limit)}{of_base}"


def _written(bar: Bar) -> str:
    sign = "-" if bar.offset < 0 else "+"
    return f"fails if {bar.operator} base" + (f" {sign} {show(abs(bar.offset))}" if bar.offset else "")


def _peak(series: Series, goal: Goal) -> str:
    best = series.best(goal)
    if best is None or best == series.last:
        return ""
    return f" (best {show(best)} at step {series.steps[series.values.index(best)]})"


def _missing(primary: str, names: tuple[str, ...]) -> str:
    if not names:
        return f"{primary} was never logged, and no other metric either"
    if several := _below(names, primary):
        return f"{primary} could be {' or '.join(several)}: write one of them as metrics.primary"
    logged = f"{primary} was never logged; logged were {', '.join(sorted(names))}"
    close = _closest(primary, names)
    return f"{logged} (did you mean {close}?)" if close else logged


def _closest(primary: str, names: tuple[str, ...]) -> str:
    tails = {name.rsplit("/", 1)[-1]: name for name in reversed(names)}
    held = [name for name in names if primary in name]
    close = difflib.get_close_matches(primary, [*names, *tails], n=1)
    return held[0] if held else tails.get(close[0], close[0]) if close else ""


def show(value: float) -> str:
    """A metric's value for people: at most six significant digits."""
    return f"{value:.6g}"
