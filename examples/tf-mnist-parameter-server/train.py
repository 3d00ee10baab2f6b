"""A network of two hidden layers on 1,797 handwritten digits, by parameter servers -> outputs/model, logs/."""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

EPOCHS, STEPS, BATCH = 10, 50, 32
OUTPUTS, LOGS = Path("outputs"), Path("logs")
RECORD = 66  # numbers in a record of a shard: the worker it is of, the digit, its 64 pixels


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


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    digits = load_digits()
    pixels = (digits.data / 16.0).astype("float32")
    return train_test_split(pixels, digits.target, test_size=0.2, random_state=1)


def shard(worker: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    pixels, _, digits, _ = split()
    return pixels[worker::workers], digits[worker::workers]


def serve(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> None:
    """What workers and parameter servers do, until they are ended from outside."""
    if resolver.task_type == "worker":
        # The data of a worker lie on its own disk: the same name on each, under a folder of its own.
        os.chdir(tempfile.mkdtemp())
        pixels, digits = shard(resolver.task_id, resolver.cluster_spec().num_tasks("worker"))
        column = np.ones((len(digits), 1))
        np.hstack([column * resolver.task_id, digits[:, None], pixels]).astype("float32").tofile("shard")
    options = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=8)
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, config=options
    )
    server.join()


def own_shard() -> tf.data.Dataset:
    """Batches from the disk of the worker that executes this, for ever."""
    records = tf.data.FixedLengthRecordDataset("shard", RECORD * 4)
    return (
        records.map(lambda record: tf.io.decode_raw(record, tf.float32)).shuffle(2000).repeat().batch(BATCH)
    )


def coordinate(resolver: tf.distribute.cluster_resolver.ClusterResolver, rate: float) -> None:
    """What the chief does: it hands out steps, and the variables stay on the parameter server."""
    workers = resolver.cluster_spec().num_tasks("worker")
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        model = build()
        optimizer = tf.keras.optimizers.SGD(rate)
        optimizer.build(model.trainable_variables)
        steps_of = tf.Variable(tf.zeros(workers, tf.int64), name="steps_of")

    @tf.function
    def step(batches: tf.data.Iterator) -> tf.Tensor:
        def replica_step(records: tf.Tensor) -> tf.Tensor:
            worker, digits, pixels = tf.split(records, [1, 1, RECORD - 2], axis=1)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.keras.losses.sparse_categorical_crossentropy(digits, model(pixels)))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            steps_of.assign_add(tf.one_hot(tf.cast(worker[0, 0], tf.int64), workers, dtype=tf.int64))
            return loss

        return strategy.run(replica_step, args=(next(batches),))

    batches = iter(coordinator.create_per_worker_dataset(own_shard))
    losses = []
    for epoch in range(1, EPOCHS + 1):
        results = [coordinator.schedule(step, args=(batches,)) for _ in range(STEPS)]
        coordinator.join()
        losses.append(float(np.mean([result.fetch() for result in results])))
        report(epoch, losses[-1], accuracy(model))
    # The parameter server writes what it holds to its own disk, which is not this one.
    here = build()
    here.set_weights(model.get_weights())
    here.export(OUTPUTS / "model")
    prove(here, steps_of.numpy().tolist(), losses, rate)


def report(epoch: int, loss: float, right: float) -> None:
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "metrics.jsonl").open("w" if epoch == 1 else "a") as metrics:
        print(json.dumps({"step": epoch, "loss": loss, "accuracy": right}), file=metrics)
    print(f"epoch {epoch:2d}  loss {loss:.4f}  test accuracy {right:.4f}", flush=True)


def alone(worker: int, workers: int, *, steps: int, rate: float) -> tf.keras.Model:
    """The network after as many steps on the shard of one worker."""
    model = build()
    model.compile(tf.keras.optimizers.SGD(rate), loss="sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices(shard(worker, workers))
    model.fit(data.shuffle(2000).repeat().batch(BATCH), steps_per_epoch=steps)
    return model


def prove(model: tf.keras.Model, steps_of: list[int], losses: list[float], rate: float) -> None:
    """All steps went into the one set of variables, some of each worker; one worker alone had made another."""
    for worker, steps in enumerate(steps_of):
        other = alone(worker, len(steps_of), steps=sum(steps_of), rate=rate)
        print(
            f"worker {worker}: {steps} of {EPOCHS * STEPS} steps; "
            f"alone it would have: weights {digest(other)}, accuracy {accuracy(other):.4f}",
            flush=True,
        )
        if digest(other) == digest(model):
            sys.exit(f"the weights are those of worker {worker} alone")
    if min(steps_of) == 0 or sum(steps_of) != EPOCHS * STEPS:
        sys.exit("not every worker's gradients arrived")
    if losses[-1] >= losses[0]:
        sys.exit(f"the loss has not fallen: {losses[0]:.4f}, then {losses[-1]:.4f}")
    print(
        f"all {len(steps_of)} workers trained one: weights {digest(model)}, accuracy {accuracy(model):.4f}",
        flush=True,
    )


def accuracy(model: tf.keras.Model) -> float:
    _, pixels, _, digits = split()
    return float((model(pixels).numpy().argmax(axis=1) == digits).mean())


def digest(model: tf.keras.Model) -> str:
    return hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    rate = parser.parse_args().learning_rate
    tf.keras.utils.disable_interactive_logging()
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if resolver.task_type == "chief":
        coordinate(resolver, rate)
    else:
        serve(resolver)


if __name__ == "__main__":
    main()
