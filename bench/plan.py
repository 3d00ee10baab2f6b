"""`pushtrain plan` in a repository of 50,000 files against `git ls-tree -r HEAD`: pairs -> medians and their ratio.

python -m bench.plan [--files 50000] [--pairs 11] [--keep FOLDER]
The repository has a dozen files a folder, three folders deep, and is packed as a clone would be. With --keep it
is made in FOLDER and used again. The time of looking at the source alone (no train.yml) is printed beside.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WANTED_RATIO = 3.0
FILES_A_FOLDER = 12
LOOK = "from pathlib import Path; from runner import repository; repository.inspect(Path('.'))"


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, stdout=subprocess.DEVNULL)


def make_repository(folder: Path, files: int) -> None:
    git(folder, "init", "-q", "-b", "main")
    (folder / "train.yml").write_text("name: bench\nrun: python train.py\n")
    for number in range(files - 1):
        module = number // FILES_A_FOLDER
        place = (
            folder
            / f"package_{module // 240:02d}"
            / f"part_{module // 12 % 20:02d}"
            / f"module_{module % 12:02d}"
        )
        place.mkdir(parents=True, exist_ok=True)
        (place / f"source_file_{number:05d}.py").write_text(f"x = {number}\n" * 20)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    git(folder, "gc", "-q")
    git(folder, "status")  # writes the times of the files into the index, as any use of the repository does


def seconds(argv: list[str], folder: Path, env: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, cwd=folder, env=env, check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - start


def measure(folder: Path, home: str, *, pairs: int) -> float:
    """Prints the medians and returns the ratio of `plan` to `ls-tree`; the first round is not counted."""
    commands = {
        "git ls-tree -r HEAD": ["git", "ls-tree", "-r", "HEAD"],
        "the source alone": [sys.executable, "-c", LOOK],
        "pushtrain plan": [str(Path(sys.executable).with_name("pushtrain")), "plan", str(folder)],
    }
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = {**kept, "PUSHTRAIN_HOME": home, "PYTHONPATH": str(Path(__file__).parent.parent)}
    rounds = [[seconds(argv, folder, env) for argv in commands.values()] for _ in range(pairs + 1)][1:]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    for name, median in zip(commands, medians, strict=True):
        print(f"{name:20} {median * 1000:8.1f} ms   {median / medians[0]:5.1f} x")
    ratio: float = medians[-1] / medians[0]
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary) / "repository"
        if not (folder / ".git").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            make_repository(folder, chosen.files)
        ratio = measure(folder, f"{temporary}/home", pairs=chosen.pairs)
    verdict = "reached" if ratio <= WANTED_RATIO else "missed"
    print(f"ratio {ratio:.1f}, wanted at most {WANTED_RATIO:.0f}: {verdict}")


if __name__ == "__main__":
    main()
