"""Replaces layers by others, in any kind of tf_keras model.

A Sequential or functional model is built anew with the new layers, and shares the other layers
with the model given.  A subclassed model cannot be built anew, since only its code says what it
computes: in its attributes, lists, tuples and dicts the new layers are put in place of the old
ones, and it stays the same object.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.masking.weight_names import HIDDEN, is_graph


def _same(loss: Any, model: Any) -> Any:
    return loss


def replace_layers(model: Any, substitute: Callable[[Any], Any],
                   loss: Callable[[Any, Any], Any] = _same) -> Any:
    """Replaces layers of a model by others.

    Args:
      model: a tf_keras model.  A subclassed model, or a layer that holds layers, is changed in
        place; so are such models and layers within it.
      substitute: takes a layer and returns its replacement, or the layer itself to keep it.
      loss: takes a loss that the user has added to a model by add_loss, and the new model, and
        returns what the new model is to add.

    Returns:
      A new model of the same class, for a Sequential or functional one; else the one given.
    """
    return _Replacement(substitute, loss).layer(model)


class _Replacement:
    """One pass over a model; what occurs twice is replaced by one and the same."""

    def __init__(self, substitute: Callable[[Any], Any], loss: Callable[[Any, Any], Any]):
        self._substitute, self._loss = substitute, loss
        self._done: dict[int, Any] = {}
        self._kept: list[Any] = []  # So that no id in `_done` is used again.

    def layer(self, layer: Any) -> Any:
        if id(layer) not in self._done:
            self._kept.append(layer)
            self._done[id(layer)] = self._replaced(layer)
        return self._done[id(layer)]

    def _replaced(self, layer: Any) -> Any:
        if isinstance(layer, keras.layers.InputLayer):
            return keras.layers.InputLayer.from_config(layer.get_config())
        if is_graph(layer):
            return self._rebuilt(layer)
        stands_for_it = self._substitute(layer)
        if stands_for_it is layer and not _is_metric(layer):
            self._done[id(layer)] = layer  # A model that holds itself, in a cycle.
            self._in_place(layer)
            if isinstance(layer, keras.Model):
                layer._callable_losses[:] = [self._loss(loss, layer) for loss
                                             in layer._callable_losses]
        return stands_for_it

    def _rebuilt(self, model: Any) -> Any:
        # Keras' clone_model gives a plain Model, also of a class of the user's.
        clone = keras.models.clone_model(model, clone_function=self.layer)
        _forget_others_nodes(clone)
        if not type(model).__module__.startswith("tf_keras"):
            clone = self._of_class(model, clone)
        # Keras copies no loss that is a function.
        clone._callable_losses = [self._loss(loss, clone) for loss in model._callable_losses]
        if model.built and not clone.built and model._build_input_shape is not None:
            clone.build(model._build_input_shape)
        return clone

    def _of_class(self, model: Any, clone: Any) -> Any:
        # The user's class may take any arguments: its graph and its attributes are what it is.
        kind: Any = type(model)
        own = kind.__new__(kind)
        if isinstance(model, keras.Sequential):
            parts = clone._flatten_layers(include_self=False, recursive=False)
            keras.Sequential.__init__(own, list(parts), name=model.name)
        else:
            functional = _functional_class()
            functional.__init__(own, clone._nested_inputs, clone._nested_outputs, name=model.name)
            _insert_losses_and_metrics(clone, own)
        # Keras notes the arguments that a class was called with, to load it from a file.
        known = {*vars(own), *_attributes_of_any_model()} - {"_auto_config", "_auto_get_config"}
        for name, value in vars(model).items():
            if name not in known:
                setattr(own, name, self._value(value))
        return own

    def _in_place(self, owner: Any) -> None:
        """Puts the new layers where the attributes of a subclassed model or layer lead."""
        before, changed = list(vars(owner).items()), {}
        tracked = list(getattr(owner, "_self_tracked_trackables", ()))
        for name, value in before:
            if HIDDEN.fullmatch(name):
                continue
            new = self._value(value)
            if new is not value:
                setattr(owner, name, new)
                changed[id(value)] = self._done[id(value)] = vars(owner)[name]
        if not changed:
            return
        # Keras appends what is set anew; names of variables and the order of weights go by place.
        for name, _ in before:
            if name in vars(owner):
                vars(owner)[name] = vars(owner).pop(name)
        places = {id(changed.get(id(value), value)): place
                  for place, value in reversed(list(enumerate(tracked)))}
        owner._self_tracked_trackables.sort(key=lambda value: places.get(id(value), len(places)))
        _forget_programs(owner)

    def _value(self, value: Any) -> Any:
        if isinstance(value, keras.layers.Layer):
            return value if _is_metric(value) else self.layer(value)
        if not isinstance(value, (dict, list, tuple)):
            return value
        if id(value) not in self._done:
            self._kept.append(value)
            self._done[id(value)] = value
            self._done[id(value)] = self._container(value)
        return self._done[id(value)]

    def _container(self, value: Any) -> Any:
        items = list(value.values() if isinstance(value, dict) else value)
        new = [self._value(item) for item in items]
        if all(one is other for one, other in zip(items, new, strict=True)):
            return value
        plain = getattr(value, "__wrapped__", value)  # Keras' own containers track what they hold.
        if isinstance(plain, dict):
            filled = copy.copy(plain)
            filled.update(zip(value.keys(), new, strict=True))
            return filled
        if isinstance(plain, tuple):
            return type(plain)(*new) if hasattr(plain, "_fields") else tuple(new)
        return new


def _forget_others_nodes(model: Any) -> None:
    """Takes out of a functional model the nodes of another one, with which it shares layers.

    Where a model has losses or metrics of its own (`add_loss(tensor)`), Keras' clone_model takes
    all nodes of its layers for the clone's.  Its config then names layers that it does not have.
    """
    if not isinstance(model, _functional_class()):
        return
    inputs = {id(layer) for layer in model._input_layers}
    mine: dict[int, bool] = {}

    def is_mine(node: Any) -> bool:
        if id(node) not in mine:
            mine[id(node)] = id(node.layer) in inputs if node.is_input else \
                all(is_mine(parent) for parent in node.parent_nodes)
        return mine[id(node)]
    for depth, nodes in list(model._nodes_by_depth.items()):
        for node in nodes:
            if not is_mine(node):
                model._network_nodes.discard(f"{node.layer.name}_ib-"
                                             f"{node.layer._inbound_nodes.index(node)}")
        model._nodes_by_depth[depth] = [node for node in nodes if is_mine(node)]
    model._compute_tensor_usage_count()


def _insert_losses_and_metrics(model: Any, other: Any) -> None:
    """Puts the layers of a functional model that lead to no output into another of its graph."""
    known = {id(layer) for layer in other.layers}
    found = [layer for layer in model.layers if id(layer) not in known]
    if found:
        other._insert_layers(found, [node for nodes in model._nodes_by_depth.values()
                                     for node in nodes])


def _is_metric(layer: Any) -> bool:
    return isinstance(layer, keras.metrics.Metric)


@functools.cache
def _functional_class() -> Any:
    inputs = keras.layers.Input((1,))
    return type(keras.Model(inputs, inputs))


@functools.cache
def _attributes_of_any_model() -> frozenset[str]:
    # What Keras itself keeps on a model that was compiled and trained.
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(tf.zeros((1, 1)), tf.zeros((1, 1)), verbose=0)
    model.predict(tf.zeros((1, 1)), verbose=0)
    return frozenset(vars(model))


def _forget_programs(owner: Any) -> None:
    # Programs that were traced with the layers of before.
    for name in ("train_function", "test_function", "predict_function"):
        if vars(owner).get(name) is not None:
            setattr(owner, name, None)
    for method in _class_attributes(type(owner)):
        if isinstance(method, tf.types.experimental.PolymorphicFunction):
            method._descriptor_cache.pop(owner, None)


def _class_attributes(kind: type) -> Iterator[Any]:
    for base in kind.__mro__:
        yield from vars(base).values()
