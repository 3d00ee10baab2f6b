"""A network of one hidden layer on 1,797 handwritten digits, by jax.shard_map -> outputs/weights.npz, logs/."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

STEPS, EVERY = 200, 20
OUTPUTS, LOGS = Path("outputs"), Path("logs")
Weights = dict[str, jax.Array]
Loss = Callable[[Weights, jax.Array, jax.Array], jax.Array]


def build() -> Weights:
    first, second = jax.random.split(jax.random.key(1))
    return {
        "hidden": jax.random.normal(first, (64, 64)) / 8,
        "hidden_bias": jnp.zeros(64),
        "digit": jax.random.normal(second, (64, 10)) / 8,
        "digit_bias": jnp.zeros(10),
    }


def scores(weights: Weights, pixels: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(pixels @ weights["hidden"] + weights["hidden_bias"])
    return hidden @ weights["digit"] + weights["digit_bias"]


def own_loss(weights: Weights, pixels: jax.Array, digits: jax.Array) -> jax.Array:
    chances = jax.nn.log_softmax(scores(weights, pixels))
    return -jnp.take_along_axis(chances, digits[:, None], axis=1).mean()


def mean_loss(mesh: jax.sharding.Mesh) -> Loss:
    """The loss over all processes: each computes its own part, so the gradient of the mean is shared by all."""
    part, whole = PartitionSpec("process"), PartitionSpec()

    @partial(jax.shard_map, mesh=mesh, in_specs=(whole, part, part), out_specs=whole)
    def loss(weights: Weights, pixels: jax.Array, digits: jax.Array) -> jax.Array:
        return jax.lax.pmean(own_loss(weights, pixels, digits), "process")

    return loss


def descend(
    weights: Weights, pixels: jax.Array, digits: jax.Array, *, loss: Loss, rate: float
) -> Iterator[tuple[float, Weights]]:
    """Yields the loss before each step and the weights after it, for ever."""

    @jax.jit
    def step(weights: Weights, pixels: jax.Array, digits: jax.Array) -> tuple[jax.Array, Weights]:
        value, gradients = jax.value_and_grad(loss)(weights, pixels, digits)
        return value, jax.tree.map(lambda weight, gradient: weight - rate * gradient, weights, gradients)

    while True:
        value, weights = step(weights, pixels, digits)
        yield float(value), weights


def local(weights: Weights) -> dict[str, np.ndarray]:
    """What this process holds of weights of which every process holds all."""
    return {name: np.asarray(weight.addressable_data(0)) for name, weight in weights.items()}


def accuracy(weights: Weights, pixels: np.ndarray, digits: np.ndarray) -> float:
    return float((scores(local(weights), pixels).argmax(axis=1) == digits).mean())


def digest(weights: Weights) -> str:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in local(weights).values())).hexdigest()[:12]


def report(step: int, loss: float, right: float) -> None:
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "metrics.jsonl").open("w" if step == EVERY else "a") as metrics:
        print(json.dumps({"step": step, "loss": loss, "accuracy": right}), file=metrics)
    print(f"step {step:3d}  loss {loss:.4f}  test accuracy {right:.4f}", flush=True)


def gathered(mine: str) -> set[str]:
    """The digests of all processes."""
    rows = multihost_utils.process_allgather(np.frombuffer(bytes.fromhex(mine), dtype="uint8"))
    return {row.tobytes().hex() for row in rows.reshape(jax.process_count(), -1)}


def join() -> None:
    """Meet the other processes, if there are any."""
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"],
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    rate = parser.parse_args().learning_rate
    join()
    rank, size = jax.process_index(), jax.process_count()

    digits = load_digits()
    pixels = (digits.data / 16.0).astype("float32")
    train_x, test_x, train_y, test_y = train_test_split(pixels, digits.target, test_size=0.2, random_state=1)
    # In the order of the digits: a process sees only some of them, and learns the others from the other processes.
    each = len(train_y) // jax.device_count() * jax.local_device_count()
    shard = np.argsort(train_y, kind="stable")[rank * each : (rank + 1) * each]
    mine = train_x[shard], train_y[shard]

    mesh = jax.make_mesh((jax.device_count(),), ("process",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    parts = [
        jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("process")), part)
        for part in mine
    ]
    together = descend(jax.device_put(build(), everywhere), *parts, loss=mean_loss(mesh), rate=rate)
    losses = []
    for step, (loss, weights) in enumerate(islice(together, STEPS), 1):
        if step % EVERY == 0:
            losses.append(loss)
            if rank == 0:
                report(step, loss, accuracy(weights, test_x, test_y))

    print(f"rank {rank}: weights {digest(weights)}", flush=True)
    if len(gathered(digest(weights))) > 1:
        sys.exit("the ranks ended with different weights")
    if losses[-1] >= losses[0]:
        sys.exit(f"the loss has not fallen: {losses[0]:.4f}, then {losses[-1]:.4f}")
    if rank > 0:
        return
    OUTPUTS.mkdir(exist_ok=True)
    np.savez(OUTPUTS / "weights.npz", **local(weights))
    _, alone = next(islice(descend(build(), *mine, loss=own_loss, rate=rate), STEPS - 1, None))
    if size > 1 and digest(alone) == digest(weights):
        sys.exit("rank 0 got no gradient of another rank")
    print(
        f"all {size} ranks agree: weights {digest(weights)}, accuracy {accuracy(weights, test_x, test_y):.4f}\n"
        f"rank 0 alone would have: weights {digest(alone)}, accuracy {accuracy(alone, test_x, test_y):.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
