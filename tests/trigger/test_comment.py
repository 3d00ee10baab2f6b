import shlex
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runner.trigger.comment import Cancel, Command, Help, Mistake, Promote, Status, Train, commands
from runner.trigger.words import quoted, split


def only(body: str) -> Command:
    (command,) = commands(body)
    return command


def train(body: str) -> Train:
    command = only(body)
    assert isinstance(command, Train), command
    return command


def mistake(body: str) -> Mistake:
    command = only(body)
    assert isinstance(command, Mistake), command
    return command


def test_the_word_alone_asks_for_a_run_of_the_head() -> None:
    assert only("/train") == Train(line="/train", sha=None, overrides=(), engine=None, fresh=False)


def test_a_command_has_a_commit_inputs_and_options() -> None:
    line = '/train deadBEEF lr=0.1 note="a b" --engine docker --fresh'
    assert only(line) == Train(
        line=line, sha="deadBEEF", overrides=("lr=0.1", "note=a b"), engine="docker", fresh=True
    )


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        ("lr=0.1", ("lr=0.1",)),
        ("note=", ("note=",)),
        ("note=''", ("note=",)),
        ("'note=a b'", ("note=a b",)),
        ("note='it'\\''s'", ("note=it's",)),
        ('note="a \\"b\\" \\\\"', ('note=a "b" \\',)),
        ("note='a\\' x=1", ("note=a\\", "x=1")),
        ("note=a=b", ("note=a=b",)),
        ("note=#1", ("note=#1",)),
        ("note=$(rm) x=`id` y=;z", ("note=$(rm)", "x=`id`", "y=;z")),
        ("note=<b>*x*</b>", ("note=<b>*x*</b>",)),
        ("note=don\u2019t", ("note=don\u2019t",)),
        ('note="say \u201chi\u201d \u2014 \u200b"', ("note=say \u201chi\u201d \u2014 \u200b",)),
        ("lr=1\u00a0epochs=2\u3000x=3\ty=4", ("lr=1", "epochs=2", "x=3", "y=4")),
        ("-p lr=0.1 --param epochs=2 --param=x=3", ("lr=0.1", "epochs=2", "x=3")),
        ("cancel=1", ("cancel=1",)),
        ("deadbeef=1", ("deadbeef=1",)),
        ("note=\U0001f469\u200d\U0001f680", ("note=\U0001f469\u200d\U0001f680",)),
    ],
)
def test_values_are_those_of_a_shell(words: str, overrides: tuple[str, ...]) -> None:
    assert train(f"/train {words}").overrides == overrides


@pytest.mark.parametrize("sha", ["1234567", "a" * 40, "DEADBEEF"])
def test_a_commit_is_7_to_40_digits_and_comes_first(sha: str) -> None:
    assert train(f"/train {sha} lr=1").sha == sha


@pytest.mark.parametrize("sha", ["123456", "a" * 41, "HEAD", "main"])
def test_nothing_else_is_a_commit(sha: str) -> None:
    assert "neither a commit" in mistake(f"/train {sha}").message


def test_an_engine_is_named_in_either_way() -> None:
    assert train("/train --engine docker").engine == train("/train --engine=docker").engine == "docker"


def test_the_other_commands_stand_alone() -> None:
    assert only("/train cancel") == Cancel(line="/train cancel")
    assert only("/train status") == Status(line="/train status")
    assert only("/train help") == Help(line="/train help")


@pytest.mark.parametrize("version", ["1.2.0", "v1.2.0"])
def test_a_version_is_promoted(version: str) -> None:
    line = f"/promote tf-dnn_mnist@{version} production"
    assert only(line) == Promote(line=line, model="tf-dnn_mnist", version="1.2.0", stage="production")


def test_several_commands_come_in_their_order() -> None:
    found = commands("Looks good.\r\n/train lr=0.1\r\n/train lr=0.2\n\nand then\n\n   /promote a@1.0.0 b  \n")
    assert [command.line for command in found] == ["/train lr=0.1", "/train lr=0.2", "/promote a@1.0.0 b"]


def test_emphasis_over_two_lines_hides_none() -> None:
    found = commands("/train note=a*b\n/train note=c*d")
    assert [command.overrides for command in found if isinstance(command, Train)] == [
        ("note=a*b",),
        ("note=c*d",),
    ]


def test_another_word_takes_the_place_of_train() -> None:
    assert commands("/train\n/fit lr=1", word="/fit") == (
        Train(line="/fit lr=1", sha=None, overrides=("lr=1",), engine=None, fresh=False),
    )
    assert mistake_of("/fit lr= 1", "/fit").tip == "/fit lr=1"


def mistake_of(body: str, word: str) -> Mistake:
    (command,) = commands(body, word=word)
    assert isinstance(command, Mistake)
    return command


NONE = {
    "another word": "/trainer lr=1",
    "punctuation": "/train, please",
    "the middle of a line": "please /train it",
    "a quote": "> /train",
    "a quote that goes on by itself": "> so\n/train",
    "a quote of a quote": "> > /train\n> /train",
    "a list": "- /train\n- x\n/train",
    "a numbered list": "1. a\n\n   /train",
    "a fence": "```\n/train\n```",
    "a fence with a language": "~~~sh\n/train\n~~~",
    "a fence that is never closed": "```\n/train",
    "indented code": "x\n\n    /train",
    "a code span": "`/train`",
    "a code span over lines": "`a\n/train b`",
    "a heading": "# /train",
    "an underlined heading": "/train\n---",
    "a table": "/train | a\n--- | ---\n/train | b",
    "a link": "[a\n/train](https://example.com)",
    "a link's target": "[a]: /train",
    "an image": "![a\n/train](x.png)",
    "struck out": "~~a\n/train\nb~~",
    "an HTML comment": "<!-- a\n/train\n-->",
    "an HTML comment with an empty line": "<!--\n\n/train\n\n-->",
    "an HTML comment that is never closed": "<!--\n\n/train",
    "an HTML comment within a line": "a <!--\n/train\n--> b",
    "an HTML block": "<div>\n/train\n</div>",
    "an HTML quote": "<blockquote>\n\n/train\n\n</blockquote>",
    "folded away": "<details><summary>more</summary>\n\n/train\n\n</details>",
    "an HTML quote within an HTML quote": "<BLOCKQUOTE><q>\n\n</q>\n\n/train\n\n</BLOCKQUOTE>",
    "HTML code": "a <code>\n/train\n</code>",
    "preformatted": "<pre>\n\n/train\n\n</pre>",
    "an attribute": '<a title="\n/train\n">x</a>',
    "a footnote": "a[^1]\n\n[^1]: b\n/train",
    "mathematics": "$$\n/train\n$$",
    "an invisible character in front": "\u200b/train",
    "an invisible character in the word": "/tr\u200bain",
    "another alphabet": "/tr\u0430in",
}


@pytest.mark.parametrize("body", NONE.values(), ids=NONE.keys())
def test_what_is_not_said_in_so_many_words_is_no_command(body: str) -> None:
    assert commands(body) == ()


@pytest.mark.parametrize(
    "body",
    [
        "> quoted\n\n/train",
        "```\nx\n```\n/train",
        "- a\n\n/train",
        "<!-- marker -->\n/train",
        "<!-- marker -->\n\n/train",
        "<details>\n\nx\n\n</details>\n\n/train",
        "<div><!-- <blockquote> --></div>\n\n/train",
        "<img src=x>\n\n/train",
        "set <value> first\n/train",
        "a<br>\n/train",
        "text  \n/train",
        "text\\\n/train",
        "\ufeff/train",
        "# Title\n/train",
        "***\n/train",
        "[^1]: note\n\n/train",
        "$$ x $$\n/train",
        "cost: $5\n/train",
        "| a |\n|---|\n| b |\n\n/train",
    ],
)
def test_what_stands_after_such_a_place_is_one(body: str) -> None:
    assert train(body).line == "/train"


@pytest.mark.parametrize(
    ("line", "tip"),
    [
        ("/Train lr=1", "/train lr=1"),
        ("\uff0ftrain lr=1", "/train lr=1"),
        ("/train Cancel", "/train cancel"),
        ("/train cancel now", "/train cancel"),
        ("/train cancle", "/train cancel"),
        ("/train stop", "/train cancel"),
        ("/train --help", "/train help"),
        ("/train STATUS", "/train status"),
        ("/train lr = 0.1", "/train lr=0.1"),
        ("/train lr =0.1", "/train lr=0.1"),
        ("/train lr= 0.1", "/train lr=0.1"),
        ("/train lr: 0.1", "/train lr=0.1"),
        ("/train lr:0.1", "/train lr=0.1"),
        ("/train lr 0.1 epochs 3", "/train lr=0.1 epochs=3"),
        ("/train --lr 0.1", "/train lr=0.1"),
        ("/train --lr=0.1 -x 'a b'", '/train lr=0.1 x="a b"'),
        ("/train --lr -0.1", "/train lr=-0.1"),
        ("/train --augment --fresh", "/train augment=true --fresh"),
        ("/train --engin docker", "/train --engine docker"),
        ("/train --Engine=docker", "/train --engine=docker"),
        ("/train -fresh", "/train --fresh"),
        ("/train --fresh=true", "/train --fresh"),
        ("/train \u2014engine docker", "/train --engine docker"),
        ("/train lr=0.1 deadbeef", "/train deadbeef lr=0.1"),
        ("/train --engine deadbeef 1234567", "/train 1234567 --engine deadbeef"),
        ("/train https://github.com/a/b/pull/1/commits/deadbeef", "/train deadbeef"),
        ("/train `lr=0.1`", "/train lr=0.1"),
        ("/train note=\u201ca b\u201d", '/train note="a b"'),
        ("/train note=\u2018a b\u2019 x=1", '/train note="a b" x=1'),
        ('/train note=\u201esay "a" \\ b\u201c', "/train note='say \"a\" \\ b'"),
        ("/train note=\u201ca b", '/train note="a b"'),
        ('/train note="a b', '/train note="a b"'),
        ("/train note=don't", '/train note="don\'t"'),
        ("/train lr=1\u200b", "/train lr=1"),
        ("/train lr=1\x07", "/train lr=1"),
        ("/train note='a\u2028b'", "/train note=ab"),
        ("/train note=\u201ca\\\\b\u201d", "/train note='a\\\\b'"),
        ("/train foo", "/train help"),
        ("/train https://example.com", "/train help"),
        ("/train -p", "/train help"),
        ("/train --engine", "/train help"),
        ("/train --engine a --engine b", "/train help"),
        ("/train 1a=2", "/train help"),
        ("/train deadbeef 1234567", "/train help"),
        ("/train lr=1 \\", ""),
        ("/promote m 1.2.0 production", "/promote m@1.2.0 production"),
        ("/promote m @v1.2.0 production", "/promote m@v1.2.0 production"),
        ("/promote m@1.2.0 to production", "/promote m@1.2.0 production"),
        ("/promote m@1.2.0", "/promote m@1.2.0 production"),
        ("/Promote m@1.2.0 b", "/promote m@1.2.0 b"),
        ("/promote", ""),
        ("/promote m production", ""),
        ("/promote m@1.2 production", ""),
        ("/promote m@01.2.0 production", ""),
        ("/promote a/b@1.2.0 production", ""),
        ("/promote m@1.2.0 a#1", ""),
        ("/promote m@1.2.0 a b", ""),
    ],
)
def test_a_mistake_comes_with_the_line_to_type(line: str, tip: str) -> None:
    found = mistake(line)
    assert (found.tip, found.line) == (tip, line)
    assert found.message
    assert not tip or not isinstance(only(tip), Mistake)


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = mistake("/Train lr: 0.1 deadbeef --frsh")
    assert found.tip == "/train deadbeef lr=0.1 --fresh"
    assert found.message.count(";") == 3


def test_more_than_ten_commands_are_one_mistake() -> None:
    assert len(commands("/train\n" * 10)) == 10
    assert len(commands("/train\n" * 11)) == 1
    assert mistake("/train lr=1\n" * 5000).message == "5000 commands in one comment are too many"


def test_more_than_a_hundred_words_are_a_mistake() -> None:
    assert "20000 words" in mistake("/train " + "x=1 " * 20_000).message


@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "*a_",
        "> ",
        "`",
        "![[",
        "<",
        "- ",
        "\\",
        "&",
        "<!--",
        "<b>",
        "~~a",
        "$$\n",
        "[^1]:\n\n",
        "'",
        "\u201c",
    ],
)
def test_the_worst_comment_that_fits_is_read_in_seconds(piece: str) -> None:
    body = "/train " + piece * (65_000 // len(piece))
    started_s = time.perf_counter()
    assert len(commands(body)) == 1
    assert time.perf_counter() - started_s < 20


_HARD = st.text(
    st.one_of(
        st.sampled_from("/train promote \n\t\r`~>*_-=[]()<>!$\\'\"#|:@\u201c\u2019\u2014\u200b\u00a0"),
        st.characters(),
    )
)
_VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]))


@given(
    st.lists(st.one_of(_HARD, st.sampled_from(["\n/train ", "\n/promote ", "\n\n", "```\n", "> ", "<!--"])))
)
def test_no_text_makes_it_fail_and_every_tip_can_be_typed(pieces: list[str]) -> None:
    for command in commands("".join(pieces)):
        if isinstance(command, Mistake) and command.tip:
            assert not isinstance(only(command.tip), Mistake)


@given(_HARD)
def test_every_line_that_is_mended_is_mended_for_good(text: str) -> None:
    assume("\n" not in text and "\r" not in text)
    for command in commands(f"/train {text}"):
        if isinstance(command, Mistake) and command.tip:
            assert not isinstance(only(command.tip), Mistake)


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,9}", fullmatch=True), _VALUES)
def test_any_value_can_be_quoted_by_the_rules_of_a_shell(name: str, value: str) -> None:
    assert train(f"/train {name}={shlex.quote(value)}").overrides == (f"{name}={value}",)


@given(st.lists(_VALUES))
def test_what_is_quoted_is_split_into_the_same_words(words: list[str]) -> None:
    read = split(" ".join(quoted(word) for word in words))
    assert (read.words, read.problems) == (tuple(words), ())


_BODIES = st.lists(
    st.sampled_from(["/train", "/train lr=1", "/promote a@1.0.0 b", "", "text", "* x", "---"]), min_size=1
)


@given(_BODIES)
def test_nothing_in_a_quote_or_a_fence_is_a_command(lines: list[str]) -> None:
    assert commands("\n".join(f"> {line}" for line in lines)) == ()
    assert commands("\n".join(["````", *lines, "````"])) == ()
    assert commands("\n".join(["<!--", *lines, "-->"])) == ()
    assert commands("\n".join(["<details>", "", *lines, "", "</details>"])) == ()
