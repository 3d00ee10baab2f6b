"""A command on a terminal -> an SVG of what it printed: `python docs/pictures/draw.py FILE.svg COMMAND…`.

Nothing is drawn by hand: the command runs on a pseudo terminal of a fixed width, and its colours become the picture's.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

COLUMNS, ROWS = 112, 60
# A spinner clears its line before anything is printed there, and a spinner that is cleared is not in the picture.
_CLEAR = "\x1b[2K"
_CURSOR = re.compile(r"\x1b\[\??[0-9;]*[A-HJKSTfhl]")


def output(command: list[str]) -> str:
    """What the command writes to a terminal, colours included. Blocks until it ends."""
    child, terminal = pty.fork()
    if child == 0:
        settings = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        os.execvpe(command[0], command, {**os.environ, **settings})  # noqa: S606  # what was asked for
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b"".join(iter(lambda: _read(terminal), b""))
    os.waitpid(child, 0)
    return written.decode(errors="replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # The command ended and its end of the terminal is closed.
        return b""


def lines(written: str) -> list[str]:
    """The lines that stay on the screen, without those of a spinner."""
    spinner = re.compile("[\u2800-\u28ff] ")
    kept = [_CURSOR.sub("", line.rpartition(_CLEAR)[2]).strip("\r") for line in written.split("\r\n")]
    return [line for line in kept if not spinner.match(Text.from_ansi(line).plain)]


def main(argv: list[str]) -> int:
    """Run the command and write the picture."""
    picture, command = Path(argv[0]), argv[1:]
    written = output(command)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=COLUMNS, force_terminal=True, color_system="truecolor", file=nowhere
        )
        console.print(Text.assemble(("$ ", "green"), (shlex.join(command), "bold")))
        for line in lines(written):
            console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
        console.save_svg(str(picture), title="Terminal", theme=DIMMED_MONOKAI)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
