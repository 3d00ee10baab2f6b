"""What one reader costs that follows very many ranks, and whether it loses a line.

A writer fills the streams of a run folder with 20 lines a second of each rank, as the supervisor of such a gang would,
and `pushtrain logs --follow` reads them from there.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.gangs import PUSHTRAIN
from bench.pairs import load
from bench.scale import Cost, until
from runner import runs
from runner.runs import Run, State
from runner.store import Store, open_store

PER_S, TICK_S, WRITTEN_S, IDLE_S = 20, 0.1, 10.0, 5.0
LATE_S = 20.0
LINE = re.compile(r"\[rank (\d+)\] line (\d+) (\d+\.\d+) of")


@dataclass(kw_only=True)
class Came:
    """What the reader printed: numbers of lines by rank, and how late each was."""

    numbers: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    late_s: list[float] = field(default_factory=list)

    def read(self, child: subprocess.Popen[str]) -> None:
        """All of it, until the reader ends."""
        assert child.stdout is not None
        for text in child.stdout:
            if found := LINE.match(text):
                self.late_s.append(time.time() - float(found[3]))
                self.numbers[int(found[1])].append(int(found[2]))


def bench_logs(folder: Path, *, ranks: int) -> None:
    """Print it for a gang of so many."""
    store = open_store(str(folder))
    run = _begin(store, ranks)
    paths = [folder / runs.log_key(run.id, attempt=1, rank=rank) for rank in range(ranks)]
    environ = {**os.environ, "PUSHTRAIN_STORE": str(folder), "PUSHTRAIN_HOME": f"{folder}-home"}
    argv = (PUSHTRAIN, "logs", "--follow", run.id)
    child, came = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True), Came()
    reading = threading.Thread(target=came.read, args=(child,))
    reading.start()
    # A line of each comes before anything is measured: what a reader imports is no matter of ranks.
    written = _write(paths, first=0, seconds=TICK_S)
    until(lambda: len(came.numbers) == ranks, "a line of each rank")
    came.late_s.clear()
    began, began_s = Cost.of(child.pid), time.monotonic()
    written = _write(paths, first=written, seconds=WRITTEN_S)
    took_s = time.monotonic() - began_s
    busy = Cost.of(child.pid)
    _until_read(came, written * ranks)
    read = Cost.of(child.pid)
    time.sleep(IDLE_S)
    idle = Cost.of(child.pid)
    runs.move(store, run.id, State.SUCCEEDED, at_s=time.time(), exit_code=0)
    child.wait()
    reading.join()
    lost = ranks * written - sum(map(len, came.numbers.values()))
    in_order = all(came.numbers[rank] == list(range(written)) for rank in range(ranks))
    late_s = sorted(came.late_s)
    whole = "none lost, all in order" if in_order else f"{lost} LOST"
    print(
        f"{ranks} ranks' logs, {ranks * PER_S} lines a second: {whole}; "
        f"the reader takes {(busy.cpu_s - began.cpu_s) / took_s * 100:.0f} % of a core, "
        f"{(read.cpu_s - began.cpu_s) / (ranks * written) * 1e6:.0f} us a line, "
        f"{(idle.cpu_s - read.cpu_s) / IDLE_S * 100:.0f} % while nothing comes, {read.memory_mib:.0f} MiB; "
        f"lines are {late_s[len(late_s) // 2] * 1000:.0f} ms late, "
        f"95 % within {late_s[len(late_s) * 95 // 100] * 1000:.0f} ms ({load()})",
        flush=True,
    )


def _begin(store: Store, ranks: int) -> Run:
    now_s = time.time()
    run = Run(
        id=runs.new_id(now_s=now_s),
        name="many",
        engine="local",
        plan_hash="0" * 64,
        state=State.RUNNING,
        created_at_s=now_s,
        world_size=ranks,
        attempts=(runs.Attempt(number=1, started_at_s=now_s),),
        # Taken to live by who is on another machine.
        supervisor=runs.Supervisor(host="elsewhere", pid=1),
    )
    return runs.create(store, run)


def _write(paths: list[Path], *, first: int, seconds: float) -> int:
    """Lines of all streams at their pace; the number of the next one."""
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    each, number = round(PER_S * TICK_S), first
    files = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for path in paths]
    due_s = time.monotonic()
    for _ in range(round(seconds / TICK_S)):
        due_s += TICK_S
        for file in files:
            now_s = time.time()
            lines = (
                f"line {n} {now_s:.6f} of what a training prints: loss 0.1\n"
                for n in range(number, number + each)
            )
            os.write(file, "".join(lines).encode())
        number += each
        time.sleep(max(0.0, due_s - time.monotonic()))
    for file in files:
        os.close(file)
    return number


def _until_read(came: Came, lines: int) -> None:
    deadline_s = time.monotonic() + LATE_S
    while sum(map(len, came.numbers.values())) < lines and time.monotonic() < deadline_s:
        time.sleep(TICK_S)
