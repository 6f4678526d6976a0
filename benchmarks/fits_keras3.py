"""Training by `model.fit` on Keras 3: dense and with the package's callback, in turn, in a process.

Both models are compiled by a pair that is not counted; the order within a pair changes from pair
to pair.  Time is taken from the end of the first epoch to that of the last, so that the callback's
pruning and rewinding is in it.
"""

import importlib
import os
from typing import Any

import numpy as np

from benchmarks.task import BATCH, Job
from benchmarks.timing import Stopwatch

EPOCHS = 6  # Two rounds of three.
PAIRS = 9


def measure(name: str, job: Job) -> dict[str, float]:
    """Milliseconds a step, dense and with the callback, on the backend that the name ends with."""
    os.environ["KERAS_BACKEND"] = name.rpartition("_")[2]  # Before Keras is imported.
    keras = importlib.import_module("keras")
    lth = importlib.import_module("lth_keras")
    task, used = job.task, slice(0, job.task.epoch * BATCH)
    x, y = job.x[used].reshape(-1, 784).astype(np.float32) / 255, job.y[used]
    models = {kind: _network(keras, task.learning_rate) for kind in ("dense", "callback")}

    def milliseconds(kind: str) -> float:
        watch = Stopwatch()
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch())]
        if kind == "callback":
            callbacks.insert(0, lth.LotteryTicketCallback(
                rounds=1, epochs_per_round=EPOCHS // 2, fraction=0.2, verbose=0))
        models[kind].fit(x, y, batch_size=BATCH, epochs=EPOCHS, callbacks=callbacks, verbose=0)
        return 1e3 * watch.whole / ((EPOCHS - 1) * task.epoch)

    figures: dict[str, float] = {}
    for pair in range(-1, PAIRS):  # The first compiles.
        for kind in ("dense", "callback") if pair % 2 else ("callback", "dense"):
            found = milliseconds(kind)
            if pair >= 0:
                figures[f"{kind} {pair}"] = found
    return figures


def _network(keras: Any, learning_rate: float) -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([layers.Input((784,)), layers.Dense(300, "relu"),
                              layers.Dense(100, "relu"), layers.Dense(10)])
    model.compile(keras.optimizers.Adam(learning_rate),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=True)
    return model
