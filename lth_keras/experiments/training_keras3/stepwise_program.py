"""Trains one network step by step with Keras 3, on the TensorFlow or the torch backend.

It has the methods of `jax_program.JaxProgram`, for one network: arrays have an axis of length one
for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lth_keras.core.masks import Array
from lth_keras.core.seeding import generator
from lth_keras.experiments.training.datasets import Data, scaled
from lth_keras.experiments.training_keras3.augmentation import AUGMENTATIONS
from lth_keras.experiments.training_keras3.network_states import ModelLayout, NetworkState, Steps
from lth_keras.experiments.training_keras3.optimizers import schedule_of

_EVALUATED_TOGETHER = 1000  # Examples in a test step.


class StepwiseProgram:
    """The training and evaluation of one network.

    Args:
      model: a compiled model.
      layout: where its weights lie in its state.
      data: the data set.
      augmentation: the name of an augmentation, one of `augmentation.AUGMENTATIONS`.
    """

    together = 1
    provenance: Mapping[str, Any] = {}  # Versions alone decide the bits.

    def __init__(self, model: Any, layout: ModelLayout, data: Data, augmentation: str = "none"):
        self._model, self._layout, self._data = model, layout, data
        self._augment, self._draws = AUGMENTATIONS[augmentation], augmentation != "none"
        self._step, self._test = (
            _compiled(step) for step in (model.train_step, model.test_step))
        self._seed = 0
        self._best: NetworkState | None = None
        self._least = np.inf

    def begin(self, states: Sequence[NetworkState], seeds: Sequence[int]) -> None:
        """Begins a training; see `JaxProgram.begin`."""
        state, = states
        self._layout.write(state)
        self._seed, = seeds
        self._best, self._least = state, np.inf

    def interval(self, indices: Array, validation: Array, steps: Steps) -> dict[str, Any]:
        """Trains and validates; see `JaxProgram.interval`."""
        rate = schedule_of(self._model.optimizer)
        if rate is not None:
            rate.first.assign(steps.rate_first)
            rate.stretch.assign(steps.rate_stretch)
        self._model.reset_metrics()
        for number in range(int(steps.count)):
            rows = indices[0, number]
            images = self._data.x_train[rows]
            if self._draws:
                rng = generator(self._seed, "augmentation", level=int(steps.first) + number)
                images = ops.convert_to_numpy(self._augment(
                    ops.convert_to_tensor(images),
                    ops.convert_to_tensor(rng.random((len(rows), 3)), "float32")))
            self._step((ops.convert_to_tensor(scaled(images)),
                        ops.convert_to_tensor(self._data.y_train[rows])))
        logs = self._metrics()
        logs |= {f"val_{name}": value
                 for name, value in self.evaluate("train", validation).items()}
        if np.isfinite([*logs.values()]).all() and logs["val_loss"][0] < self._least:
            self._least, self._best = logs["val_loss"][0], self._layout.read()
        return logs

    def evaluate(self, part: str, indices: "Array | None" = None,
                 best: bool = False) -> dict[str, Any]:
        """Returns the metrics over examples; see `JaxProgram.evaluate`."""
        data = self._data
        x, y = (data.x_train, data.y_train) if part == "train" else (data.x_test, data.y_test)
        rows = np.arange(len(y)) if indices is None else indices[0]
        now = self._layout.read() if best else None
        if best and self._best is not None:
            self._layout.write(self._best)
        self._model.reset_metrics()
        for chosen in np.split(rows, range(_EVALUATED_TOGETHER, len(rows), _EVALUATED_TOGETHER)):
            self._test((ops.convert_to_tensor(scaled(x[chosen])), ops.convert_to_tensor(y[chosen])))
        logs = self._metrics()
        if now is not None:
            self._layout.write(now)
        return logs

    def weights(self) -> list[dict[str, Array]]:
        """The network's weights by name, in a list; see `JaxProgram.weights`."""
        state = self._layout.read()
        return [self._layout.weights(state.trainable, state.others)]

    def states(self) -> list[NetworkState]:
        """The network's state, in a list; see `JaxProgram.states`."""
        return [self._layout.read()]

    def put(self, states: Sequence[NetworkState]) -> None:
        """Replaces the network's state; see `JaxProgram.put`."""
        self._layout.write(*states)

    def hold(self, place: int) -> None:
        """Keeps the weights of least validation loss; see `JaxProgram.hold`."""
        self._least = -np.inf

    def _metrics(self) -> dict[str, Any]:
        return {name: np.array([float(ops.convert_to_numpy(value))])
                for name, value in self._model.get_metrics_result().items()}


def _compiled(step: Any) -> Any:
    if keras.backend.backend() != "tensorflow":
        return step
    import tensorflow as tf
    return tf.function(step, jit_compile=True, reduce_retracing=True)
