"""The package's compiled loop on Keras 3 and JAX, on one network."""

import os

import numpy as np

from benchmarks.task import BATCH, Job, masks
from benchmarks.timing import milliseconds, Stopwatch, WARM_UP

os.environ["KERAS_BACKEND"] = "jax"


def measure(name: str, job: Job) -> dict[str, float]:
    """Times `loop_keras3`."""
    from lth_keras.experiments.config import presets
    from lth_keras.experiments.training.datasets import Data
    from lth_keras.experiments.training.spec import TrainingSpec
    from lth_keras.experiments.training_keras3.trainer import PlainNetworkTrainer
    task, few = job.task, slice(0, 100)  # The test set is not timed.
    config = presets.get("lenet_300_100").replace(
        network=task.network, dataset=task.dataset, learning_rate=task.learning_rate,
        engine="keras", keras_backend="jax")
    trainer = PlainNetworkTrainer(config, Data(job.x, job.y, job.x[few], job.y[few], 10), 2048, 1)
    weights = trainer.initial_weights(np.random.default_rng(0))
    seconds = []
    for examples in (1, task.validation):
        watch = Stopwatch()
        trainer.train([TrainingSpec(
            weights=weights, masks=masks(dict(trainer.shapes)), train=job.train,
            validation=np.arange(examples), order=np.random.default_rng(2),
            steps=task.interval * (WARM_UP + task.intervals), validation_every=task.interval,
            batch_size=BATCH)], lambda place, steps, ended=watch: ended())
        seconds.append(watch.interval)
    return milliseconds(task, *seconds)
