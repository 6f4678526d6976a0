"""Everything that a model holds: its variables and optimizers, wherever they lie.

Keras lists the weights of a model and knows one optimizer.  A model of a user's own may hold more:
the two optimizers of a GAN, a teacher's, the states of a recurrent layer, an average of its
weights, a counter in a closure.  Training changes them all, so that all must be rewound and kept.
"""

import collections
import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.masking.weight_names import is_graph, parts

_LEGACY_OPTIMIZER: Any = keras.optimizers.legacy.Optimizer
# Objects of these packages are gone into only if they are of one of the kinds below.
_FOREIGN = ("tensorflow", "keras", "tf_keras", "numpy", "builtins", "pandas", "absl")
_KINDS = (keras.layers.Layer, tf.Module, keras.losses.Loss, keras.optimizers.Optimizer,
          _LEGACY_OPTIMIZER, keras.callbacks.Callback, tf.__internal__.tracking.AutoTrackable)
# What leads back into graphs, to what others hold, or out of the model.
_PASSED_BY = frozenset({
    "_inbound_nodes_value", "_outbound_nodes_value", "_obj_reference_counts_dict", "_distribution_"
    "strategy", "_layout_map", "_thread_local", "train_function", "test_function",
    "predict_function", "train_tf_function", "history", "_training_state", "_compile_config",
    "_self_unconditional_checkpoint_dependencies", "_self_unconditional_dependency_names",
    "_self_unconditional_deferred_dependencies", "_nested_inputs", "_nested_outputs",
    "_network_nodes", "_nodes_by_depth", "_layer_call_argspecs", "_self_tracked_trackables",
    # Keras' own counters of steps, which every `fit` begins anew.
    "_train_counter", "_test_counter", "_predict_counter", "_steps_per_execution"})


@dataclasses.dataclass(frozen=True)
class Held:
    """Something that a model holds.

    Attributes:
      path: the attributes that lead to it, such as "d_opt" or "lstm.cell.states[0]".
      value: the object.
      owners: the objects on the way, from the model to its holder.
    """

    path: str
    value: Any
    owners: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """What holds it: "optimizer", "seed", "loss", "metric", "state" or "variable"."""
        for owner in reversed(self.owners):
            if is_optimizer(owner):
                return "optimizer"
            if isinstance(owner, tf.random.Generator):
                return "seed"
            if isinstance(owner, keras.metrics.Metric):
                return "metric"
            if isinstance(owner, keras.losses.Loss):
                return "loss"
            if isinstance(owner, keras.layers.RNN):
                return "state"
        return "variable"


def is_optimizer(value: Any) -> bool:
    """Whether an object is an optimizer of tf_keras, of today's kind or of before Keras 2.11."""
    return isinstance(value, (keras.optimizers.Optimizer, _LEGACY_OPTIMIZER))


def contents(model: Any) -> Iterator[Held]:
    """Every variable and optimizer that a model holds, each once, the shortest way first.

    Args:
      model: a model; what its attributes, lists, tuples, dicts, functions and other objects lead to
        is found, at any depth.

    Returns:
      The variables, those of optimizers too, and the optimizers.
    """
    seen = {id(model)}
    waiting: collections.deque[Held] = collections.deque([Held("", model, ())])
    while waiting:
        held = waiting.popleft()
        if isinstance(held.value, tf.Variable):
            yield held
            continue
        if is_optimizer(held.value):
            yield held
        for step, value in _parts(held.value):
            if id(value) not in seen and _is_entered(value):
                seen.add(id(value))
                owners = held.owners if isinstance(held.value, (list, tuple, dict)) \
                    else (*held.owners, held.value)
                waiting.append(Held((held.path + step).lstrip("."), value, owners))


def _is_entered(value: Any) -> bool:
    if isinstance(value, (tf.Variable, list, tuple, dict, set, functools.partial,
                          types.FunctionType, types.MethodType, *_KINDS)):
        return True
    if isinstance(value, (str, bytes, int, float, bool, type(None), type, types.ModuleType)):
        return False
    return type(value).__module__.split(".")[0] not in _FOREIGN \
        or type(value).__name__ in ("LossesContainer", "MetricsContainer", "RandomGenerator")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in list(value.items()))
    elif isinstance(value, (list, tuple, set)):
        yield from ((f"[{place}]", item) for place, item in enumerate(list(value)))
    elif isinstance(value, functools.partial):
        yield from ((".arguments", item) for item in (value.func, *value.args,
                                                      *value.keywords.values()))
    elif isinstance(value, types.MethodType):
        yield from ((".function", value.__func__), (".self", value.__self__))
    elif isinstance(value, types.FunctionType):
        yield from _closure(value)
    else:
        if is_graph(value):  # Its layers lie in lists of Keras' own.
            yield from ((f".{name}", layer) for name, layer in parts(value))
        yield from _attributes(value)


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # A name that is not bound yet.
            continue


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    found = getattr(value, "__dict__", {})
    for name, item in list(found.items()):
        if name not in _PASSED_BY:
            yield f".{name}", item
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()) if isinstance(
                getattr(kind, "__slots__", ()), (tuple, list)) else ():
            item = getattr(value, name, None)
            if item is not None and name not in found:
                yield f".{name}", item
