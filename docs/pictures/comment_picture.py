"""Markdown of a comment -> a picture of it on GitHub: `python docs/pictures/comment_picture.py FILE.md FILE.png`.

Nothing is drawn by hand: the Markdown becomes HTML by GitHub's own parser, has GitHub's style sheet, its charts are
drawn by Mermaid, and Debian's `chromium` takes the picture, without a network. Fonts come with the packages, so the
picture does not depend on those of the machine. Needs npm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cmarkgfm
from cmarkgfm.cmark import Options

WIDTH_PX, SCALE = 1000, 2
# The tests hold every chart against a version of Mermaid; the picture is drawn by the same.
MERMAID = re.compile(r"^ *(mermaid@[\d.]+)$", re.MULTILINE)
TESTED = Path(__file__).parents[2] / "tests" / "services" / "node"
PACKAGES = (
    "github-markdown-css@5.9.0",
    "@primer/octicons@19.42.0",
    "@fontsource/noto-sans@5.3.0",
    "@fontsource/dejavu-mono@5.3.0",
    "@fontsource/noto-color-emoji@5.3.2",
)
SHEETS = (
    "github-markdown-css/github-markdown-light.css",
    *(f"@fontsource/noto-sans/{weight}.css" for weight in (400, 600, 700)),
    "@fontsource/dejavu-mono/400.css",
    "@fontsource/dejavu-mono/700.css",
    "@fontsource/noto-color-emoji/emoji.css",
)
PAGE = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src file: data: 'unsafe-inline'">
{sheets}
<style>
  body {{ margin: 0; padding: 16px; background: #fff; display: flex; gap: 16px; align-items: flex-start; }}
  body, .markdown-body {{ font-family: "Noto Sans", "Noto Color Emoji", "DejaVu Mono"; font-size: 14px; }}
  .markdown-body :is(code, pre) {{ font-family: "DejaVu Mono", "Noto Color Emoji"; }}
  .face {{ flex: none; width: 40px; height: 40px; border-radius: 50%; background: #2088ff; }}
  .face svg {{ width: 22px; height: 22px; margin: 9px; fill: #fff; }}
  .box {{ flex: 1; min-width: 0; border: 1px solid #d1d9e0; border-radius: 6px; color: #59636e; }}
  .who {{ padding: 8px 16px; background: #f6f8fa; border-bottom: 1px solid #d1d9e0; border-radius: 6px 6px 0 0; }}
  .who b {{ color: #1f2328; font-weight: 600; }}
  .who i {{ border: 1px solid #d1d9e0; border-radius: 2em; padding: 0 7px; font: 500 12px/18px "Noto Sans"; }}
  .markdown-body {{ padding: 16px; border-radius: 6px; }}
  .chart {{ margin-bottom: 16px; text-align: center; }}
</style>
<div class="face">{face}</div>
<div class="box">
  <div class="who"><b>github-actions</b> <i>bot</i> commented</div>
  <div class="markdown-body">{body}</div>
</div>
<script src="node_modules/mermaid/dist/mermaid.min.js"></script>
<script>
  (async () => {{
    mermaid.initialize({{ startOnLoad: false, theme: "default", fontFamily: '"Noto Sans"' }});
    // Mermaid measures its texts, and a closed part of the comment has no size.
    await Promise.all([...document.fonts].map((font) => font.load()));
    await mermaid.run({{ querySelector: ":not(details) > .chart" }});
    document.documentElement.dataset.height = Math.ceil(document.body.getBoundingClientRect().height);
  }})();
</script>
"""
_CHART = re.compile(r'<pre lang="mermaid"><code>(.*?)</code></pre>', re.DOTALL)


def page(markdown: str, face: str) -> str:
    """The whole HTML, to lie beside `node_modules`. As in GitHub's comments, the end of a line is the end of a line."""
    options = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_HARDBREAKS | Options.CMARK_OPT_GITHUB_PRE_LANG
    render: Callable[..., str] = cmarkgfm.github_flavored_markdown_to_html
    body = render(markdown, options=options)
    sheets = "\n".join(f'<link rel="stylesheet" href="node_modules/{sheet}">' for sheet in SHEETS)
    return PAGE.format(sheets=sheets, face=face, body=_CHART.sub(r'<div class="chart">\1</div>', body))


def install(work: Path) -> None:
    """Get the packages from npm into `node_modules`; no script of theirs is run."""
    mermaid = MERMAID.search(TESTED.read_text())
    if mermaid is None:
        raise SystemExit(f"{TESTED} names no version of mermaid")
    command = ["npm", "install", "--prefix", str(work), "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run([*command, *PACKAGES, mermaid[1]], check=True, stdout=sys.stderr)


def chromium(work: Path, *arguments: str) -> str:
    """Open the page; returns what the browser printed. Time is virtual: it waits until the page has nothing to do."""
    command = ["chromium", "--headless", "--disable-gpu"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]
    command += ["--allow-file-access-from-files", "--hide-scrollbars", "--virtual-time-budget=20000"]
    command += [f"--force-device-scale-factor={SCALE}", "--force-color-profile=srgb"]
    if os.geteuid() == 0:  # Chromium's sandbox is not for root.
        command.append("--no-sandbox")
    command += [*arguments, (work / "page.html").as_uri()]
    opened = subprocess.run(command, env={**os.environ, "HOME": str(work)}, capture_output=True, text=True)
    # Its messages are about services of a desktop, as long as it ends well.
    if opened.returncode != 0:
        raise SystemExit(opened.stderr)
    return opened.stdout


def main(argv: list[str]) -> int:
    """Draw the comment. Takes half a minute."""
    markdown, picture = Path(argv[0]), Path(argv[1])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        install(work)
        face = (work / "node_modules/@primer/octicons/build/svg/workflow-24.svg").read_text()
        (work / "page.html").write_text(page(markdown.read_text(), face))
        drawn = chromium(work, f"--window-size={WIDTH_PX},800", "--dump-dom")
        height = re.search(r'data-height="(\d+)"', drawn)
        if height is None:
            raise SystemExit("the page did not come to its end: a chart that Mermaid does not draw?")
        taken = work / "taken.png"
        chromium(work, f"--window-size={WIDTH_PX},{height[1]}", f"--screenshot={taken}")
        shutil.copyfile(taken, picture)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
