"""Trains a model on the same batches and seeds every time, and records every step."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.verification import Recording
from lth_keras.errors import LotteryError
from lth_keras.keras2 import rewinding
from lth_keras.keras2.masking.weight_names import named_weights

BATCH = 32  # The batch size for arrays, which is the default of `fit`.


def batches_of(data: Any, steps: int) -> list[Any]:
    """Returns a number of batches from any kind of data that `fit` takes.

    Args:
      data: a tuple (x, y) or (x, y, sample_weight) of arrays or nests of arrays; an array or nest
        of inputs; or a tf.data.Dataset, keras.utils.Sequence or iterable of batches.
      steps: the number of batches.  If the data has fewer, they are repeated.

    Raises:
      LotteryError: if the data has no batch.

    Example:
      >>> [len(x) for x, y in batches_of((np.zeros((40, 2)), np.zeros(40)), steps=3)]
      [32, 8, 32]
    """
    if isinstance(data, tf.data.Dataset):
        found = list(data.take(steps))
    elif isinstance(data, keras.utils.Sequence):
        found = [data[place] for place in range(min(steps, len(data)))]
    elif (isinstance(data, (tuple, dict, np.ndarray)) and len(data)) or tf.is_tensor(data):
        found = list(tf.data.Dataset.from_tensor_slices(data).batch(BATCH).take(steps))
    elif isinstance(data, Iterable):
        found = list(itertools.islice(data, steps))
    else:
        found = []
    if not found:
        raise LotteryError("data must be what fit takes: (x, y), x, a tf.data.Dataset, a Sequence "
                           f"or an iterable of batches, and not empty. Received: {data!r:.200}.")
    return list(itertools.islice(itertools.cycle(found), steps))


def train(model: Any, batches: list[Any], seed: int,
          after_step: Callable[[], None] | None = None) -> Recording:
    """Trains a compiled model with `fit` and records the training.

    Args:
      model: a compiled model.
      batches: the batches, one for each step.
      seed: the seed of all random numbers.  A step function that is traced already keeps the seed
        of its tracing, so trainings to be compared must have the same seed.
      after_step: a function that is called after every step.
    """
    recorder = _Recorder(model, after_step)
    # One by one, since the last batch of an epoch may have fewer examples than the others.
    data = tf.data.Dataset.from_tensors(batches[0])
    for batch in batches[1:]:
        data = data.concatenate(tf.data.Dataset.from_tensors(batch))
    keras.utils.set_random_seed(seed)
    model.fit(data, epochs=1, verbose=0, callbacks=[recorder])
    return recorder.recording


class _Recorder(keras.callbacks.Callback):
    def __init__(self, model: Any, after_step: Callable[[], None] | None):
        super().__init__()
        self.recording = Recording(_read(model))
        self._after_step = after_step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.recording.add(_read(self.model), float((logs or {}).get("loss", float("nan"))))
        if self._after_step is not None:
            self._after_step()


def _read(model: Any) -> dict[str, Any]:
    return rewinding.read(named_weights(model))


def compiled_as(model: Any, other: Any, **changed: Any) -> Any:
    """Compiles a model like another one, and returns it.

    Args:
      model: a model, wrapped or stripped, that was made from the other; or the other itself.
      other: a compiled model that has not been trained; the model gets its optimizer.
      changed: arguments of `compile` that differ.
    """
    settings = {**other._compile_config.config, **changed}
    if settings["optimizer"] is not None:
        settings["optimizer"] = other.optimizer
    # Not model.compile: that of a user's class may take other arguments. What it stored in the
    # attributes of `other`, the model has already.
    keras.Model.compile(model, **settings)
    return model


@contextlib.contextmanager
def gradients_seen(optimizers: Iterable[Any], see: Callable[[Any, Any], None]) -> Iterator[None]:
    """A context in which a function sees every gradient that optimizers get in eager training.

    Args:
      optimizers: the optimizers to watch.
      see: a function that is called with each variable and its gradient, or None.
    """
    watched = list(optimizers)

    def watching(apply: Any) -> Any:
        def seen(grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = list(grads_and_vars)
            for gradient, variable in pairs:
                see(variable, gradient)
            return apply(pairs, *args, **kwargs)
        return seen
    # In the instance's dict, so that deleting it restores the method of the class.
    for optimizer in watched:
        vars(optimizer)["apply_gradients"] = watching(optimizer.apply_gradients)
    try:
        yield
    finally:
        for optimizer in watched:
            del vars(optimizer)["apply_gradients"]
