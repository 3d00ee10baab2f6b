"""Saves in every way that its framework has, under the same names on all ranks."""

import importlib.util
import os
from pathlib import Path

outputs, logs = Path(os.environ["PUSHTRAIN_OUTPUTS"]), os.environ["PUSHTRAIN_LOGS"]
own = outputs / os.environ["PUSHTRAIN_RANK"]  # For what breaks where two ranks write it at once.
if importlib.util.find_spec("torch"):
    import torch

    torch.save({"weight": torch.ones(2)}, outputs / "path.pt")
    with (outputs / "file.pt").open("wb") as file:
        torch.save({}, file)
    torch.load(outputs / "path.pt")
else:
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
    checkpoint = tf.train.Checkpoint(variable=tf.Variable(1.0))
    with tf.summary.create_file_writer(logs).as_default():
        tf.summary.scalar("loss", 1.0, step=1)
    with tf.io.gfile.GFile(name=str(outputs / "text"), mode="w") as text:
        text.write("text")
    own.mkdir()
    model.save(str(own / "model.h5"))
    model.save(str(own / "model.keras"))
    model.save_weights(str(own / "model.weights.h5"))
    tf.saved_model.save(model, str(own / "saved"))
    checkpoint.save(str(own / "checkpoints" / "one"))
    tf.train.CheckpointManager(checkpoint, str(own / "managed"), max_to_keep=2).save()
