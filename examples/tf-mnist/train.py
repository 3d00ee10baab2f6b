"""A network of two hidden layers on 1,797 handwritten digits -> outputs/model (SavedModel), logs/."""

import argparse
import json
import os
from pathlib import Path
from typing import TextIO

import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS = 30
OUTPUTS, LOGS = Path("outputs"), Path("logs")


def build(learning_rate: float) -> tf.keras.Model:
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape=(64,), name="pixels"),
            tf.keras.layers.Dense(300, activation="relu"),
            tf.keras.layers.Dense(100, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.SGD(learning_rate, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


class Checkpoints:
    """The network, its optimizer and the epoch, kept in outputs/checkpoints after every epoch."""

    def __init__(self, model: tf.keras.Model) -> None:
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=self.epoch)
        self.newest = tf.train.CheckpointManager(self.checkpoint, OUTPUTS / "checkpoints", max_to_keep=2)

    def resume(self) -> int:
        """Return the number of epochs already done: 0 unless PUSHTRAIN_RESUME_FROM holds a checkpoint."""
        folder = os.environ.get("PUSHTRAIN_RESUME_FROM", "")
        path = tf.train.latest_checkpoint(folder) if folder else None
        if path:
            self.checkpoint.restore(path)
            print(f"resumed after epoch {self.epoch.numpy()}", flush=True)
        return int(self.epoch.numpy())

    def save(self, epoch: int) -> None:
        self.epoch.assign(epoch)
        self.newest.save(checkpoint_number=epoch)


class Report(tf.keras.callbacks.Callback):
    """After every epoch: a line in logs/metrics.jsonl, a line to read, a checkpoint."""

    def __init__(self, metrics: TextIO, checkpoints: Checkpoints) -> None:
        super().__init__()
        self.metrics, self.checkpoints = metrics, checkpoints

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seen = logs or {}
        row = {
            "step": epoch + 1,
            "accuracy": seen["val_accuracy"],
            "loss": seen["loss"],
            "test_loss": seen["val_loss"],
        }
        print(json.dumps(row), file=self.metrics, flush=True)
        print(
            f"epoch {epoch + 1:2d}  loss {row['loss']:.4f}  test accuracy {row['accuracy']:.4f}", flush=True
        )
        self.checkpoints.save(epoch + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    options = parser.parse_args()

    tf.keras.utils.disable_interactive_logging()
    tf.keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        (digits.data / 16.0).astype("float32"),
        digits.target,
        test_size=0.2,
        stratify=digits.target,
        random_state=1,
    )
    model = build(options.learning_rate)
    checkpoints = Checkpoints(model)
    done = checkpoints.resume()
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "metrics.jsonl").open("a" if done else "w") as metrics:
        model.fit(
            train_x,
            train_y,
            batch_size=options.batch_size,
            initial_epoch=done,
            epochs=EPOCHS,
            validation_data=(test_x, test_y),
            callbacks=[Report(metrics, checkpoints), tf.keras.callbacks.TensorBoard(LOGS)],
            verbose=0,
        )
    model.export(OUTPUTS / "model")


if __name__ == "__main__":
    main()
