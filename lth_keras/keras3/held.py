"""What a Keras 3 model holds, also where Keras does not look for it.

Keras tracks layers and variables in attributes, lists and dicts of layers.  A training may change
more: optimizers of the user's own train_step, variables in an object of the user's own class or in
a closure, TensorFlow's own variables, the buffers of torch modules.
"""

import collections
import functools
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

# What leads back to other layers, or out of the model.
_PASSED_BY = frozenset({
    "_inbound_nodes", "_outbound_nodes", "_tracker", "history", "train_function", "test_function",
    "predict_function", "_compile_config", "_distribute_strategy"})
_FOLLOWED = (keras.layers.Layer, list, tuple, dict, functools.partial, types.FunctionType,
             types.MethodType)
_ENDS = (keras.optimizers.Optimizer, keras.Variable, keras.random.SeedGenerator)
# Objects of their classes are theirs to keep.  Those of all other classes are the user's.
_OTHERS = frozenset({"keras", "tensorflow", "jax", "jaxlib", "torch", "numpy", "pandas", "builtins",
                     "lth_keras", "collections", "functools", "types"})


def optimizers(model: Any) -> list[Any]:
    """The optimizers that attributes, lists, dicts, layers and functions lead to from a model.

    Args:
      model: the model, or a list of what is to be followed.
    """
    # Not by way of objects of the user's own: one that knows of other trainings leads to theirs.
    return [value for value in _reached(model, _FOLLOWED)
            if isinstance(value, keras.optimizers.Optimizer)]


def untracked(model: Any) -> list[Any]:
    """The variables that a model leads to and Keras does not track; not those of optimizers.

    Returns:
      Objects with `shape`, `value` and `assign`.

    Example:
      >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
      >>> variable = keras.Variable(3.0)
      >>> model.layers[0].read = lambda found=variable: found
      >>> untracked(model) == [variable]
      True
    """
    tracked = [*model.variables, *(generator.state for generator in seed_generators(model))]
    # On the TensorFlow backend, Keras keeps second references to the value of a variable.
    known = {id(item) for variable in tracked for item in (variable, variable._value)}
    found = {id(value): value for value in _reached(model)
             if isinstance(value, keras.Variable) or _is_raw(value)}
    known |= {id(value._value) for value in found.values() if isinstance(value, keras.Variable)}
    return [*(value if isinstance(value, keras.Variable) else _Raw(value)
              for key, value in found.items() if key not in known), *map(_Raw, _buffers(model))]


def seed_generators(model: Any) -> list[Any]:
    """The generators that layers of a model, or what they hold, draw random numbers from."""
    found = {id(generator): generator for layer in model._flatten_layers()
             for generator in layer._seed_generators}
    found.update((id(value), value) for value in _reached(model)
                 if isinstance(value, keras.random.SeedGenerator))
    return list(found.values())


class _Raw:
    """A variable of TensorFlow's own, or a buffer of torch, as a variable of Keras."""

    def __init__(self, variable: Any):
        self._variable = variable
        self.shape = tuple(variable.shape)

    @property
    def value(self) -> Any:
        return np.array(keras.ops.convert_to_numpy(self._variable))

    def assign(self, value: Any) -> None:
        if hasattr(self._variable, "assign"):
            self._variable.assign(value)
        else:
            self._variable.copy_(keras.ops.convert_to_tensor(value, dtype=value.dtype.name))


def _is_raw(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("tensorflow.") and kind.__name__.endswith("Variable")


def _buffers(model: Any) -> list[Any]:
    # On the torch backend a layer may hold modules of torch, such as its batch normalisation.
    return [buffer for layer in model._flatten_layers()
            for module in vars(layer).get("_modules", {}).values()
            if hasattr(module, "buffers") and not isinstance(module, keras.layers.Layer)
            for buffer in module.buffers()]


def _reached(model: Any, kinds: tuple[type, ...] | None = None) -> Iterator[Any]:
    """What a model leads to by way of objects of some kinds, or of those that `_is_followed`."""
    def is_followed(value: Any) -> bool:
        return _is_followed(value) if kinds is None else isinstance(value, kinds)
    seen = {id(model)}
    waiting: collections.deque[Any] = collections.deque([model])
    while waiting:
        value = waiting.popleft()
        if not is_followed(value):
            yield value
            continue
        for part in _parts(value):
            if id(part) not in seen and (isinstance(part, _ENDS) or _is_raw(part)
                                         or is_followed(part)):
                seen.add(id(part))
                waiting.append(part)


def _is_followed(value: Any) -> bool:
    if isinstance(value, _FOLLOWED):
        return True
    return type(value).__module__.partition(".")[0] not in _OTHERS and hasattr(value, "__dict__") \
        and not isinstance(value, (type, types.ModuleType, keras.metrics.Metric, *_ENDS))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        # A name of a closure that is not bound yet has an empty cell.
        cells = [cell for cell in value.__closure__ or () if cell != types.CellType()]
        return [*(cell.cell_contents for cell in cells), *(value.__defaults__ or ())]
    return [part for name, part in list(vars(value).items()) if name not in _PASSED_BY]
