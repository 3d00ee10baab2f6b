"""What Pushtrain adds to a command: `--help`, a run that does nothing, and a run after a change of one line.

python -m bench.runs [--pairs 7] [--docker IMAGE]
With --docker the same on the engine docker, against `docker run --rm` of the same image and against
`docker build` with a COPY of the source; IMAGE needs Python and has to be on this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from random import Random

from bench.pairs import report, seconds
from runner.environment.builder import find_builder

PUSHTRAIN = str(Path(sys.executable).with_name("pushtrain"))


def git(folder: Path, *arguments: str) -> None:
    """Run git in the folder as nobody in particular."""
    seconds(("git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", *arguments), folder=folder)


def repository(folder: Path, environment: str, *, files: int = 50, lines: int = 40) -> Path:
    """A repository whose training does nothing, beside `files` modules of `lines` lines of text."""
    folder.mkdir(parents=True)
    (folder / "train.py").write_text("pass\n")
    (folder / "train.yml").write_text(
        f"name: nothing\nrun: python3 train.py\npolicy: {{reuse: false}}\nenvironment: {environment}\n"
    )
    random = Random(files)
    for number in range(files):
        module = folder / f"package_{number % 20}" / f"module_{number}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text("".join(f"x{random.random()} = {random.random()}\n" for _ in range(lines)))
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "all")
    return folder


def bench_help(pairs: int) -> None:
    """`pushtrain --help` against an interpreter that does nothing."""
    rounds = [
        (seconds((PUSHTRAIN, "--help")), seconds((sys.executable, "-c", "pass"))) for _ in range(pairs + 1)
    ][1:]
    report("pushtrain --help", *zip(*rounds, strict=True), wanted="at most +120 ms")


def bench_local(folder: Path, env: dict[str, str], pairs: int) -> None:
    """A warm run on the engine local against the bare script in the same venv."""
    source = repository(folder / "local", "{}")
    seconds((PUSHTRAIN, "run", str(source)), env=env)
    venv = next((Path(env["PUSHTRAIN_HOME"]) / "envs").glob("*/bin/python"))
    bare = (str(venv), str(source / "train.py"))
    rounds = [(seconds((PUSHTRAIN, "run", str(source)), env=env), seconds(bare)) for _ in range(pairs)]
    report("warm run, local", *zip(*rounds, strict=True), wanted="at most +1000 ms")


def bench_docker(folder: Path, env: dict[str, str], image: str, pairs: int) -> None:
    """A warm run on the engine docker against `docker run`, then after a change against build and run."""
    source = repository(folder / "docker", f'{{image: "{image}"}}')
    ours = (PUSHTRAIN, "run", str(source), "--engine", "docker")
    seconds(ours, env=env)
    plain = ("docker", "run", "--rm", "-v", f"{source}:/w:ro", "-w", "/w", image, "python3", "train.py")
    rounds = [(seconds(ours, env=env), seconds(plain)) for _ in range(pairs)]
    report("warm run, docker", *zip(*rounds, strict=True), wanted="at most +1500 ms")


def bench_change(
    folder: Path, env: dict[str, str], image: str, pairs: int, *, files: int, lines: int
) -> None:
    """A run after a change of one line, docker, against `docker build` with a COPY by the same BuildKit, and run."""
    source = repository(folder / f"change-{files}", f'{{image: "{image}"}}', files=files, lines=lines)
    (source / "Dockerfile").write_text(f"FROM {image}\nWORKDIR /w\nCOPY . .\n")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "Dockerfile")
    builder = find_builder(os.environ)
    build = (*builder.command, "-q", "-t", "bench-changed", ".")
    ours = (PUSHTRAIN, "run", str(source), "--engine", "docker")
    changed: list[tuple[float, float]] = []
    for number in range(pairs + 1):
        (source / "train.py").write_text(f"x = {number}\n")
        git(source, "commit", "-qam", f"change {number}")
        theirs = seconds(build, folder=source, env=dict(builder.env))
        theirs += seconds(("docker", "run", "--rm", "bench-changed", "python3", "train.py"))
        changed.append((seconds(ours, env=env), theirs))
    size_mb = sum(path.stat().st_size for path in source.rglob("*.py")) / 1e6
    name = f"after a one-line change, docker, {files} files of {size_mb:.1f} MB"
    report(name, *zip(*changed[1:], strict=True), wanted="faster")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--docker", metavar="IMAGE")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        env = {"PUSHTRAIN_HOME": str(folder / "home")}
        bench_help(chosen.pairs)
        bench_local(folder, env, chosen.pairs)
        if chosen.docker:
            bench_docker(folder, env, chosen.docker, chosen.pairs)
            for files, lines in ((50, 40), (2000, 500)):
                bench_change(folder, env, chosen.docker, chosen.pairs, files=files, lines=lines)


if __name__ == "__main__":
    main()
