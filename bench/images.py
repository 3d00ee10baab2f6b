"""Images a second of a Horovod training: by us, and by `mpirun` by hand in the same image, both at the same time.

At the same time, since a machine whose speed changes from minute to minute tells nothing of one after the other: what
both did in the stretch in which both trained is compared.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import by_hand
from bench.gangs import Desk
from bench.pairs import load

EXAMPLE = Path(__file__).parents[1] / "examples" / "tf-mnist-horovod"

# The example's network, data and loop without what it keeps after every epoch; the first epochs trace and meet.
RATE_PY = """\
import os, time
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

    side_by_side("tf-mnist-horovod, 2 nodes of one rank", ours, theirs, pairs=pairs)


def source() -> dict[str, str]:
    """The files of the training."""
    return {"rate.py": RATE_PY} | {
        name: (EXAMPLE / name).read_text() for name in ("train.py", "requirements.txt")
    }


def variables(epochs: int) -> dict[str, str]:
    """What it is told by its environment."""
    return {"TF_CPP_MIN_LOG_LEVEL": "2", "EPOCHS": str(epochs)}


def command(epochs: int) -> tuple[str, ...]:
    """The same by hand, the source being at /workspace."""
    words = (f"{name}={value}" for name, value in variables(epochs).items())
    return ("env", *words, "python", "/workspace/rate.py")


def side_by_side(name: str, ours: Callable[[], Epochs], theirs: Callable[[], Epochs], *, pairs: int) -> None:
    """Train both at once, `pairs` times."""
    found = []
    for _ in range(pairs):
        with ThreadPoolExecutor() as pool:
            a, b = (future.result() for future in [pool.submit(ours), pool.submit(theirs)])
        mine, hand = rates(a, b)
        found.append(mine / hand)
        print(f"  {mine:.0f} images/s against {hand:.0f}, ratio {mine / hand:.3f}; {load()}", flush=True)
    print(
        f"{name}: ratio {statistics.median(found):.3f} ({pairs} pairs; wanted at least 0.99)",
        flush=True,
    )


def read(printed: str) -> Epochs:
    """The epochs that a training printed."""
    found = [(float(count), float(begin), float(end)) for count, begin, end in EPOCH.findall(printed)]
    if not found:
        raise SystemExit(printed)
    return found


def rates(*trainings: Epochs) -> list[float]:
    """Images a second of each of them, while all of them trained."""
    first_s = max(epochs[0][1] for epochs in trainings)
    last_s = min(epochs[-1][2] for epochs in trainings)
    within = [[e for e in epochs if e[1] >= first_s and e[2] <= last_s] for epochs in trainings]
    if not all(within):
        raise SystemExit("they did not train at the same time: ask for more epochs")
    return [sum(e[0] for e in epochs) / (epochs[-1][2] - epochs[0][1]) for epochs in within]
