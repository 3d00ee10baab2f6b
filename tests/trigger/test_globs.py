import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.trigger.globs import matches

# The examples of GitHub's cheat sheet: patterns, what they match, what they do not.
# https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet
BRANCHES = [
    (["feature/*"], ["feature/my-branch", "feature/your-branch"], ["feature/a/b", "feature", "my-feature/x"]),
    (
        ["feature/**"],
        ["feature/beta-a/my-branch", "feature/your-branch", "feature/mona/the/octocat"],
        ["feature"],
    ),
    (
        ["main", "releases/mona-the-octocat"],
        ["main", "releases/mona-the-octocat"],
        ["Main", "main2", "releases"],
    ),
    (["*"], ["main", "releases"], ["all/the/branches"]),
    (["**"], ["all/the/branches", "every/tag"], []),
    (["*feature"], ["mona-feature", "feature", "ver-10-feature"], ["feature-2", "a/feature"]),
    (["v2*"], ["v2", "v2.0", "v2.9"], ["v1", "av2", "v2/x"]),
    (["v[12].[0-9]+.[0-9]+"], ["v1.10.1", "v2.0.0"], ["v3.0.0", "v1.0", "v1x0x1", "v1.0.0-rc1", "v1.."]),
]
PATHS = [
    (["*"], ["README.md", "server.rb"], ["docs/README.md"]),
    (["*.jsx?"], ["page.js", "page.jsx"], ["page.jsxx", "page.ts"]),
    (["**"], ["all/the/files.md"], []),
    (["*.js"], ["app.js", "index.js"], ["src/app.js", "app.jsx"]),
    (["**.js"], ["index.js", "js/index.js", "src/js/app.js"], ["index.ts"]),
    (["docs/*"], ["docs/README.md", "docs/file.txt"], ["docs/a/b.md", "docs"]),
    (["docs/**"], ["docs/README.md", "docs/mona/octocat.txt"], ["src/docs/x"]),
    (
        ["docs/**/*.md"],
        ["docs/README.md", "docs/mona/hello-world.md", "docs/a/markdown/file.md"],
        ["docs.md"],
    ),
    (["**/docs/**"], ["docs/hello.md", "dir/docs/my-file.txt", "space/docs/plan/space.doc"], ["mydocs/x"]),
    (["**/README.md"], ["README.md", "js/README.md"], ["MYREADME.md", "js/README.md/x"]),
    (["**/*src/**"], ["a/src/app.js", "my-src/code/js/app.js"], ["src2/app.js"]),
    (["**/*-post.md"], ["my-post.md", "path/their-post.md"], ["post.md"]),
    (
        ["**/migrate-*.sql"],
        ["migrate-10909.sql", "db/migrate-v1.0.sql", "db/sept/migrate-v1.sql"],
        ["db/migrate/x.sql"],
    ),
    (["*.md", "!README.md"], ["hello.md"], ["README.md", "docs/hello.md"]),
    (["*.md", "!README.md", "README*"], ["hello.md", "README.md", "README.doc"], []),
]
# What the cheat sheet's rules say of the corners.
CORNERS = [
    (["[CB]at"], ["Cat", "Bat"], ["cat", "CBat"]),
    (["[1-2]00", "[a-cX]"], ["100", "200", "b", "X"], ["300", "d", "-"]),
    (["[0-9a-z]"], ["7", "q"], ["Q", ""]),
    ([r"a\*b", r"\!c"], ["a*b", "!c"], ["axb", "c"]),
    (["a!b"], ["a!b"], []),
    (["ab+c?"], ["ab", "abbb", "abc"], ["a", "abcc"]),
    (["x[ab]?y", "z[0-9]?"], ["xy", "xay", "z", "z1"], ["xaby", "z12"]),
    (["+a", "?"], ["+a", "?"], ["a", ""]),
    (["*+b", "**?c"], ["b", "aab", "c", "a/c"], ["a/b"]),
    (["!main"], [], ["main", "other"]),
    (["**", "!**/x"], ["y"], ["x", "a/x"]),
    (["a.c"], ["a.c"], ["abc"]),
    (["(a|b)$", "[", "[]"], ["(a|b)$", "[", "[]"], ["a"]),
    (["notes [draft].md"], ["notes d.md"], ["notes [draft].md"]),
    (["x**/y"], ["xa/y", "x/y", "xa/b/y"], ["xy"]),
    (["\u00e9*"], ["\u00e9t\u00e9"], ["ete"]),
]


@pytest.mark.parametrize(("patterns", "those", "others"), [*BRANCHES, *PATHS, *CORNERS])
def test_patterns_match_as_githubs_cheat_sheet_says(
    patterns: list[str], those: list[str], others: list[str]
) -> None:
    assert [name for name in those if not matches(patterns, name)] == []
    assert [name for name in others if matches(patterns, name)] == []


def test_without_patterns_everything_passes() -> None:
    assert matches((), "main")


@pytest.mark.parametrize("pattern", ["**a" * 40 + "b", "a?" * 60 + "b", "[ab]+" * 60 + "c", "*" * 200 + "b"])
def test_no_pattern_is_slow(pattern: str) -> None:
    started_s = time.perf_counter()
    assert not matches([pattern], "a" * 500)
    assert time.perf_counter() - started_s < 2


@given(st.lists(st.text("ab/*?+[]!\\-1", max_size=12), max_size=4), st.text("ab/*1!", max_size=12))
def test_no_pattern_makes_it_fail(patterns: list[str], name: str) -> None:
    matches(patterns, name)


@given(st.text("ab/*.", min_size=1, max_size=10), st.text("ab/.", max_size=10))
def test_wildcards_are_those_of_a_regular_expression(pattern: str, name: str) -> None:
    parts = re.findall(r"(?:(?<=/)|^)\*\*/|\*\*|\*|[^*]", pattern)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    expression = "".join(words.get(part) or re.escape(part) for part in parts)
    assert matches([pattern], name) == bool(re.fullmatch(expression, name))


@given(st.text(min_size=1, max_size=20))
def test_every_name_can_be_written_with_backslashes(name: str) -> None:
    assert matches(["".join(f"\\{char}" for char in name)], name)
