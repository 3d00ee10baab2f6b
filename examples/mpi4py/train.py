"""Softmax regression on 1,797 handwritten digits by numpy and MPI -> outputs/weights.npy, logs/metrics.jsonl."""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

STEPS, EVERY = 200, 20
OUTPUTS, LOGS = Path("outputs"), Path("logs")

comm = MPI.COMM_WORLD
Weights = np.ndarray  # 65 x 10: a row for each pixel and one for the bias, a column for each digit


def mean_of_all(values: np.ndarray) -> np.ndarray:
    total = np.empty_like(values)
    comm.Allreduce(values, total, op=MPI.SUM)
    return total / comm.size


def loss_and_gradient(weights: Weights, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    scores = x @ weights
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    right = np.arange(len(y)), y
    loss = -np.log(chances[right]).mean()
    chances[right] -= 1.0
    return float(loss), x.T @ chances / len(y)


def descend(
    weights: Weights, x: np.ndarray, y: np.ndarray, *, rate: float, share: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[float, Weights]]:
    """Yields the loss before each step and the weights after it, for ever; gradients go through `share`."""
    while True:
        loss, gradient = loss_and_gradient(weights, x, y)
        weights = weights - rate * share(gradient)
        yield loss, weights


def accuracy(weights: Weights, x: np.ndarray, y: np.ndarray) -> float:
    return float(((x @ weights).argmax(axis=1) == y).mean())


def digest(weights: Weights) -> str:
    return hashlib.sha256(weights.tobytes()).hexdigest()[:12]


def resume() -> tuple[int, Weights]:
    """Return the steps already done and the weights: rank 0 reads them, all get the same."""
    step, weights = 0, np.zeros((65, 10))
    folder = os.environ.get("PUSHTRAIN_RESUME_FROM")
    if comm.rank == 0 and folder and (path := Path(folder) / "newest.npz").is_file():
        with np.load(path) as saved:
            step, weights = int(saved["step"]), saved["weights"]
        print(f"resumed after step {step}", flush=True)
    comm.Bcast(weights, root=0)
    return comm.bcast(step, root=0), weights


def save(step: int, weights: Weights) -> None:
    """Written beside and renamed: whoever is killed meanwhile leaves the checkpoint before."""
    folder = OUTPUTS / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "unfinished.npz", step=step, weights=weights)
    (folder / "unfinished.npz").replace(folder / "newest.npz")


def report(step: int, loss: float, right: float) -> None:
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "metrics.jsonl").open("w" if step == EVERY else "a") as metrics:
        print(json.dumps({"step": step, "loss": loss, "accuracy": right}), file=metrics)
    print(f"step {step:3d}  loss {loss:.4f}  test accuracy {right:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    rate = parser.parse_args().learning_rate

    digits = load_digits()
    x = np.hstack([digits.data / 16.0, np.ones((len(digits.data), 1))])
    train_x, test_x, train_y, test_y = train_test_split(x, digits.target, test_size=0.2, random_state=1)
    # In the order of the digits, so that a rank sees only some of them: the others it can learn from other ranks alone.
    shard = np.array_split(np.argsort(train_y, kind="stable"), comm.size)[comm.rank]
    my_x, my_y = train_x[shard], train_y[shard]

    done, weights = resume()
    losses = []
    together = descend(weights, my_x, my_y, rate=rate, share=mean_of_all)
    for step, (loss, weights) in enumerate(islice(together, STEPS - done), done + 1):
        if step % EVERY == 0:
            losses.append(float(mean_of_all(np.array(loss))))
            if comm.rank == 0:
                report(step, losses[-1], accuracy(weights, test_x, test_y))
                save(step, weights)

    print(f"rank {comm.rank}: weights {digest(weights)}", flush=True)
    digests = comm.allgather(digest(weights))
    if len(set(digests)) > 1:
        sys.exit("the ranks ended with different weights")
    if len(losses) > 1 and losses[-1] >= losses[0]:
        sys.exit(f"the loss has not fallen: {losses[0]:.4f}, then {losses[-1]:.4f}")
    if comm.rank > 0:
        return
    np.save(OUTPUTS / "weights.npy", weights)
    by_myself = descend(np.zeros_like(weights), my_x, my_y, rate=rate, share=lambda gradient: gradient)
    _, alone = next(islice(by_myself, STEPS - 1, None))
    if comm.size > 1 and digest(alone) == digests[0]:
        sys.exit("rank 0 got no gradient of another rank")
    print(
        f"all {comm.size} ranks agree: weights {digests[0]}, accuracy {accuracy(weights, test_x, test_y):.4f}\n"
        f"rank 0 alone would have: weights {digest(alone)}, accuracy {accuracy(alone, test_x, test_y):.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
