"""The documents: their links lead somewhere, and what they list is what there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner import cli, errors, spec
from runner.errors import PushtrainError
from runner.github.permissions import FEATURES, Feature
from runner.workflows import PERMISSIONS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
)
MARKDOWN = MarkdownIt("commonmark").enable("table")


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def parsed(path: Path) -> list[Token]:
    return MARKDOWN.parse(path.read_text())


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings: https://github.com/gjtorikian/html-pipeline, table_of_contents_filter.rb"""
    tokens = parsed(path)
    found: dict[str, int] = {}
    made = set()
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = "".join(each.content for each in inline.children or [] if each.type in ("text", "code_inline"))
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return made


def links(path: Path) -> Iterator[str]:
    for token in flat(parsed(path)):
        for name in ("href", "src"):
            if link := token.attrGet(name):
                yield str(link)
        if token.type in ("html_block", "html_inline"):
            yield from re.findall(r"\b(?:href|src)=\"([^\"]+)\"", token.content)


def faults(path: Path) -> Iterator[str]:
    for link in links(path):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.exists() or not target.is_relative_to(ROOT):
            yield f"{link}: there is no such file"
        elif parts.fragment and unquote(parts.fragment) not in anchors(target):
            yield f"{link}: there is no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(path: Path) -> None:
    assert list(faults(path)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "b.md").write_text("# `A` b, c-d!\n# A b c-d\n")
    good = "[a](b.md#a-b-c-d) [a](b.md#a-b-c-d-1) [a](#here) [a](b.md) [a](https://example.com/x)"
    bad = '[a](c.md) [a](b.md#a-b-c-d-2) ![a](c.png) [a](#there) <a href="d.md">d</a>'
    (tmp_path / "a.md").write_text(f"# Here\n\n{good}\n\n{bad}\n")
    found = [fault.partition(":")[0] for fault in faults(tmp_path / "a.md")]
    assert found == ["c.md", "b.md#a-b-c-d-2", "c.png", "#there", "d.md"]


# What is shown


SHOWN = [
    pytest.param(token.content, id=f"{path.name}:{token.map[0] + 1}")
    for path in DOCUMENTS
    for token in parsed(path)
    if token.type == "fence" and token.info == "yaml" and token.content.startswith("name:") and token.map
]


@pytest.mark.parametrize("text", SHOWN)
def test_every_whole_train_yml_is_one(text: str) -> None:
    assert spec.parse(text).name


# What is listed


def rows(path: Path, heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, up to the next one."""
    text = path.read_text().partition(f"\n{heading}\n")[2]
    text = re.split(r"^#+ ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for line in lines
    ]


def commands(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield f"{path}{name}", below
                yield from commands(below, f"{path}{name} ")


COMMANDS = dict(commands(cli.parser()))


def options(parser: argparse.ArgumentParser) -> list[list[str]]:
    found = [list(action.option_strings) for action in parser._actions if action.option_strings]
    return [names for names in found if not {"--help", "--store"} & set(names)]


def documented() -> dict[str, set[str]]:
    """Each command of the table of reference.md with the options that its rows name."""
    found: dict[str, set[str]] = {}
    for row in rows(ROOT / "docs/reference.md", "## Commands"):
        said = re.findall(r"`([^`]+)`", row[0])
        for usage in said:
            name = max((each for each in COMMANDS if f"{usage} ".startswith(f"{each} ")), key=len)
            words = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join((usage, *row[1:])))
            found[name] = found.get(name, set()) | set(words)
    return found


def test_the_reference_names_every_command_and_no_other() -> None:
    assert documented().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_names_every_option_of_a_command_and_no_other(name: str) -> None:
    named = documented()[name]
    there = options(COMMANDS[name])
    assert [names for names in there if not named & set(names)] == []
    assert named - {each for names in there for each in names} == set()


@pytest.mark.parametrize(("path", "command"), [("github.md", "init"), ("signatures.md", "models verify")])
def test_a_page_names_the_options_of_its_command(path: str, command: str) -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / path).read_text()))
    missing = [
        names for names in options(COMMANDS[command]) if not any(f"{name} " in f"{code} " for name in names)
    ]
    assert missing == []


def kinds(of: type[PushtrainError] = PushtrainError) -> Iterator[type[PushtrainError]]:
    yield of
    for below in of.__subclasses__():
        yield from kinds(below)


@pytest.mark.parametrize(
    ("path", "heading"), [("docs/reference.md", "## Exit codes"), ("README.md", "## Exit codes")]
)
def test_every_exit_code_of_an_error_is_listed(path: str, heading: str) -> None:
    listed = {int(row[0]) for row in rows(ROOT / path, heading) if row[0].isdigit()}
    ours = {each.exit_code for each in kinds() if each.__module__ == errors.__name__}
    assert ours - {70} <= listed  # 70 is a fault of ours, which README.md leaves out


@pytest.mark.parametrize("part", ["inputs", "outputs"])
@pytest.mark.parametrize("action", ["action.yml", "container/action.yml"])
def test_what_the_actions_take_and_give_is_told(action: str, part: str) -> None:
    said = {
        name
        for row in rows(ROOT / "docs/github.md", "## By hand")
        for name in re.findall(r"`([a-z-]+)`", row[0])
    }
    assert yaml.safe_load((ROOT / action).read_text())[part].keys() <= said


# Permissions


def permissions() -> dict[str, list[str]]:
    """The table of docs/github.md: each permission with the cells after it."""
    found = rows(ROOT / "docs/github.md", "## Permissions, and why")
    return {row[0].strip("`").partition(":")[0]: row for row in found if row[0].startswith("`")}


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_the_permission_of_a_feature_is_told(feature: Feature) -> None:
    name, _, access = feature.permission.partition(": ")
    if name == "metadata":  # of every token, so that no workflow names it
        assert f"`{feature.permission}`" in (ROOT / "docs/github.md").read_text()
        return
    row = permissions()[name]
    assert access in " ".join(row)
    assert re.search(rf"\b{feature.name}\b", row[-2]), f"{feature.name} is not named: {row[-2]}"


def test_an_app_is_given_the_permissions_of_every_feature() -> None:
    (said,) = re.findall(
        r"App has the repository permissions ([^:]+): read and write", (ROOT / "docs/github.md").read_text()
    )
    needed = {feature.permission.partition(":")[0] for feature in FEATURES} - {"metadata", "id-token"}
    assert {each.lower().replace(" ", "-") for each in said.split(", ")} == needed


def test_the_table_of_permissions_is_that_of_the_workflows() -> None:
    table = permissions()
    assert set(table) == {each.name for each in PERMISSIONS}
    for each in PERMISSIONS:
        assert each.access in " ".join(table[each.name][:2]), each
