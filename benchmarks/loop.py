"""The package's compiled loop, on a wrapped model and on one that is not."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from benchmarks.task import BATCH, Job, masks, Task
from benchmarks.timing import milliseconds, Stopwatch, WARM_UP
from lth_keras import prune_low_magnitude
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training.spec import TrainingSpec
from lth_keras.experiments.training_keras2 import models
from lth_keras.experiments.training_keras2.trainer import Trainer
from lth_keras.keras2.masking.weight_names import masked


def measure(name: str, job: Job) -> dict[str, float]:
    """Times `loop_masked` or `loop_dense`."""
    if job.threads:
        tf.config.threading.set_intra_op_parallelism_threads(job.threads)
        tf.config.threading.set_inter_op_parallelism_threads(job.threads)
    model, kept = _network(job), {}
    if name == "loop_masked":
        model = prune_low_magnitude(model)
        kept = masks({name: tuple(item.weight.shape) for name, item in masked(model).items()})
    models.compile_model(model, config(job.task))
    weights = models.initial_weights(model, np.random.default_rng(0))
    # The test set is not timed, so a few examples do.
    few = slice(0, 100)
    trainer = Trainer(model, Data(job.x, job.y, job.x[few], job.y[few], classes=10))
    task = job.task
    seconds = []
    for examples in (1, task.validation):
        watch = Stopwatch()
        trainer.train(TrainingSpec(
            weights=weights, masks=kept, train=job.train, validation=np.arange(examples),
            order=np.random.default_rng(2), steps=task.interval * (WARM_UP + task.intervals),
            validation_every=task.interval, batch_size=BATCH), watch)
        seconds.append(watch.interval)
    return milliseconds(task, *seconds)


def config(task: Task) -> Config:
    """The package's configuration of a task."""
    return presets.get("lenet_300_100").replace(
        network=task.network, dataset=task.dataset, learning_rate=task.learning_rate)


def _network(job: Job) -> Any:
    if job.width == 1:
        return models.build(config(job.task), job.task.shape, 10)
    return keras.Sequential([
        keras.layers.Input(job.task.shape), keras.layers.Flatten(),
        *(keras.layers.Dense(round(units * job.width), "relu",
                             kernel_initializer="glorot_normal") for units in (300, 100)),
        keras.layers.Dense(10, kernel_initializer="glorot_normal")])
