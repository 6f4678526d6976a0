"""Keeps pruned weights of a Keras 3 model at zero, by masks in its optimizer.

Keras 3 gives every gradient to `optimizer.apply`, on each backend and whatever the layer or the
training step.  There the gradients of pruned weights become zero.  A pruned weight and its slots
are zero when its mask is assigned, and an optimizer that works by the weight leaves them so; one
that mixes the gradients of a weight's elements, such as Muon, moves them, and so may a constraint,
or one that keeps slots where they are not found: after those, pruned weights are set to zero again.

The model's class, its forward pass and what it saves stay as they are: the masks are variables that
the optimizer tracks while it trains, so that JAX passes them into the compiled step and nothing is
compiled again when they change, and that no file of Keras holds.

A layer may also be trained by an optimizer that has no masks: that of another model which has the
layer, or of a loop of the user's own.  Keras calls the constraint of a variable in every step of
every optimizer; so a masked weight has one, which sets pruned elements to zero in those steps.
"""

import functools
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.keras3 import optimizer_state


class ZeroConstraint(keras.constraints.Constraint):  # type: ignore[misc]
    """The constraint of a masked weight, for the steps of optimizers that do not have its mask.

    It is the variable's alone, and not its layer's: no config and no file of Keras names it.

    Args:
      weight: a variable; it gets this constraint, which calls its own one first.
      name: its name.

    Attributes:
      own: the constraint that the weight had, or None.
      tokens: those of the optimizers that mask the weight themselves.
      compiled: whether JAX has compiled a step with the mask as it is now.

    Example:
      >>> weight = keras.Variable([1.0, 2.0])
      >>> _ = ZeroConstraint(weight, "w").assign(np.array([1, 0]), set())
      >>> keras.optimizers.SGD(1.0).apply([keras.ops.array([3.0, 3.0])], [weight])
      >>> keras.ops.convert_to_numpy(weight).tolist()
      [-2.0, 0.0]
    """

    def __init__(self, weight: Any, name: str):
        self.own = weight.constraint
        self.tokens: set[object] = set()
        self.compiled = False
        self._mask = _mask_like(weight, name)
        self._values = np.ones(weight.shape, np.uint8)
        weight.constraint = self

    @staticmethod
    def of(weight: Any) -> "ZeroConstraint | None":
        """The constraint of a weight, if it is one of these."""
        found = getattr(weight, "constraint", None)
        return found if isinstance(found, ZeroConstraint) else None

    def __call__(self, w: Any) -> Any:
        value = keras.ops.convert_to_tensor(w if self.own is None else self.own(w))
        self.compiled |= _is_compiled(value)
        return _masked(value, self._mask)

    def read(self) -> Array:
        """The mask, uint8."""
        return self._values

    def assign(self, mask: Array, tokens: set[object]) -> bool:
        """Sets the mask, and which optimizers have it; says whether steps keep an earlier one.

        Those that JAX has compiled do, with optimizers that do not have the mask.
        """
        values = np.asarray(mask != 0, np.uint8)
        stale = self.compiled and self.tokens is tokens and bool(np.any(values != self._values))
        if self.tokens is not tokens or stale:
            self.compiled = False
        self.tokens, self._values = tokens, values
        self._mask.assign(values != 0)
        return stale


def masks_of(weights: Mapping[str, Any]) -> dict[str, Array]:
    """The masks that variables have, whichever model their layers were pruned in.

    Args:
      weights: name -> variable; those without a mask are left out.
    """
    return {name: found.read() for name, weight in weights.items()
            if (found := ZeroConstraint.of(weight)) is not None}


class OptimizerMasks:
    """The masks of one optimizer, which are applied to what it is given.

    Args:
      optimizer: an optimizer that wraps no other.
      weights: name -> variable, those to be masked; the optimizer may step only some of them.

    Attributes:
      variables: the masks by weight name.
      token: what a `ZeroConstraint` knows the optimizer by.

    Example:
      >>> weight = keras.Variable([1.0, 2.0])
      >>> optimizer = keras.optimizers.SGD(1.0)
      >>> masks = OptimizerMasks(optimizer, {"w": weight})
      >>> masks.assign({"w": np.array([1, 0], np.uint8)})
      >>> optimizer.apply([keras.ops.array([3.0, 3.0])], [weight])
      >>> keras.ops.convert_to_numpy(weight).tolist()
      [-2.0, 2.0]
    """

    def __init__(self, optimizer: Any, weights: Mapping[str, Any]):
        self._optimizer = optimizer
        self._weights = dict(weights)
        self.token = object()
        self.variables = {name: _mask_like(weight, name) for name, weight in weights.items()}
        self._by_key = {optimizer._var_key(weight): self.variables[name]
                        for name, weight in weights.items()}
        mixes = mixes_elements(optimizer)
        self._settled = {optimizer._var_key(weight) for weight in weights.values()
                         if mixes or own_constraint(weight) is not None}
        self._apply = optimizer.apply
        for variable in self.variables.values():
            optimizer._track_variable(variable)
        # In the instance alone: the optimizer keeps its class, which is what Keras saves.
        vars(optimizer)["apply"] = self._masked_apply
        leave_out(optimizer, self.variables.values())

    def assign(self, masks: Arrays) -> None:
        """Sets the masks; weights and slots are not changed.

        Args:
          masks: weight name -> 0/1 array.
        """
        for name, variable in self.variables.items():
            variable.assign(np.asarray(masks[name] != 0))

    def _masked_apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        optimizer = self._optimizer
        variables = list(optimizer._trainable_variables if trainable_variables is None
                         else trainable_variables)
        masks = [self._by_key.get(optimizer._var_key(variable)) for variable in variables]
        masked = [gradient if mask is None or gradient is None else _masked(gradient, mask)
                  for gradient, mask in zip(grads, masks, strict=True)]
        spared = [(variable, found) for variable in variables
                  if (found := ZeroConstraint.of(variable)) and self.token in found.tokens]
        for variable, found in spared:
            variable.constraint = found.own
        try:  # Keras' own checks differ where no variables are given.
            self._apply(masked, None if trainable_variables is None else variables)
        finally:
            for variable, found in spared:
                variable.constraint = found
        for variable, mask in zip(variables, masks, strict=True):
            if mask is not None and optimizer._var_key(variable) in self._settled:
                for moved in (variable, *self._averages(variable)):
                    moved.assign(_masked(moved, mask))

    def _averages(self, variable: Any) -> list[Any]:
        # Keras averages a weight within `apply`, before it is set to zero again.
        if not self._optimizer.use_ema:
            return []
        return [self._optimizer._model_variables_moving_average[
            self._optimizer._get_variable_index(variable)]]


def leave_out(optimizer: Any, masks: Iterable[Any]) -> None:
    """Leaves variables out of what Keras saves of an optimizer and looks for in its files.

    Args:
      optimizer: the optimizer, or one that wraps it.
      masks: variables that it tracks while it trains.
    """
    hidden = {id(variable) for variable in masks}

    def kept() -> list[Any]:
        return [variable for variable in optimizer.variables if id(variable) not in hidden]

    def save_own_variables(store: Any) -> None:
        for number, variable in enumerate(kept()):
            store[str(number)] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(store: Any) -> None:
        found = kept()
        if len(store.keys()) == len(found):
            for number, variable in enumerate(found):
                variable.assign(store[str(number)])
        else:  # Keras' own warning.
            type(optimizer).load_own_variables(optimizer, store)
    vars(optimizer).update(save_own_variables=save_own_variables,
                           load_own_variables=load_own_variables)


@functools.cache
def _pattern() -> tuple[Array, Array]:
    # No row or column that is zero, and none like another: what mixes elements shows.
    weights = np.array([[0.3, -0.2, 0.5], [0.4, 0.6, 0.0], [0.0, -0.7, 0.1]], np.float32)
    return weights, np.where(weights != 0, weights[::-1, ::-1] + 0.05, 0).astype(np.float32)


def mixes_elements(optimizer: Any) -> bool:
    """Whether an optimizer moves elements of a weight that are zero and get no gradient.

    It is tried on a copy, which has trained all elements before some are pruned and their slots
    made fresh; an optimizer that cannot be copied is taken to do so.

    Example:
      >>> mixes_elements(keras.optimizers.Adam()), mixes_elements(keras.optimizers.Muon())
      (False, True)
    """
    start, gradient = _pattern()
    try:
        config = optimizer.get_config() | {"gradient_accumulation_steps": None}
        copy = type(optimizer).from_config(config)
        weight = keras.Variable(np.add(start, np.float32(0.25)))
        copy.build([weight])
        copy.apply([keras.ops.convert_to_tensor(np.add(gradient, np.float32(0.25)))], [weight])
        weight.assign(start)
        fresh = optimizer_state.fresh_slots(optimizer)
        for kind, slot in optimizer_state.slots_of(copy, weight).items():
            slot.assign(np.where(start != 0, keras.ops.convert_to_numpy(slot), fresh.get(kind, 0)))
        for _ in range(2):
            copy.apply([keras.ops.convert_to_tensor(gradient)], [weight])
        return bool(np.any(keras.ops.convert_to_numpy(weight)[start == 0]))
    except Exception:  # An optimizer of the user's own, of which nothing is known.
        return True


def own_constraint(weight: Any) -> Any:
    """The constraint of a variable that is the user's, or None."""
    found = ZeroConstraint.of(weight)
    return found.own if found else weight.constraint


def _is_compiled(value: Any) -> bool:
    # JAX holds what a step reads beside its arguments as a constant; others read it in each step.
    return keras.backend.backend() == "jax" and isinstance(
        value, importlib.import_module("jax").core.Tracer)


def _mask_like(weight: Any, name: str) -> Any:
    return keras.Variable(np.ones(weight.shape, bool), dtype="bool", trainable=False,
                          name=f"{name.replace('/', '_')}_mask")


def _masked(value: Any, mask: Any) -> Any:
    if hasattr(value, "dense_shape"):  # The rows of an embedding that
        rows = keras.ops.take(mask, value.indices, axis=0)      # occur in the batch.
        return type(value)(_masked(value.values, rows), value.indices, value.dense_shape)
    value = keras.ops.convert_to_tensor(value)
    # Not a product: a gradient of a pruned weight that is not finite is left out too.
    return keras.ops.where(keras.ops.convert_to_tensor(mask), value, keras.ops.zeros_like(value))
