"""Builds the network of a configuration with Keras 3, and draws its initial weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.utils import naming  # There is no public name for it.

from lth_keras.experiments.training.models import KerasPackage, stateful_draws, training_graph
from lth_keras.keras3.weights import named_weights, TREE
from lth_keras.search.layer_tree import Slot


def _slots(model: Any) -> list[Slot]:
    names = named_weights(model)
    return [slot for slot in TREE.slots(model) if slot.path in names]


@contextlib.contextmanager
def _settings(dtype_policy: str) -> Iterator[None]:
    # Layers read the policy when they are created.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def _unseeded(model: Any) -> list[str]:
    if keras.backend.backend() != "tensorflow":
        return []  # Keras refuses it on JAX when a training is traced.
    graph = training_graph(model)
    own = {id(variable.value) for variable in model.variables}
    return [*stateful_draws(graph), *(
        variable.name.partition(":")[0] for variable in graph.variables
        if id(variable) not in own and "seed_generator" in variable.name)]


KERAS = KerasPackage(keras, _slots, _settings, keras.ops.convert_to_numpy, naming.reset_uids,
                     _unseeded)
