"""Images a second of a Horovod training: by us, and by `mpirun` by hand in the same image, in turns.

In turns, since at the same time what looks after our ranks would cost both sides alike. A rank computes in one thread,
and stays on one core of this machine, which ranks of all nodes share: where the kernel moves them about, one training
is faster than the same a minute later by more than what is looked for. Only epochs count in which all is traced, met
and in memory, the same number on both sides.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench import by_hand
from bench.gangs import Desk
from bench.pairs import load

EXAMPLE = Path(__file__).parents[1] / "examples" / "tf-mnist-horovod"

# The example's network, data and loop without what it keeps after every epoch; the first epochs trace and meet.
RATE_PY = """\
import os, time
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[int(os.environ["OMPI_COMM_WORLD_RANK"]) % len(cores)]})
import horovod.tensorflow as hvd
import horovod.tensorflow.keras as hvd_keras
import tensorflow as tf
import train
hvd.init()
tf.keras.utils.disable_interactive_logging()
digits = train.load_digits()
each = len(digits.target) // hvd.size()
mine = slice(hvd.rank() * each, (hvd.rank() + 1) * each)
data = train.batches(((digits.data[mine] / 16.0).astype("float32"), digits.target[mine]))
model = train.build()
train.compiled(model, hvd_keras.DistributedOptimizer(tf.keras.optimizers.SGD(0.05, momentum=0.9)))
model.fit(data, epochs=2, callbacks=[hvd_keras.callbacks.BroadcastGlobalVariablesCallback(0)])
for _ in range(int(os.environ["EPOCHS"])):
    began = time.time()
    model.fit(data, epochs=1)
    if hvd.rank() == 0:
        print("images", each // train.BATCH * train.BATCH * hvd.size(), began, time.time(), flush=True)
"""
# As we tell Open MPI too: ranks of all nodes share this machine's cores, which it cannot know.
YIELD = ("-mca", "mpi_yield_when_idle", "1")
ONE_THREAD = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")
WARMS_UP = 6
"""The first sixth of the epochs does not count."""
EPOCH = re.compile(r"images (\d+) (\d+\.\d+) (\d+\.\d+)")
Epochs = list[tuple[float, float, float]]
"""Images, beginning and end of each epoch."""


def bench_images(desk: Desk, image: str, *, pairs: int, epochs: int) -> None:
    """Print the ratio of each pair, and their median."""

    def gang(name: str, epochs: int) -> Path:
        return desk.repository(
            name,
            source(),
            run="python rate.py",
            environment={"base": image, "pip": "requirements.txt"},
            env=variables(epochs),
            resources={"nodes": 2},
            distribution={"type": "mpi", "processes_per_node": 1},
        )

    built = desk.train(gang("built", 1)).run["environment"]
    trained, ssh = gang("trained", epochs), by_hand.ssh_image(built, desk.folder / "ssh-images")

    def ours() -> Epochs:
        return read(desk.train(trained).logs[0])

    def theirs() -> Epochs:
        with by_hand.nodes(ssh, work=trained) as nodes:
            return read(nodes.mpirun(*command(epochs), per_node=1, settings=YIELD)[1])

    in_turns("tf-mnist-horovod, 2 nodes of one rank", ours, theirs, pairs=pairs)


def source() -> dict[str, str]:
    """The files of the training."""
    return {"rate.py": RATE_PY} | {
        name: (EXAMPLE / name).read_text() for name in ("train.py", "requirements.txt")
    }


def variables(epochs: int) -> dict[str, str]:
    """What it is told by its environment."""
    return {"TF_CPP_MIN_LOG_LEVEL": "2", "EPOCHS": str(epochs), **ONE_THREAD}


def command(epochs: int) -> tuple[str, ...]:
    """The same by hand, the source being at /workspace."""
    words = (f"{name}={value}" for name, value in variables(epochs).items())
    return ("env", *words, "python", "/workspace/rate.py")


def in_turns(name: str, ours: Callable[[], Epochs], theirs: Callable[[], Epochs], *, pairs: int) -> None:
    """Train by one, then by the other, `pairs` times; who is first changes."""
    found = []
    for number in range(pairs):
        began_s = time.monotonic()
        sides = {side: rate(train()) for side, train in _ordered(number, ours=ours, theirs=theirs)}
        found.append(sides["ours"] / sides["theirs"])
        print(
            f"  {sides['ours']:.0f} images/s against {sides['theirs']:.0f}, ratio {found[-1]:.3f}; "
            f"{time.monotonic() - began_s:.0f} s; {load()}",
            flush=True,
        )
    print(
        f"{name}: ratio {statistics.median(found):.3f}, from {min(found):.3f} to {max(found):.3f} "
        f"({pairs} pairs; wanted at least 0.99)",
        flush=True,
    )


def _ordered(number: int, **sides: Callable[[], Epochs]) -> list[tuple[str, Callable[[], Epochs]]]:
    return list(sides.items())[:: -1 if number % 2 else 1]


def read(printed: str) -> Epochs:
    """The epochs that a training printed."""
    found = [(float(count), float(begin), float(end)) for count, begin, end in EPOCH.findall(printed)]
    if not found:
        raise SystemExit(printed)
    return found


def rate(epochs: Epochs) -> float:
    """Images a second, from when all is warm."""
    warm = epochs[len(epochs) // WARMS_UP :]
    return sum(images for images, _, _ in warm) / (warm[-1][2] - warm[0][1])
