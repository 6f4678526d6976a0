"""Replaces layers of a tf_keras model by others.

A Sequential or functional model is cloned with the new layers, and shares the other layers with the
original.  A subclassed model cannot be cloned, since only its code defines what it computes.  It
stays the same object, and the new layers replace the old ones in its attributes, lists, tuples and
dicts.
"""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.masking.weight_names import is_graph, TREE


def _same(loss: Any, model: Any) -> Any:
    return loss


def replace_layers(model: Any, substitute: Callable[[Any], Any],
                   loss: Callable[[Any, Any], Any] = _same) -> Any:
    """Replaces layers of a model by others.

    Args:
      model: a tf_keras model.  Subclassed models and layers that hold layers, also inside it, are
        changed in place.
      substitute: a function that takes a layer and returns its replacement, or the same layer.
      loss: a function that takes a loss added by add_loss and the new model, and returns the loss
        of the new model.

    Returns:
      A new model of the same class if the model is Sequential or functional; otherwise the model
      itself.

    Example:
      >>> dense = keras.layers.Dense(2)
      >>> model = keras.Sequential([keras.layers.Input((3,)), dense, keras.layers.ReLU()])
      >>> wider = keras.layers.Dense(4)
      >>> new = replace_layers(model, lambda layer: wider if layer is dense else layer)
      >>> new.output_shape, new.layers[1] is model.layers[1]
      ((None, 4), True)
    """
    return _Replacement(substitute, loss).layer(model)


class _Replacement:
    """One pass over a model.  A layer that occurs twice is replaced by the same object twice."""

    def __init__(self, substitute: Callable[[Any], Any], loss: Callable[[Any, Any], Any]):
        self._substitute, self._loss = substitute, loss
        self._done: dict[int, Any] = {}
        self._kept: list[Any] = []  # Keeps objects alive, so that their ids in `_done` stay unique.

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
            self._done[id(layer)] = layer  # Before descending: a model may hold itself, in a cycle.
            self._in_place(layer)
            if isinstance(layer, keras.Model):
                layer._callable_losses[:] = [self._loss(loss, layer) for loss
                                             in layer._callable_losses]
        return stands_for_it

    def _rebuilt(self, model: Any) -> Any:
        # clone_model returns a plain Model or Sequential even if the model's class is a user's own.
        clone = keras.models.clone_model(model, clone_function=self.layer)
        _forget_others_nodes(clone)
        if not type(model).__module__.startswith("tf_keras"):
            clone = self._of_class(model, clone)
        # clone_model copies losses that are tensors, but not those that are functions.
        clone._callable_losses = [self._loss(loss, clone) for loss in model._callable_losses]
        if model.built and not clone.built and model._build_input_shape is not None:
            clone.build(model._build_input_shape)
        clone._trainable = model.trainable  # Without telling its layers, which have their own.
        return clone

    def _of_class(self, model: Any, clone: Any) -> Any:
        # Not by calling the class, whose __init__ may take any arguments and build other layers:
        # the object gets the clone's graph and the attributes of the original.
        kind: Any = type(model)
        own = kind.__new__(kind)
        if isinstance(model, keras.Sequential):
            parts = clone._flatten_layers(include_self=False, recursive=False)
            keras.Sequential.__init__(own, list(parts), name=model.name)
        else:
            functional = _functional_class()
            functional.__init__(own, clone._nested_inputs, clone._nested_outputs, name=model.name)
            _insert_losses_and_metrics(clone, own)
        # Copied as well: the arguments of the call that Keras stores for get_config.
        known = {*vars(own), *_attributes_of_any_model()} - {"_auto_config", "_auto_get_config"}
        for name, value in vars(model).items():
            if name not in known:
                setattr(own, name, self._value(value))
        return own

    def _in_place(self, owner: Any) -> None:
        """Replaces layers in the attributes of a subclassed model or layer."""
        before, changed = list(vars(owner).items()), {}
        tracked = list(getattr(owner, "_self_tracked_trackables", ()))
        for name, value in before:
            if TREE.hidden.fullmatch(name):
                continue
            new = self._value(value)
            if new is not value:
                setattr(owner, name, new)
                changed[id(value)] = self._done[id(value)] = vars(owner)[name]
        if not changed:
            return
        # Keras appends attributes that are set to its lists. The old order is restored, because the
        # names of variables and the order of weights depend on it.
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
    """Removes from a functional model the nodes of another model that shares layers with it.

    If a model has its own losses or metrics (`add_loss(tensor)`), Keras' clone_model gives the
    clone all nodes of its layers.  The clone's config would then name layers that it does not have.
    """
    if not isinstance(model, _functional_class()) or not hasattr(model, "_input_layers"):
        return  # A Sequential model that is not built yet is one of these, without a graph.
    inputs = {id(layer) for layer in model._input_layers}
    mine: dict[int, bool] = {}

    def is_mine(node: Any) -> bool:
        # Not by recursion: a model may be deeper than Python's stack.
        waiting = [node]
        while waiting:
            last = waiting[-1]
            unknown = [] if last.is_input else [
                parent for parent in last.parent_nodes if id(parent) not in mine]
            waiting += unknown
            if not unknown:
                mine[id(last)] = id(last.layer) in inputs if last.is_input else \
                    all(mine[id(parent)] for parent in last.parent_nodes)
                waiting.pop()
        return mine[id(node)]
    for depth, nodes in list(model._nodes_by_depth.items()):
        for node in nodes:
            if not is_mine(node):
                model._network_nodes.discard(f"{node.layer.name}_ib-"
                                             f"{node.layer._inbound_nodes.index(node)}")
        model._nodes_by_depth[depth] = [node for node in nodes if is_mine(node)]
    model._compute_tensor_usage_count()


def _insert_losses_and_metrics(model: Any, other: Any) -> None:
    """Adds the layers that lead to no output, such as those of added losses, to another model.

    Args:
      model: the functional model that has these layers.
      other: a model of the same inputs and outputs.
    """
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
    # The attributes that Keras sets itself when a model is compiled and trained. All others are the
    # user's. There is no list of them, so a tiny model is trained once.
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(tf.zeros((1, 1)), tf.zeros((1, 1)), verbose=0)
    model.predict(tf.zeros((1, 1)), verbose=0)
    return frozenset(vars(model))


def _forget_programs(owner: Any) -> None:
    # Functions that were traced with the old layers would go on calling them.
    for name in ("train_function", "test_function", "predict_function"):
        if vars(owner).get(name) is not None:
            setattr(owner, name, None)
    for method in _class_attributes(type(owner)):
        if isinstance(method, tf.types.experimental.PolymorphicFunction):
            method._descriptor_cache.pop(owner, None)


def _class_attributes(kind: type) -> Iterator[Any]:
    for base in kind.__mro__:
        yield from vars(base).values()
