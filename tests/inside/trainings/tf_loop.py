"""Plain variables and a loop of one's own, in a `tf.function` or (EAGER) without. SHARE: horovod, once, or nothing."""

import os

import numpy as np
import tensorflow as tf

rank = int(os.environ["PUSHTRAIN_RANK"])
share = os.environ.get("SHARE", "")
weight = tf.Variable(np.full((16, 4), 0.1, "float32"))
bias = tf.Variable(np.zeros(4, "float32"))
if share == "horovod":
    import horovod.tensorflow as hvd

    hvd.init()
seed = np.random.default_rng(0 if share == "once" else rank)
x, y = seed.normal(size=(1024, 16)).astype("float32"), seed.integers(0, 4, size=1024)


def step(features: tf.Tensor, labels: tf.Tensor) -> None:
    with tf.GradientTape() as tape:
        logits = features @ weight + bias
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    if share == "horovod":
        tape = hvd.DistributedGradientTape(tape)
    for variable, gradient in zip([weight, bias], tape.gradient(loss, [weight, bias]), strict=True):
        variable.assign_sub(0.1 * gradient)


if not os.environ.get("EAGER"):
    step = tf.function(step)
for first in range(0, 1024, 32):
    step(tf.constant(x[first : first + 32]), tf.constant(y[first : first + 32]))
print("sum", float(tf.reduce_sum(weight)), flush=True)
