"""Reports of made-up ranks: who is said to have parted, when, and why."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

import msgspec
import pytest

from runner.agreement import PENDING_STEPS, PROCESSES, Agreement, Divergence, Report, report

STEPS = (1, 2, 4, 8)
Weights = Callable[[int, int], list[float]]


def start(seed: int = 0) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(0, 1) for _ in range(64)]


def moved(rank: int, step: int, *, first: list[float] | None = None, gradients: int = 1000) -> list[float]:
    """64 weights after so many steps of 0.01 along gradients that are all drawn by the seed `gradients`."""
    weights = list(first or start())
    chance = random.Random(gradients)
    for _ in range(step):
        weights = [weight - 0.01 * chance.gauss(1, 1) for weight in weights]
    return weights


def sketched(weights: list[float], step: int, **other: object) -> Report:
    squares = sum(weight * weight for weight in weights)
    known = {"attempt": 0, "pid": 1, "framework": "torch", "model": "64 weights trained by Adam", "size": 64}
    return msgspec.convert({**known, "step": step, "squares": squares, "sketch": weights, **other}, Report)


def compare(weights: Weights, *, ranks: int = 2, steps: tuple[int, ...] = STEPS) -> Divergence | None:
    agreement = Agreement(ranks)
    for step in steps:
        for rank in range(ranks):
            found = agreement.add(rank, sketched(weights(rank, step), step))
            if found is not None:
                return found
    return None


def unshared(rank: int, step: int) -> list[float]:
    return moved(rank, step, gradients=rank)


def test_ranks_that_share_their_gradients_agree() -> None:
    assert compare(lambda rank, step: moved(rank, step)) is None


@pytest.mark.parametrize(("speed", "rounding"), [(1.0, 1e-6), (1e-6, 1e-6), (1.0, 3e-5)])
def test_ranks_of_other_gpus_agree_in_spite_of_rounding(speed: float, rounding: float) -> None:
    def rounded(rank: int, step: int) -> list[float]:
        chance = random.Random(step)
        far = zip(start(), moved(rank, 10 * step), strict=True)
        return [old + speed * (new - old) + rank * chance.gauss(0, rounding) for old, new in far]

    assert compare(rounded) is None


def test_ranks_that_do_not_move_agree() -> None:
    assert compare(lambda rank, step: start()) is None
    assert compare(lambda rank, step: [0.0] * 64) is None


def test_ranks_that_share_nothing_are_found_at_the_second_comparison() -> None:
    found = compare(unshared)

    assert found is not None
    assert (found.step, found.ranks) == (2, (1,))
    assert found.message == (
        "the weights of rank 1 differ from rank 0's after step 2 "
        "(relative difference 2e-02, 64 weights trained by Adam): gradients are not shared between the ranks"
    )
    assert found.tip == (
        "wrap the model in torch.nn.parallel.DistributedDataParallel, and call that, not the model within; "
        "where ranks differ on purpose, set `distribution.divergence: ignore`"
    )


def test_slow_ranks_that_share_nothing_are_found_too() -> None:
    def slow(rank: int, step: int) -> list[float]:
        chance, weights = random.Random(rank), start()
        for _ in range(step):
            weights = [weight - 1e-4 * chance.gauss(1, 1) for weight in weights]
        return weights

    found = compare(slow)

    assert found is not None
    assert found.step == 2


def test_horovod_on_keras_3_is_told_what_to_set() -> None:
    agreement = Agreement(2)
    every = [
        agreement.add(rank, sketched(unshared(rank, step), step, framework="tensorflow"))
        for step in (1, 2)
        for rank in (0, 1)
    ]

    assert every[-1] is not None
    assert "environment.legacy_keras: true" in every[-1].tip


def test_first_weights_that_were_not_broadcast_are_told_from_gradients_that_are_not_shared() -> None:
    found = compare(lambda rank, step: moved(rank, step, first=start(rank)))

    assert found is not None
    assert found.message.endswith("the ranks move alike but started from different weights")
    assert "DistributedDataParallel does" in found.tip


def test_other_first_weights_do_not_hide_that_gradients_are_not_shared() -> None:
    found = compare(lambda rank, step: moved(rank, step, first=start(rank), gradients=rank))

    assert found is not None
    assert found.message.endswith("gradients are not shared between the ranks")


def test_first_weights_may_be_broadcast_after_the_first_step() -> None:
    def late(rank: int, step: int) -> list[float]:
        return unshared(rank, step) if step == 1 else moved(rank, step)

    assert compare(late) is None


def test_ranks_that_part_in_the_middle_are_found() -> None:
    def torn(rank: int, step: int) -> list[float]:
        return moved(rank, step) if step < 4 else unshared(rank, step)

    found = compare(torn)

    assert found is not None
    assert found.step == 8


def test_only_the_ranks_that_parted_are_named() -> None:
    found = compare(
        lambda rank, step: unshared(rank, step) if rank in {2, 5} else moved(rank, step, gradients=0), ranks=8
    )

    assert found is not None
    assert found.ranks == (2, 5)
    assert "of ranks 2 and 5 differ" in found.message


def test_of_many_ranks_the_first_are_named() -> None:
    found = compare(unshared, ranks=64)

    assert found is not None
    assert len(found.ranks) == 63
    assert "of ranks 1, 2, 3, 4 and 59 more differ" in found.message


def test_the_order_in_which_reports_come_does_not_matter() -> None:
    agreement = Agreement(2)
    early = [agreement.add(0, sketched(unshared(0, step), step)) for step in STEPS]

    assert early == [None] * len(STEPS)
    assert agreement.add(1, sketched(unshared(1, 1), 1)) is None
    assert agreement.add(1, sketched(unshared(1, 2), 2)) is not None


def test_a_report_told_twice_changes_nothing() -> None:
    agreement = Agreement(2)
    for step in (1, 1, 2, 2):
        for rank in (0, 1):
            assert agreement.add(rank, sketched(moved(rank, step), step)) is None
    assert next(iter(agreement._models.values())).waiting == {}


def test_ranks_are_compared_after_equal_numbers_of_steps_only() -> None:
    agreement = Agreement(2)
    for step in STEPS:
        assert agreement.add(0, sketched(unshared(0, step), step)) is None
        assert agreement.add(1, sketched(unshared(1, step + 100), step + 100)) is None


@pytest.mark.parametrize("other", [{"model": "12 weights trained by Adam"}, {"attempt": 1}])
def test_a_model_that_not_every_rank_has_is_not_compared(other: Mapping[str, object]) -> None:
    agreement = Agreement(2)
    for step in STEPS:
        assert agreement.add(0, sketched(unshared(0, step), step)) is None
        assert agreement.add(1, sketched(unshared(1, step), step, **other)) is None


def test_each_rank_s_second_process_is_compared_with_the_others_second() -> None:
    agreement = Agreement(2)
    for step in STEPS:
        for rank in (0, 1):
            assert agreement.add(rank, sketched(moved(rank, step), step, pid=10 + rank)) is None
    found = [
        agreement.add(rank, sketched(unshared(rank, step), step, pid=20 + rank))
        for step in (1, 2)
        for rank in (0, 1)
    ]
    assert found[-1] is not None


def test_an_elastic_gang_is_compared_by_the_ranks_that_it_has() -> None:
    agreement = Agreement(4)
    found = [
        agreement.add(rank, sketched(unshared(rank, step), step, world_size=2))
        for step in (1, 2)
        for rank in (1, 3)
    ]
    assert found[-1] is not None
    assert found[-1].message.startswith("the weights of rank 3 differ from rank 1's after step 2")


def test_reports_of_ever_more_processes_are_left_out() -> None:
    agreement = Agreement(2)
    for pid in range(3 * PROCESSES):
        assert agreement.add(0, sketched(start(), 1, pid=pid)) is None
    assert len(agreement._models) == PROCESSES


def test_a_report_is_one_line_of_known_length() -> None:
    line = json.dumps(msgspec.to_builtins(sketched(start(), 4)))

    assert report(line) is not None
    assert report(line.replace("64 weights", "64\\nweights")) is None
    assert report(line.replace("64 weights", "64 " + "weights" * 100)) is None
    assert report(line.replace("[", "[0.0,")) is None


def test_weights_that_are_no_numbers_are_not_compared() -> None:
    line = msgspec.to_builtins(sketched(start(), 4))

    assert report(json.dumps({**line, "squares": float("nan")})) is None
    assert report(json.dumps({**line, "squares": float("inf")})) is not None
    assert compare(lambda rank, step: [float("inf")] * 64) is None


def test_reports_that_nobody_answers_are_forgotten() -> None:
    agreement = Agreement(2)
    for step in range(1, 3 * PENDING_STEPS):
        agreement.add(0, sketched(start(), step))
    waiting = next(iter(agreement._models.values())).waiting
    assert len(waiting) == PENDING_STEPS


def test_a_line_that_a_dying_rank_left_unfinished_is_no_report() -> None:
    line = json.dumps(
        {**msgspec.to_builtins(sketched([*start()[:-1], 1.0], 4)), "sketch": [float("nan"), *start()[1:]]}
    )

    whole = report(line)

    assert whole is not None
    assert whole.step == 4
    assert report(line[:-5]) is None
    assert report("[]") is None


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_line_of_many_nested_brackets_is_no_report(opening: str) -> None:
    assert report(opening * 60_000) is None
