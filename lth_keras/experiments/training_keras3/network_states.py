"""The state of networks in training as arrays, in the order in which a compiled step takes them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from lth_keras.core import masks as mask_arrays
from lth_keras.core.fractions import Prunable
from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.single_weights import NONE
from lth_keras.core.structures.structure import Structure
from lth_keras.keras3 import optimizer_state
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import in_structure, named_weights


class NetworkState(NamedTuple):
    """The state of one network, or of several, whose arrays then have one axis more at the front.

    Attributes:
      trainable: the trainable weights.
      others: statistics of normalisation, and states of random generators.
      optimizer: counters, learning rate, slots, masks.
      metrics: the sums of loss and metrics.
    """

    trainable: list[Any]
    others: list[Any]
    optimizer: list[Any]
    metrics: list[Any]


class Steps(NamedTuple):
    """What the steps of an interval depend on beside the state; the same for all networks.

    Attributes:
      count: how many steps to train, int32.
      first: the number of steps trained before, int32.
      rate_first: the step of the learning-rate schedule at the training's first step, float32.
      rate_stretch: training steps for each step of the schedule, float32.
    """

    count: Any
    first: Any
    rate_first: Any
    rate_stretch: Any


class ModelLayout:
    """Where the weights, masks and seeds of a compiled model lie in its state.

    Args:
      model: a compiled model that is not trained yet.
      structure: the structure that its weights are pruned in.
      has_masks: whether any weights are pruned.

    Attributes:
      prunable: weight name -> the weight's name and layer.
      shapes: weight name -> shape, of prunable weights.
      structures: weight name -> structure, of prunable weights.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="fc")])
      >>> model.compile("sgd", "mse")
      >>> layout = ModelLayout(model)
      >>> weights = {"fc/kernel": np.ones((2, 1)), "fc/bias": np.zeros(1)}
      >>> state = layout.state(weights, {"fc/kernel": np.array([[1], [0]])}, seed=0)
      >>> layout.weights(state.trainable, state.others)["fc/kernel"].tolist()
      [[1.0], [0.0]]
    """

    def __init__(self, model: Any, structure: Structure = NONE, has_masks: bool = True):
        self.prunable: Mapping[str, Prunable]
        self.structures: Mapping[str, Structure]
        self.prunable, self.structures = in_structure(model, (), (), structure) \
            if has_masks else ({}, {})
        masks = ModelMasks(model, self.prunable)
        optimizer_state.build(model)
        self._variables = NetworkState(
            list(model.trainable_variables), list(model.non_trainable_variables),
            list(model.optimizer.variables), list(model.metrics_variables))
        # As they are in a fresh model.
        self._fresh = self.read()
        places = {id(variable): (part, number) for part, variables in enumerate(self._variables)
                  for number, variable in enumerate(variables)}
        found = named_weights(model)
        self._weights = {name: places[id(variable)] for name, variable in found.items()}
        self._masks = {name: places[id(variable)][1]
                       for attached in masks.attached for name, variable in
                       attached.variables.items()}
        self._seeds = [places[id(state)][1] for state in optimizer_state.seed_states(model)]
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(found[name].shape) for name in self.prunable}

    @property
    def variables(self) -> NetworkState:
        """The model's own variables."""
        return self._variables

    @property
    def fresh(self) -> NetworkState:
        """The values of a model that is not trained yet."""
        return self._fresh

    def state(self, weights: Arrays, masks: Arrays, seed: int) -> NetworkState:
        """The state at the beginning of a training: a fresh optimizer, metrics that are zero.

        Args:
          weights: name -> array, for every weight; pruned ones become zero.
          masks: weight name -> 0/1 array; no masks for a dense network.
          seed: seeds the random generators, in [0, 2**31).
        """
        state = NetworkState(*(list(part) for part in self._fresh))
        for name, value in mask_arrays.apply(weights, masks).items():
            part, number = self._weights[name]
            state[part][number] = np.asarray(value, state[part][number].dtype)
        for name, number in self._masks.items():
            if name in masks:
                state.optimizer[number] = np.asarray(masks[name] != 0)
        return self._seeded(state, seed)

    def _seeded(self, state: NetworkState, seed: int) -> NetworkState:
        for count, number in enumerate(self._seeds):
            state.others[number] = np.array([seed + count, 0], state.others[number].dtype)
        return state

    def read(self) -> NetworkState:
        """The values of the model's own variables."""
        return NetworkState(*([_value(variable) for variable in part] for part in self._variables))

    def write(self, state: NetworkState) -> None:
        """Sets the model's own variables."""
        for variables, values in zip(self._variables, state, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def weights(self, trainable: Sequence[Any], others: Sequence[Any]) -> dict[str, Array]:
        """The weights of one network by name.

        Args:
          trainable: as in `NetworkState`.
          others: as in `NetworkState`.
        """
        return {name: np.array((trainable, others)[part][number])
                for name, (part, number) in self._weights.items()}


def _value(variable: Any) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable.value))
