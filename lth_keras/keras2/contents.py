"""Finds all variables and optimizers that a model holds, wherever they are.

Keras lists a model's weights and knows one optimizer.  A user's model may hold more: the two
optimizers of a GAN, a teacher model's, the states of a recurrent layer, an average of its weights,
a counter in a closure.  Training changes all of them, so all must be rewound and saved.
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
# Objects of these packages are searched only if they are of one of the kinds below: the others,
# such as graphs and data frames, are large and hold nothing that training changes.
_FOREIGN = ("tensorflow", "keras", "tf_keras", "numpy", "builtins", "pandas", "absl")
_KINDS = (keras.layers.Layer, tf.Module, keras.losses.Loss, keras.optimizers.Optimizer,
          _LEGACY_OPTIMIZER, keras.callbacks.Callback, tf.__internal__.tracking.AutoTrackable)
# Attributes that are not followed: they lead into graphs, or to objects that are found elsewhere or
# do not belong to the model.
_PASSED_BY = frozenset({
    "_inbound_nodes_value", "_outbound_nodes_value", "_obj_reference_counts_dict", "_distribution_"
    "strategy", "_layout_map", "_thread_local", "train_function", "test_function",
    "predict_function", "train_tf_function", "history", "_training_state", "_compile_config",
    "_self_unconditional_checkpoint_dependencies", "_self_unconditional_dependency_names",
    "_self_unconditional_deferred_dependencies", "_nested_inputs", "_nested_outputs",
    "_network_nodes", "_nodes_by_depth", "_layer_call_argspecs", "_self_tracked_trackables",
    # Keras' own counters of steps, which every `fit` resets.
    "_train_counter", "_test_counter", "_predict_counter", "_steps_per_execution"})


@dataclasses.dataclass(frozen=True)
class Held:
    """An object that a model holds.

    Attributes:
      path: the attributes that lead to it, such as "d_opt" or "lstm.cell.states[0]".
      value: the object.
      owners: the objects that lead to it, from the model to the one that holds it; no containers.
    """

    path: str
    value: Any
    owners: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """The kind of its holder: "optimizer", "seed", "loss", "metric", "state" or "variable"."""
        # The nearest holder counts: a metric inside a layer inside an RNN is a metric.
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
    """Whether an object is an optimizer of tf_keras, of the current or the legacy kind.

    Example:
      >>> is_optimizer(keras.optimizers.Adam()), is_optimizer(keras.optimizers.legacy.SGD())
      (True, True)
    """
    return isinstance(value, (keras.optimizers.Optimizer, _LEGACY_OPTIMIZER))


def contents(model: Any) -> Iterator[Held]:
    """Yields every variable and optimizer that a model holds, each once, by its shortest path.

    Args:
      model: the model.  Its attributes, lists, tuples, dicts, functions and other objects are
        searched to any depth.

    Returns:
      The variables, including those of optimizers, and the optimizers.

    Example:
      >>> model = keras.Sequential([keras.layers.Dense(1, name="head")])
      >>> model.build((None, 2))
      >>> model.helper = types.SimpleNamespace(counts=[tf.Variable(0)])
      >>> sorted(held.path for held in contents(model))
      ['head.bias', 'head.kernel', 'helper.counts[0]']
    """
    # Breadth first, so that the path in messages is the shortest, and without recursion, since
    # lists of objects may be linked deeper than Python's limit.
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
    """Whether an object is searched: whether it may lead to a variable or an optimizer."""
    if isinstance(value, (tf.Variable, list, tuple, dict, set, functools.partial,
                          types.FunctionType, types.MethodType, *_KINDS)):
        return True
    if isinstance(value, (str, bytes, int, float, bool, type(None), type, types.ModuleType)):
        return False
    # Three classes of Keras that hold losses, metrics and seeds derive from none of the kinds.
    return type(value).__module__.split(".")[0] not in _FOREIGN \
        or type(value).__name__ in ("LossesContainer", "MetricsContainer", "RandomGenerator")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    # The objects that an object holds, each with the step of the path that leads to it.
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
        if is_graph(value):  # By the names of its layers rather than those of Keras' private lists.
            yield from ((f".{name}", layer) for name, layer in parts(value))
        yield from _attributes(value)


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # The variable is not assigned yet.
            continue


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    found = getattr(value, "__dict__", {})
    for name, item in list(found.items()):
        if name not in _PASSED_BY:
            yield f".{name}", item
    # Classes with __slots__ have attributes outside of __dict__.
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()) if isinstance(
                getattr(kind, "__slots__", ()), (tuple, list)) else ():
            item = getattr(value, name, None)
            if item is not None and name not in found:
                yield f".{name}", item
