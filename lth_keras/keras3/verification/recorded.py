"""Trains a Keras 3 model on the same batches and seeds every time, and records every step."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array
from lth_keras.core.verification import Recording
from lth_keras.errors import LotteryError
from lth_keras.keras3.loss_gradient import batches, is_data_set
from lth_keras.keras3.verification.contents import stored
from lth_keras.keras3.weights import named_weights

BATCH = 32  # The batch size for arrays, which is the default of `fit`.


def batches_of(data: Any, steps: int) -> list[Any]:
    """Returns a number of batches, as arrays, from any kind of data that `fit` takes.

    Args:
      data: a tuple (x, y) or (x, y, sample_weight) of arrays or nests of arrays; an array or dict
        of inputs; or a tf.data.Dataset, PyDataset, torch DataLoader or iterable of batches.
      steps: the number of batches.  If the data has fewer, they are repeated.

    Raises:
      LotteryError: if the data has no batch.

    Example:
      >>> [len(x) for x, y in batches_of((np.zeros((40, 2)), np.zeros(40)), steps=3)]
      [32, 8, 32]
    """
    if not is_data_set(data) and (isinstance(data, (tuple, dict)) or hasattr(data, "shape")):
        found = batches(data, BATCH) if len(data) else []
    elif is_data_set(data) or isinstance(data, Iterable):
        found = data
    else:
        found = []
    found = [keras.tree.map_structure(_array, batch) for batch in itertools.islice(found, steps)]
    if not found:
        raise LotteryError("data must be what fit takes: (x, y), x, a tf.data.Dataset, a PyDataset "
                           "or an iterable of batches, and not empty. "
                           f"Received: {data!r:.200}.")
    return list(itertools.islice(itertools.cycle(found), steps))


def train(model: Any, data: list[Any], seed: int,
          after_step: Callable[[], None] | None = None) -> Recording:
    """Trains a compiled model with `fit` and records the training.

    Args:
      model: a compiled model.
      data: the batches, one for each step.
      seed: the seed of all random numbers that do not come from the model's own generators.
      after_step: a function that is called after every step.
    """
    recorder = _Recorder(model, seed, after_step)
    _seed(seed)
    options = {"verbose": 0, "epochs": 1, "shuffle": False, "callbacks": [recorder]}
    if isinstance(data[0], (tuple, list)):
        model.fit(_Batches([tuple(batch) for batch in data]), **options)
    else:  # Inputs alone, which a train_step of the user's own gets as they are.
        size = len(keras.tree.flatten(data[0])[0])
        whole = [batch for batch in data if len(keras.tree.flatten(batch)[0]) == size]
        whole = list(itertools.islice(itertools.cycle(whole), len(data)))
        model.fit(keras.tree.map_structure(lambda *parts: np.concatenate(parts), *whole),
                  batch_size=size, **options)
    return recorder.recording


def weights_now(model: Any) -> dict[str, Array]:
    """Copies of a model's weights by name, also in the middle of a fit on JAX."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    return {name: stored(variable) for name, variable in named_weights(model).items()}


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    # One by one, since the last batch of an epoch may have fewer examples than the others.

    def __init__(self, data: list[Any]):
        super().__init__()
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, number: int) -> Any:
        return self._data[number]


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, model: Any, seed: int, after_step: Callable[[], None] | None):
        super().__init__()
        self.recording = Recording(weights_now(model))
        self._seed, self._after_step = seed, after_step

    def on_train_begin(self, logs: Any = None) -> None:
        # Again: the first `fit` of a model calls it once, which may have drawn.
        _seed(self._seed)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.recording.add(weights_now(self.model), float((logs or {}).get("loss", float("nan"))))
        if self._after_step is not None:
            self._after_step()


def _seed(seed: int) -> None:
    """Sets all seeds, that of Keras' own generator in place.

    A compiled step holds the generator that it was traced with; Keras would make a new one.
    """
    state = keras.src.backend.common.global_state
    name = keras.src.random.seed_generator.GLOBAL_SEED_GENERATOR
    held = state.get_global_attribute(name)
    keras.utils.set_random_seed(seed)
    fresh = keras.src.random.seed_generator.global_seed_generator()
    if held is not None:
        held.state.assign(fresh.state)
        state.set_global_attribute(name, held)


def _array(value: Any) -> Any:
    if value is None or isinstance(value, np.ndarray):
        return value
    return keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else np.asarray(value)
