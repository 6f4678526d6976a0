"""Training by `model.fit`: the package's callback, dense Keras, and tfmot's guide.

No validation; the examples are float32 arrays in memory.  Time is taken from the end of
the first epoch, which compiles, to the end of the last, so that the callback's pruning
and rewinding, and tfmot's pruning in the graph, are in it.
"""

from typing import Any

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras

import lth_keras as lth
from benchmarks.loop import config
from benchmarks.task import BATCH, Job
from benchmarks.timing import Stopwatch
from lth_keras.experiments.training_keras2 import models

EPOCHS = 6  # Two rounds of three.


def measure(name: str, job: Job) -> dict[str, float]:
    """Times one of the contenders of the section `fit`."""
    task = job.task
    model, callbacks = _contender(name, models.build(config(task), task.shape, 10),
                                  steps=EPOCHS * task.epoch)
    compiled = name in ("fit_callback", "fit_dense", "tfmot_guide_xla")
    model.compile(keras.optimizers.Adam(task.learning_rate),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=compiled,
                  steps_per_execution=task.steps_per_execution if compiled else 1)
    used = slice(0, task.epoch * BATCH)
    watch = Stopwatch()
    ends = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch())
    model.fit(job.x[used].astype(np.float32) / 255, job.y[used], batch_size=BATCH, epochs=EPOCHS,
              callbacks=[*callbacks, ends], verbose=0)
    return {"plain": 1e3 * watch.whole / ((EPOCHS - 1) * task.epoch)}


def _contender(name: str, network: Any, steps: int) -> tuple[Any, list[Any]]:
    if name == "fit_callback":
        lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=EPOCHS // 2, fraction=0.2,
                                            verbose=0)
        return lth.prune_low_magnitude(network), [lottery]
    if name.startswith("tfmot"):
        sparsity = tfmot.sparsity.keras
        # How many steps apart it prunes: 100 is its default.
        schedule = sparsity.PolynomialDecay(0.0, 0.9, begin_step=0, end_step=steps,
                                            frequency=10 if name == "tfmot_every_10" else 100)
        return (sparsity.prune_low_magnitude(network, pruning_schedule=schedule),
                [sparsity.UpdatePruningStep()])
    return network, []
