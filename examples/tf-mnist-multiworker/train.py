"""A network on 1,797 handwritten digits, by MultiWorkerMirroredStrategy -> outputs/model (SavedModel), logs/."""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS, BATCH = 10, 32
OUTPUTS, LOGS = Path("outputs"), Path("logs")


def compiled(rate: float) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape=(64,), name="pixels"),
            tf.keras.layers.Dense(100, activation="relu"),
            tf.keras.layers.Dense(50, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.SGD(rate, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def batches(pixels: np.ndarray, digits: np.ndarray) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((pixels, digits))
    return data.shuffle(2000, seed=1).repeat().batch(BATCH)


class Progress(tf.keras.callbacks.Callback):
    """The chief after every epoch: a line in logs/metrics.jsonl and a line to read."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        LOGS.mkdir(exist_ok=True)
        row = {"step": epoch + 1, "loss": logs["loss"], "accuracy": logs["val_accuracy"]}
        with (LOGS / "metrics.jsonl").open("a" if epoch else "w") as metrics:
            print(json.dumps(row), file=metrics)
        print(
            f"epoch {epoch + 1:2d}  loss {row['loss']:.4f}  test accuracy {row['accuracy']:.4f}", flush=True
        )


def train_alone(mine: tuple[np.ndarray, np.ndarray], rate: float) -> tf.keras.Model:
    """What the other workers' gradients are good for: the network after as many steps without them."""
    model = compiled(rate)
    model.fit(batches(*mine), steps_per_epoch=len(mine[0]) // BATCH, epochs=EPOCHS)
    return model


def accuracy(model: tf.keras.Model, pixels: np.ndarray, digits: np.ndarray) -> float:
    return float((model(pixels).numpy().argmax(axis=1) == digits).mean())


def digest(model: tf.keras.Model) -> str:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()[:12]


def gathered(strategy: tf.distribute.Strategy, mine: str) -> set[str]:
    """The digests of all workers."""
    row = tf.constant([list(bytes.fromhex(mine))])
    rows = strategy.gather(strategy.experimental_distribute_values_from_function(lambda _: row), axis=0)
    return {bytes(each).hex() for each in rows.numpy().tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    rate = parser.parse_args().learning_rate
    # Before anything else of TensorFlow: it reads TF_CONFIG and waits for the other workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rank, size = strategy.cluster_resolver.task_id or 0, strategy.num_replicas_in_sync
    tf.keras.utils.disable_interactive_logging()

    digits = load_digits()
    pixels = (digits.data / 16.0).astype("float32")
    train_x, test_x, train_y, test_y = train_test_split(pixels, digits.target, test_size=0.2, random_state=1)
    # In the order of the digits: a worker sees only some of them, and learns the others from the other workers.
    each = len(train_y) // size
    shard = np.argsort(train_y, kind="stable")[rank * each : (rank + 1) * each]
    mine = train_x[shard], train_y[shard]

    with strategy.scope():
        model = compiled(rate)
    history = model.fit(
        strategy.distribute_datasets_from_function(lambda _: batches(*mine)),
        steps_per_epoch=each // BATCH,
        epochs=EPOCHS,
        validation_data=(test_x, test_y),
        callbacks=[Progress()] if rank == 0 else [],
    )
    # Every worker has to save; what others than the chief write is thrown away.
    with tempfile.TemporaryDirectory() as elsewhere:
        model.export(OUTPUTS / "model" if rank == 0 else elsewhere)

    print(f"rank {rank}: weights {digest(model)}", flush=True)
    # Before the workers meet for the last time: TensorFlow takes one that has left for one that was lost.
    alone = train_alone(mine, rate) if rank == 0 else None
    losses = history.history["loss"]
    if len(gathered(strategy, digest(model))) > 1:
        sys.exit("the ranks ended with different weights")
    if losses[-1] >= losses[0]:
        sys.exit(f"the loss has not fallen: {losses[0]:.4f}, then {losses[-1]:.4f}")
    if alone is None:
        return
    if size > 1 and digest(alone) == digest(model):
        sys.exit("rank 0 got no gradient of another rank")
    print(
        f"all {size} ranks agree: weights {digest(model)}, accuracy {accuracy(model, test_x, test_y):.4f}\n"
        f"rank 0 alone would have: weights {digest(alone)}, accuracy {accuracy(alone, test_x, test_y):.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
