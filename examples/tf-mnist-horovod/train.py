"""A network of two hidden layers on 1,797 handwritten digits, by Horovod -> outputs/model (SavedModel), logs/."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

import horovod.tensorflow as hvd
import horovod.tensorflow.keras as hvd_keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS, BATCH = 10, 32
OUTPUTS, LOGS = Path("outputs"), Path("logs")
Digits = tuple[np.ndarray, np.ndarray]  # N x 64 pixels, and the N digits that they are


def build() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(1)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape=(64,), name="pixels"),
            tf.keras.layers.Dense(100, activation="relu"),
            tf.keras.layers.Dense(50, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )


def batches(digits: Digits) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(digits).shuffle(2000, seed=1).batch(BATCH, drop_remainder=True)


class Progress:
    """What rank 0 keeps after every epoch: a line in logs/metrics.jsonl and a checkpoint."""

    def __init__(self, model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer) -> None:
        self.losses: list[float] = []
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, epoch=self.epoch)
        self.kept = tf.train.CheckpointManager(self.checkpoint, OUTPUTS / "checkpoints", max_to_keep=2)

    def resume(self) -> int:
        """Return the epochs already done: rank 0 reads the newest checkpoint, the loops broadcast what it has."""
        folder = os.environ.get("PUSHTRAIN_RESUME_FROM")
        if hvd.rank() == 0 and folder and (path := tf.train.latest_checkpoint(folder)):
            self.checkpoint.restore(path)
            print(f"resumed after epoch {self.epoch.numpy()}", flush=True)
        return int(hvd.broadcast_object(self.epoch.numpy()))

    def epoch_ended(self, epoch: int, loss: float, accuracy: float) -> None:
        self.losses.append(loss)
        if hvd.rank() > 0:
            return
        LOGS.mkdir(exist_ok=True)
        with (LOGS / "metrics.jsonl").open("w" if epoch == 1 else "a") as metrics:
            print(json.dumps({"step": epoch, "loss": loss, "accuracy": accuracy}), file=metrics)
        print(f"epoch {epoch:2d}  loss {loss:.4f}  test accuracy {accuracy:.4f}", flush=True)
        self.epoch.assign(epoch)
        self.kept.save(checkpoint_number=epoch)


def compiled(model: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.Model:
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def with_keras(model: tf.keras.Model, mine: Digits, test: Digits, *, rate: float) -> Progress:
    optimizer = hvd_keras.DistributedOptimizer(tf.keras.optimizers.SGD(rate, momentum=0.9))
    progress = Progress(model, optimizer)
    compiled(model, optimizer).fit(
        batches(mine),
        initial_epoch=progress.resume(),
        epochs=EPOCHS,
        validation_data=test,
        callbacks=[
            hvd_keras.callbacks.BroadcastGlobalVariablesCallback(0),
            hvd_keras.callbacks.MetricAverageCallback(),
            tf.keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: progress.epoch_ended(
                    epoch + 1, float(logs["loss"]), float(logs["val_accuracy"])
                )
            ),
        ],
    )
    return progress


def with_own_loop(model: tf.keras.Model, mine: Digits, test: Digits, *, rate: float) -> Progress:
    optimizer = tf.keras.optimizers.SGD(rate, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(pixels: tf.Tensor, digits: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(digits, model(pixels, training=True))
        tape = hvd.DistributedGradientTape(tape)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    progress, data = Progress(model, optimizer), batches(mine)
    done = progress.resume()
    hvd.broadcast_variables(model.variables, root_rank=0)
    hvd.broadcast_variables(optimizer.variables, root_rank=0)
    for epoch in range(done + 1, EPOCHS + 1):
        losses = [step(pixels, digits) for pixels, digits in data]
        loss = hvd.allreduce(tf.reduce_mean(losses), name="loss")
        progress.epoch_ended(epoch, float(loss), accuracy(model, test))
    return progress


LOOPS = {"keras": with_keras, "custom": with_own_loop}


def accuracy(model: tf.keras.Model, test: Digits) -> float:
    return float((model.predict_on_batch(test[0]).argmax(axis=1) == test[1]).mean())


def digest(model: tf.keras.Model) -> str:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=LOOPS, default="keras")
    parser.add_argument("--learning-rate", type=float, default=0.05)
    options = parser.parse_args()
    hvd.init()
    rank, size = hvd.rank(), hvd.size()
    tf.keras.utils.disable_interactive_logging()
    tf.get_logger().setLevel(
        "ERROR"
    )  # Keras warns that the first batch is slow, which waits for the broadcast.

    digits = load_digits()
    pixels = (digits.data / 16.0).astype("float32")
    train_x, test_x, train_y, test_y = train_test_split(pixels, digits.target, test_size=0.2, random_state=1)
    # In the order of the digits: a rank sees only some of them, and learns the others from the other ranks.
    each = len(train_y) // size
    shard = np.argsort(train_y, kind="stable")[rank * each : (rank + 1) * each]
    mine, test = (train_x[shard], train_y[shard]), (test_x, test_y)

    model = build()
    losses = LOOPS[options.loop](model, mine, test, rate=options.learning_rate).losses
    print(f"rank {rank}: weights {digest(model)}", flush=True)
    digests = hvd.allgather_object(digest(model))
    if len(set(digests)) > 1:
        sys.exit("the ranks ended with different weights")
    if len(losses) > 1 and losses[-1] >= losses[0]:
        sys.exit(f"the loss has not fallen: {losses[0]:.4f}, then {losses[-1]:.4f}")
    if rank > 0:
        return
    model.export(OUTPUTS / "model")
    alone = compiled(build(), tf.keras.optimizers.SGD(options.learning_rate, momentum=0.9))
    alone.fit(batches(mine), epochs=EPOCHS)
    if size > 1 and digest(alone) == digests[0]:
        sys.exit("rank 0 got no gradient of another rank")
    print(
        f"all {size} ranks agree: weights {digests[0]}, accuracy {accuracy(model, test):.4f}\n"
        f"rank 0 alone would have: weights {digest(alone)}, accuracy {accuracy(alone, test):.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
