"""Searches in `model.fit` with a workdir and without one, in turn, in one process.

The model is compiled by a pair that is not counted.  A search's time is that of the whole
`fit`, so that the last save, which `fit` waits for, is in it; the order within a pair changes
from pair to pair.
"""

import pathlib
import tempfile
import time

import numpy as np
import tf_keras as keras

import lth_keras as lth
from benchmarks.loop import config
from benchmarks.task import BATCH, Job
from lth_keras.experiments.training_keras2 import models

EPOCHS = 6  # Two rounds of three.
PAIRS = 5


def measure(name: str, job: Job) -> dict[str, float]:
    """Seconds an epoch, and those of processors, with a workdir and without; a state's bytes."""
    task, used = job.task, slice(0, job.task.epoch * BATCH)
    x, y = job.x[used].astype(np.float32) / 255, job.y[used]
    model = lth.prune_low_magnitude(models.build(config(task), task.shape, 10))
    model.compile(keras.optimizers.Adam(task.learning_rate),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  metrics=["accuracy"], jit_compile=True,
                  steps_per_execution=task.steps_per_execution)

    def seconds(workdir: pathlib.Path | None) -> tuple[float, float]:
        lottery = lth.LotteryTicketCallback(rounds=1, epochs_per_round=EPOCHS // 2, fraction=0.2,
                                            verbose=0, workdir=workdir)
        began = time.perf_counter(), time.process_time()
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, callbacks=[lottery], verbose=0)
        return ((time.perf_counter() - began[0]) / EPOCHS,
                (time.process_time() - began[1]) / EPOCHS)

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(-1, PAIRS):  # The first compiles.
            workdir = pathlib.Path(folder, str(pair))
            for kind in ("with", "without") if pair % 2 else ("without", "with"):
                wall, processors = seconds(workdir if kind == "with" else None)
                if pair >= 0:
                    figures[f"{kind} wall {pair}"] = wall
                    figures[f"{kind} processors {pair}"] = processors
        figures["bytes"] = (workdir / "state.safetensors").stat().st_size
    return figures
