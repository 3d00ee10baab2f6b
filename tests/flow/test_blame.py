"""What the ranks of real gangs printed when one of them failed -> which one failed first for a reason of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner import blame, causes
from runner.blame import Failure
from runner.host.launched import ORPHANED
from runner.host.ranks import Exit

# Recorded: each of three ranks (two of JAX and TensorFlow) shared numbers with the others until one of them was killed,
# raised, or left with exit code 7. `orphaned` are those that went on until their launcher was gone.
RECORDED = Path(__file__).parent / "failures"
_HEAD = re.compile(
    r"=== (?:rank (?P<rank>\d+)|launcher): (?:code (?P<code>\d+)|orphaned) at (?P<at_s>[\d.]+) s"
)
LAUNCHER = 100


def recorded(name: str) -> tuple[Failure, ...]:
    found: list[Failure] = []
    lines: list[str] = []
    for line in (RECORDED / f"{name}.txt").read_text().splitlines():
        if match := _HEAD.fullmatch(line):
            lines = []
            end = (
                Exit.of(int(match["code"]))
                if match["code"]
                else Exit(code=137, signal="SIGKILL", cause=ORPHANED)
            )
            found.append(
                Failure(
                    rank=int(match["rank"] or LAUNCHER),
                    kind="rank" if match["rank"] else "launcher",
                    at_s=float(match["at_s"]),
                    code=end.code,
                    signal=end.signal,
                    cause=end.cause,
                )
            )
        else:
            lines.append(line)
            found[-1] = replace(found[-1], last_lines=tuple(lines))
    return tuple(found)


def nobody_told(failures: tuple[Failure, ...]) -> tuple[Failure, ...]:
    return failures


def told_at_once(failures: tuple[Failure, ...]) -> tuple[Failure, ...]:
    """All but the first to end were told to stop before they did."""
    earliest_s = min(each.at_s for each in failures)
    return tuple(replace(each, told_to_stop=each.at_s > earliest_s) for each in failures)


CASES = {
    "horovod-raise": (1, "ValueError: loss is nan"),
    "horovod-exit": (1, ""),
    "horovod-kill": (1, "killed from outside"),
    "gloo-raise": (1, "ValueError: loss is nan"),
    "gloo-exit": (1, ""),
    "gloo-kill": (1, "killed from outside"),
    "gloo-kill-of-rank-0": (0, "killed from outside"),
    "mwms-raise": (1, "ValueError: loss is nan"),
    "mwms-exit": (1, ""),
    "mwms-kill": (1, "killed from outside"),
    "mwms-kill-of-rank-0": (0, "killed from outside"),
    "jax-kill": (1, "killed from outside"),
    "jax-kill-of-rank-0": (0, "killed from outside"),
    "mpi4py-kill": (1, "killed from outside"),
    "mpi4py-m-raise": (1, "ValueError: loss is nan"),
    "mpi4py-m-exit": (1, ""),
}


def test_every_recorded_gang_is_judged() -> None:
    assert {path.stem for path in RECORDED.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("told", [nobody_told, told_at_once])
@pytest.mark.parametrize("name", CASES)
def test_the_rank_that_broke_a_real_gang_is_named(
    name: str, told: Callable[[tuple[Failure, ...]], tuple[Failure, ...]]
) -> None:
    first = blame.first(told(recorded(name)))
    rank, cause = CASES[name]
    assert (first.kind, first.rank) == ("rank", rank)
    assert causes.explain(first.last_lines, signal=first.signal, known=first.cause) == cause


OTHERS = sorted(
    (name, each.rank)
    for name, (guilty, _) in CASES.items()
    for each in recorded(name)
    if each.kind == "rank" and each.rank != guilty and each.cause != ORPHANED
)


@pytest.mark.parametrize(("name", "rank"), OTHERS)
def test_what_the_others_of_a_real_gang_print_is_known_as_a_consequence(name: str, rank: int) -> None:
    lines = next(each.last_lines for each in recorded(name) if each.rank == rank)
    assert causes.is_consequence(lines)


def failure(
    rank: int, at_s: float = 0.0, *lines: str, code: int = 1, signal: str = "", told: bool = False
) -> Failure:
    return Failure(rank=rank, at_s=at_s, code=code, signal=signal, last_lines=lines, told_to_stop=told)


def launcher(at_s: float, *lines: str, code: int = 1, signal: str = "") -> Failure:
    return Failure(rank=LAUNCHER, kind="launcher", at_s=at_s, code=code, signal=signal, last_lines=lines)


def orphan(rank: int, at_s: float) -> Failure:
    return Failure(rank=rank, at_s=at_s, code=137, signal="SIGKILL", cause=ORPHANED)


SHUT_DOWN = "horovod.common.exceptions.HorovodInternalError: Horovod has been shut down."


def test_of_two_reasons_the_earlier_counts() -> None:
    assert blame.first([failure(2, 1.0, "KeyError: 'x'"), failure(1, 0.5, "ValueError: y")]).rank == 1


def test_of_two_at_the_same_moment_the_lower_rank_counts() -> None:
    assert blame.first([failure(2), failure(1)]).rank == 1


def test_a_consequence_yields_to_a_reason_within_the_window_alone() -> None:
    early, late = failure(0, 0.0, SHUT_DOWN), failure(1, 4.0, "ValueError: y")
    assert blame.first([early, late]).rank == 1
    assert blame.first([early, late], window_s=3.0).rank == 0


def test_an_error_that_took_long_to_end_its_rank_counts_though_it_was_told_to_stop() -> None:
    assert blame.first([failure(0, 0.0, SHUT_DOWN), failure(1, 0.3, "ValueError: y", told=True)]).rank == 1


def test_what_a_rank_says_to_being_stopped_is_no_reason() -> None:
    stopped = failure(1, 0.3, "KeyboardInterrupt", signal="SIGTERM", code=143, told=True)
    assert blame.first([failure(0, 0.0, SHUT_DOWN), stopped]).rank == 0
    assert blame.first([failure(0, 0.0, code=7), failure(1, 0.1, "ValueError: y", told=True)]).rank == 0


def test_a_rank_that_was_asked_to_end_yields_to_one_that_raised() -> None:
    asked = failure(0, 0.0, code=143, signal="SIGTERM")
    assert blame.first([asked, failure(1, 0.2, "ValueError: y")]).rank == 1
    assert blame.first([asked, failure(1, 0.2, SHUT_DOWN)]).rank == 0


def test_a_rank_that_was_killed_is_the_reason_whatever_it_printed_before() -> None:
    killed = failure(1, 0.2, "Connection refused, trying again", code=137, signal="SIGKILL")
    assert blame.first([failure(0, 0.0, SHUT_DOWN), killed]).rank == 1


def test_a_launcher_counts_only_when_no_rank_failed() -> None:
    slots = launcher(0.0, "There are not enough slots available in the system")
    assert blame.first([slots, orphan(0, 0.0), orphan(1, 0.0)]).kind == "launcher"
    assert blame.first([slots, failure(1, 1.0, code=7)]).rank == 1
    assert blame.first([launcher(0.0), failure(1, 0.1, SHUT_DOWN)]).rank == 1


def test_a_launcher_that_was_killed_is_why_its_ranks_lost_each_other() -> None:
    killed = launcher(0.0, code=137, signal="SIGKILL")
    assert blame.first([failure(0, 0.1, SHUT_DOWN), orphan(1, 0.1), killed]).kind == "launcher"


def test_where_all_were_told_to_stop_the_first_to_end_is_named() -> None:
    stopped = [failure(rank, 1.0 - rank / 10, code=143, signal="SIGTERM", told=True) for rank in (0, 1)]
    assert blame.first(stopped).rank == 1


def test_an_error_of_its_own_stays_one_whatever_breaks_after_it() -> None:
    lines = (
        "ValueError: y",
        "During handling of the above exception, another exception occurred:",
        SHUT_DOWN,
        "RuntimeError: the training failed",
    )
    assert not causes.is_consequence(lines)
    assert causes.is_consequence((lines[2], lines[1], "RuntimeError: the training failed"))


def test_a_silent_rank_that_raised_and_did_not_end_is_found() -> None:
    silent = {
        0: ("step 2",),
        2: ("Traceback (most recent call last):", "[rank2]: ValueError: y"),
        3: (SHUT_DOWN,),
    }
    assert blame.stuck(silent) == (2, "ValueError: y")
    assert blame.stuck({0: ("ValueError: skipped", "step 3")}) is None
