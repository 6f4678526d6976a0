"""The compiled training loop: a validation interval is one XLA program.

The data lies on the device; a program takes the interval's examples as indices, runs
the model's own `train_step` on each batch in a loop on the device, and then its
`test_step` over the validation examples.  Masks, weights and optimizer are the
model's variables, so one compilation serves every level, branch and replicate.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from lth_keras import rewind
from lth_keras.data import Data
from lth_keras.errors import LotteryError
from lth_keras.masks import Array, Arrays
from lth_keras.weights import named_weights

_EVALUATED_TOGETHER = 1000  # Examples; more would need memory and gain no time.


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What one training sees, and for how long.

    Attributes:
      weights: name -> array, where every weight starts.
      masks: weight name -> 0/1 array.
      train: indices of the training examples, in the order of their classes' file.
      validation: indices of those held out.
      order: the generator of the data order.
      steps: optimizer steps.
      validation_every: steps between validations.
      batch_size: examples a step.
    """

    weights: Arrays
    masks: Arrays
    train: Array
    validation: Array
    order: np.random.Generator
    steps: int
    validation_every: int
    batch_size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What one training gave.

    Attributes:
      weights: name -> array at the last step.
      curve: a row a validation: step, loss, accuracy (over the interval, in training),
        val_loss, val_accuracy.
      result: early_stop_step (step of minimum validation loss, the first of equal ones),
        val_loss_min, test_accuracy_early_stop, test_accuracy_final, train_accuracy_final
        (accuracies in [0, 1]), seconds (of the first training, compilation included).
    """

    weights: dict[str, Array]
    curve: pd.DataFrame
    result: dict[str, Any]


class Trainer:
    """Trains one compiled model again and again on one data set.

    Args:
      model: a compiled, wrapped classifier.
      data: the data set; it is moved to the device whole.
    """

    def __init__(self, model: Any, data: Data):
        self._model = model
        self._train = (tf.constant(data.x_train), tf.constant(data.y_train))
        self._test = (tf.constant(data.x_test), tf.constant(data.y_test))
        self._all_test = tf.range(len(data.y_test))
        # One example through the model makes its metrics' variables, before any tracing.
        model.test_step((self._test[0][:1], self._test[1][:1]))
        self._fresh = rewind.Snapshot.of(model)
        self._interval = tf.function(self._run_interval, jit_compile=True)
        self._evaluate = tf.function(self._run_evaluation, jit_compile=True)

    def train(self, plan: Plan, on_interval: Callable[[int], None] = lambda steps: None) -> Trained:
        """Trains from the plan's weights with a fresh optimizer.

        Args:
          plan: what to train, on what, how long.
          on_interval: called after each interval with its number of steps.

        Raises:
          LotteryError: if the validation loss is never finite, or a weight ends as NaN.
        """
        began = time.perf_counter()
        start = dataclasses.replace(self._fresh, weights=dict(plan.weights))
        rewind.assign_masks(self._model, plan.masks)
        start.restore(self._model, plan.masks)
        variables = named_weights(self._model)
        validation = tf.constant(plan.validation, tf.int32)
        rows: list[dict[str, float]] = []
        best, best_weights = (np.inf, 0), None
        for step, indices in intervals(plan):
            count = step - (rows[-1]["step"] if rows else 0)
            logs = self._interval(tf.constant(indices, tf.int32), tf.constant(count, tf.int32),
                                  validation)
            rows.append({"step": step, **{name: float(value) for name, value in logs.items()}})
            if rows[-1]["val_loss"] < best[0]:
                best, best_weights = (rows[-1]["val_loss"], step), rewind.read(variables)
            on_interval(int(count))
        final = rewind.read(variables)
        if best_weights is None or not all(np.isfinite(value).all() for value in final.values()):
            raise LotteryError("A training must stay finite. Received: validation loss "
                               f"{rows[-1]['val_loss']} at step {rows[-1]['step']:.0f}; "
                               "try a lower learning_rate.")
        accuracy = {"test_accuracy_final": self._accuracy(self._test, self._all_test),
                    "train_accuracy_final": self._accuracy(self._train, plan.train)}
        for name, value in best_weights.items():
            variables[name].assign(value)
        accuracy["test_accuracy_early_stop"] = self._accuracy(self._test, self._all_test)
        result = {"early_stop_step": best[1], "val_loss_min": best[0], **accuracy,
                  "seconds": round(time.perf_counter() - began, 3)}
        return Trained(final, pd.DataFrame(rows), result)

    @property
    def compilations(self) -> int:
        """How many programs have been compiled for training so far."""
        return int(self._interval.experimental_get_tracing_count())

    def _accuracy(self, examples: tuple[tf.Tensor, tf.Tensor], indices: Any) -> float:
        return float(self._evaluate(*examples, tf.constant(indices, tf.int32))["accuracy"])

    # What follows is compiled.

    def _run_interval(self, indices: tf.Tensor, count: tf.Tensor,
                      validation: tf.Tensor) -> dict[str, tf.Tensor]:
        x, y = self._train

        def one_step(step: tf.Tensor) -> list[tf.Tensor]:
            self._model.train_step((tf.gather(x, indices[step]), tf.gather(y, indices[step])))
            return [step + 1]

        self._model.reset_metrics()
        tf.while_loop(lambda step: step < count, one_step, [tf.constant(0)])
        logs = dict(self._model.get_metrics_result())
        validated = self._run_evaluation(x, y, validation)
        return {**logs, **{f"val_{name}": value for name, value in validated.items()}}

    def _run_evaluation(self, x: tf.Tensor, y: tf.Tensor,
                        indices: tf.Tensor) -> dict[str, tf.Tensor]:
        size = min(indices.shape[0], _EVALUATED_TOGETHER)
        whole = indices.shape[0] // size

        def test(chosen: tf.Tensor) -> None:
            self._model.test_step((tf.gather(x, chosen), tf.gather(y, chosen)))

        def one_chunk(chunk: tf.Tensor) -> list[tf.Tensor]:
            test(tf.reshape(indices[:whole * size], (whole, size))[chunk])
            return [chunk + 1]

        self._model.reset_metrics()
        tf.while_loop(lambda chunk: chunk < whole, one_chunk, [tf.constant(0)])
        if indices.shape[0] % size:
            test(indices[whole * size:])
        return dict(self._model.get_metrics_result())


def intervals(plan: Plan) -> Iterator[tuple[int, Array]]:
    """The examples of each validation interval.

    Every epoch is a new permutation; a batch may hold the end of one and the beginning of
    the next, so that all batches are full.

    Yields:
      The step after the interval, and an index array of shape (validation_every,
      batch_size); a last, shorter interval leaves the rows past its end unused.
    """
    rows, waiting = plan.validation_every, np.empty(0, np.int64)
    for begin in range(0, plan.steps, rows):
        while len(waiting) < rows * plan.batch_size:
            waiting = np.concatenate([waiting, plan.order.permutation(plan.train)])
        taken, waiting = np.split(waiting, [rows * plan.batch_size])
        yield min(begin + rows, plan.steps), taken.reshape(rows, plan.batch_size)
