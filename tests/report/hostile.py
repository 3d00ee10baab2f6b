"""Text that a training, a branch or a metric may be made of to be taken for something else."""

from __future__ import annotations

from hypothesis import strategies as st

FRAGMENTS = (
    "@octo-cat", "@acme/admins", "#1", "GH-1", "acme/vision#7", "a1b2c3d4e5a1b2c3d4e5", "deadbeef",
    "https://evil.example/x?y", "www.evil.example", "mallory@evil.example", "javascript:alert(1)",
    "[click](https://evil.example)", "![x](https://evil.example/x.png)", "[x]: https://evil.example",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "</details>", "</summary>",
    "<!-- pushtrain:digits -->", "-->", "<!--", "&lt;b&gt;", "&#64;octo-cat", ":rocket:", ":+1:", "$x^2$",
    "$`x`$", "$$", "\\(x\\)", "[^1]", "[^1]: y", "`", "``", "```", "````\n", "~~~", "~~x~~", "**x**",
    "__x__", "*", "_", "\\", "\\|", "|", "||", "\n| a | b |\n|---|---|\n", "# x", "## ", "- x", "+ x",
    "1. x", "1)", "> x", "> [!NOTE]", "- [x] y", "---", "===", "    x", "\t", "\n", "\n\n", "\r", "\r\n",
    "::error::x", "::set-output name=x::y", "##[error]x", "%%{init: {}}%%", 'click A "x"', '"',
    "']\n line [1]", "\x1b[31mred\x1b[0m", "\x1b]8;;https://evil.example\x07x\x1b]8;;\x07", "\x1b[2J",
    "\x07", "\x00", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u2028", "\u0085", "\ud800",
    "\U000e0041", "Z\u0351\u0352\u0353\u0354\u0355", "é", "e\u0301", "名前", "שלום", "🚀", "nan", "1e300",
    "/train lr=1", "fixes", "x", " ", "  ",
)  # fmt: skip

TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=8)), max_size=8).map("".join)
