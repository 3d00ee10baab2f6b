"""What ranks wrote -> what is said about files of more than one of them."""

from __future__ import annotations

from runner.writers import shared_files, written


def test_ranks_with_files_of_their_own_are_fine() -> None:
    assert shared_files({0: ["outputs/a.h5"], 1: ["outputs/b.h5"], 2: []}) == ()


def test_a_file_of_two_ranks_is_named_with_what_to_do() -> None:
    assert shared_files({0: ["outputs/model.h5", "outputs/a"], 1: ["outputs/model.h5"]}) == (
        (
            "ranks 0 and 1 wrote the same file: outputs/model.h5; write on rank 0 alone, put the rank's number into "
            "the name, or set `outputs.per_rank: true`"
        ),
    )


def test_for_logs_a_folder_for_each_rank_is_no_cure() -> None:
    (sentence,) = shared_files({0: ["logs/metrics.jsonl"], 1: ["logs/metrics.jsonl"]})
    assert sentence.endswith("write on rank 0 alone, or put the rank's number into the name")


def test_many_files_of_the_same_ranks_are_one_sentence() -> None:
    files = [f"outputs/{name}" for name in "abcde"]

    (sentence,) = shared_files(dict.fromkeys(range(64), files))

    assert sentence.startswith(
        "ranks 0, 1, 2, 3 and 60 more wrote the same files: outputs/a, outputs/b, outputs/c and 2 more; "
    )


def test_files_that_are_meant_to_be_shared_are_left_out() -> None:
    shared = ["outputs/.cache/x.lock", "outputs/__pycache__/a.cpython-311.pyc", "logs/mlruns/0/meta.yaml"]

    assert shared_files({0: shared, 1: shared}) == ()


def test_a_path_is_read_once_and_an_unfinished_line_not_at_all() -> None:
    assert written(['"outputs/a \\u00e9"', '"outputs/a \\u00e9"', '"outputs/b', "3"]) == ("outputs/a é",)


def test_a_path_that_cannot_be_printed_is_told_in_letters_that_can() -> None:
    (sentence,) = shared_files({0: ["outputs/a\x1b[2J\n\udc80"], 1: ["outputs/a\x1b[2J\n\udc80"]})

    assert "the same file: outputs/a\\x1b[2J\\n\\udc80; " in sentence


def test_of_many_groups_the_first_are_told() -> None:
    by_rank = {rank: [f"outputs/{rank}", f"outputs/{rank + 1}"] for rank in range(31)}

    told = shared_files(by_rank)

    assert len(told) == 21
    assert told[-1] == "and 10 more groups of ranks wrote the same files"
