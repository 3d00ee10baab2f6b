"""Text as people write quantities -> numbers with a unit, and back."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

_DURATION_UNITS_S = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[wdhms])+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([wdhms])", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s?([kmgtp]i?)?b", re.ASCII | re.IGNORECASE)
_SIZE_PREFIXES = "kmgtp"
_GPU = re.compile(r"(?:([A-Za-z][A-Za-z0-9_.-]*)(?::(\d+))?|(\d+))", re.ASCII)

# Beyond these a number is a slip of the hand, and would overflow what reads it later (Slurm, Docker).
MAX_DURATION_S = 365 * 86_400
MAX_SIZE_BYTES = 2**60
MAX_GPUS = 1_024

# What a parameter of a training can be.
Value = str | int | float | bool


class MalformedError(ValueError):
    """Text that cannot be read: `problem` says why, `expected` what would do, `at` in which part of it."""

    def __init__(self, problem: str, *, expected: str = "", suggestion: str = "", at: str = "") -> None:
        super().__init__(f"{problem}; expected {expected}" if expected else problem)
        self.problem = problem
        self.expected = expected
        self.suggestion = suggestion
        self.at = at


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """GPUs wanted on each node: `count` of them, of one `model` (None: any)."""

    model: str | None
    count: int

    def __str__(self) -> str:
        return f"{self.model}:{self.count}" if self.model else str(self.count)


def shown(value: object) -> str:
    """`value` as a person would have written it, shortened to one line of at most 60 characters."""
    names = {
        dict: "a mapping",
        list: "a list",
        tuple: "a list",
        type(None): "nothing",
        bool: str(value).lower(),
    }
    if type(value) in names:
        return names[type(value)]
    text = repr(value)
    return text if len(text) <= 60 else text[:56] + "…" + text[-1:]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def duration(value: object) -> float:
    """Seconds from `2h`, `30m`, `1h30m`, `1.5d` or a number of seconds; 0 to one year.

    Raises MalformedError, a ValueError.
    """
    seconds = _number(value)
    text = value.strip() if isinstance(value, str) else ""
    if _DURATION.fullmatch(text) and len(text) <= 60:
        seconds = float(sum(Decimal(n) * _DURATION_UNITS_S[u] for n, u in _DURATION_PART.findall(text)))
    if seconds is None or not 0 <= seconds <= MAX_DURATION_S:
        raise MalformedError(
            f"{shown(value)} is not a duration",
            expected="30s, 45m, 2h, 1h30m or a number of seconds, at most 365d",
        )
    return float(seconds)


def size(value: object) -> int:
    """Bytes from `32GiB`, `512MiB`, `10GB` or a whole number of bytes; 0 to 1 EiB.

    Raises MalformedError, a ValueError.
    """
    size_bytes = value if isinstance(value, int) and not isinstance(value, bool) else None
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 60 else None
    if match:
        size_bytes = int(Decimal(match[1]) * _size_unit_bytes((match[2] or "").lower()))
    if size_bytes is None or not 0 <= size_bytes <= MAX_SIZE_BYTES:
        raise MalformedError(
            f"{shown(value)} is not a size", expected="512MiB, 32GiB, 10GB or a whole number of bytes"
        )
    return size_bytes


def _size_unit_bytes(prefix: str) -> int:
    if not prefix:
        return 1
    factor = 1024 if prefix.endswith("i") else 1000
    return int(factor ** (_SIZE_PREFIXES.index(prefix[0]) + 1))


def gpu(value: object) -> Gpu:
    """GPUs a node from `H100:8`, `H100` (one of them), `"8"` or 8 (of any model); 1 to 1,024.

    Raises MalformedError, a ValueError.
    """
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = _GPU.fullmatch(text.strip()) if len(text) <= 60 else None
    count = int(match[2] or match[3] or 1) if match else 0
    if match is None or not 1 <= count <= MAX_GPUS:
        raise MalformedError(
            f"{shown(value)} is not a number of GPUs",
            expected=f"H100:8, H100 or 8, at most {MAX_GPUS} (leave the field out for none)",
        )
    return Gpu(model=match[1], count=count)


def format_duration(seconds: float) -> str:
    """At most two units, such as `0.35s`, `4.2s`, `1m5s`, `2h`, `1d3h`; `duration` reads it back, rounded."""
    if seconds < 59.95:
        digits = 2 if seconds < 0.995 else 1
        return f"{seconds:.{digits}f}".rstrip("0").rstrip(".") + "s"
    for (large, large_s), (small, small_s) in pairwise((("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))):
        whole = round(seconds / small_s) * small_s
        if whole >= large_s:
            rest = whole % large_s // small_s
            return f"{whole // large_s}{large}" + (f"{rest}{small}" if rest else "")
    return f"{seconds:.0f}s"


def format_size(size_bytes: int) -> str:
    """One unit, such as `512 B`, `1.5 KiB`, `32 GiB`; `size` reads it back, rounded to a tenth."""
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1023.95:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def format_value(value: Value) -> str:
    """A parameter as a program reads it: `0.01`, `1e-05`, `5` (also for 5.0), `true`, or the text itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)
