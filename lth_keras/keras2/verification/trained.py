"""One training of a model, recorded step by step, on the same batches and seeds every time."""

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

BATCH = 32  # Examples of arrays in a batch, as in `fit`.


def batches_of(data: Any, steps: int) -> list[Any]:
    """The batches of data as `fit` takes them: (x, y), x, a data set, a Sequence or a generator.

    Args:
      data: a tuple (x, y) or (x, y, sample_weight) of arrays or nests of arrays; an array or nest
        of inputs; a tf.data.Dataset or keras.utils.Sequence of batches; or an iterable of them.
      steps: how many batches; those that there are are repeated where there are fewer.

    Raises:
      LotteryError: if there are no batches.

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
    """Trains a compiled model by `fit`, a step a batch, and records it.

    Args:
      model: a compiled model.
      batches: one a step.
      seed: of every draw.  A step that is traced already keeps the seed that it was traced with,
        and its draws begin anew: trainings that are to be compared take the same seed.
      after_step: called after every step.
    """
    recorder = _Recorder(model, after_step)
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
    """Compiles a model as another one was compiled; returns it.

    A model of a class of the user's own, whose compile takes arguments of its own, keeps what its
    compile has put into its attributes.

    Args:
      model: a model, wrapped or stripped, that was made of the other; or the other itself.
      other: a compiled model that has not been trained: they share its optimizer.
      changed: arguments of `compile` that are to differ.
    """
    settings = {**other._compile_config.config, **changed}
    if settings["optimizer"] is not None:
        settings["optimizer"] = other.optimizer
    keras.Model.compile(model, **settings)
    return model


def run_eagerly(model: Any, eagerly: bool) -> dict[str, Any]:
    """Arguments of `compile` for a training whose every step is recorded."""
    return {"steps_per_execution": 1, **({"run_eagerly": True, "jit_compile": False}
                                         if eagerly else {})}


@contextlib.contextmanager
def gradients_seen(optimizers: Iterable[Any], see: Callable[[Any, Any], None]) -> Iterator[None]:
    """Shows every gradient that an optimizer is given while a model trains eagerly.

    Args:
      optimizers: those to watch.
      see: called with each variable and its gradient, which is None where it has none.
    """
    watched = list(optimizers)

    def watching(apply: Any) -> Any:
        def seen(grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
            pairs = list(grads_and_vars)
            for gradient, variable in pairs:
                see(variable, gradient)
            return apply(pairs, *args, **kwargs)
        return seen
    for optimizer in watched:
        vars(optimizer)["apply_gradients"] = watching(optimizer.apply_gradients)
    try:
        yield
    finally:
        for optimizer in watched:
            del vars(optimizer)["apply_gradients"]
