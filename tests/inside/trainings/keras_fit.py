"""A small network by `fit`, on other data on each rank. SHARE: horovod, once (the same data everywhere), or nothing."""

import os

import numpy as np
import tensorflow as tf

rank = int(os.environ["PUSHTRAIN_RANK"])
share = os.environ.get("SHARE", "")
keras = tf.keras
model = keras.Sequential(
    [keras.Input((16,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(4)]
)
optimizer = keras.optimizers.SGD(0.01)
callbacks = []
if share == "horovod":
    import horovod.tensorflow.keras as hvd

    hvd.init()
    optimizer = hvd.DistributedOptimizer(optimizer)
    callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0)] if os.environ.get("BROADCAST") else []
seed = np.random.default_rng(0 if share == "once" else rank)
if not callbacks:
    start = np.random.default_rng(0)
    model.set_weights([start.normal(size=weight.shape) * 0.1 for weight in model.get_weights()])
x, y = seed.normal(size=(1024, 16)).astype("float32"), seed.integers(0, 4, size=1024)
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
epochs = int(os.environ.get("EPOCHS", "1"))
model.fit(x, y, batch_size=32, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
print("sum", sum(float(np.sum(weight)) for weight in model.get_weights()), flush=True)
