"""The options of a tf_keras layer as those of the Keras 3 layer that computes the same."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from lth_keras.errors import LotteryError

_RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}
# What decides how tf_keras computes, or what it has seen, but not what comes of it.
_LEFT_OUT = frozenset({"batch_input_shape", "implementation", "input_length", "query_shape",
                       "key_shape", "value_shape"})
# Classes that both have, of which Keras 3 cannot compute the same: what they hold is TensorFlow's.
_OF_TENSORFLOW = frozenset({"Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod",
                            "InstanceMethod", "InstanceProperty"})
_OTHERWISE = {"hard_sigmoid": "min(max(0.2x + 0.5, 0), 1) in tf_keras, and relu6(x + 3) / 6 in "
                              "Keras 3"}


def class_of(name: str, layer: Any, custom_objects: Mapping[str, Any]) -> Any:
    """The Keras 3 class for a tf_keras layer.

    Args:
      name: the layer's name, for errors.
      layer: the layer, or the serialized form of one.
      custom_objects: class name -> Keras 3 class.

    Raises:
      LotteryError: if there is none.

    Example:
      >>> import tf_keras
      >>> class_of("fc", tf_keras.layers.Dense(1), {})
      <class 'keras.src.layers.core.dense.Dense'>
    """
    kind, module = (layer["class_name"], layer["module"] or "") if isinstance(layer, dict) \
        else (type(layer).__name__, type(layer).__module__)
    if kind in custom_objects:
        return custom_objects[kind]
    if kind in _OF_TENSORFLOW:
        raise LotteryError(f"A model to convert must compute by layers. Received: a {kind} "
                           f"({name!r}), which calls functions of TensorFlow. Put them into a "
                           "layer of your own, in both Kerases, and give custom_objects={class "
                           "name: the Keras 3 class}.")
    found = getattr(keras.layers, kind, None)
    if module.partition(".")[0] not in ("tf_keras", "keras") or found is None:
        raise LotteryError("A layer of a model to convert must be one that Keras 3 has. Received: "
                           f"{name!r} of class {kind}. Give its class for Keras 3: "
                           f"custom_objects={{{kind!r}: the class}}.")
    return found


def translated(name: str, kind: Any, config: Mapping[str, Any],
               custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a layer, as its Keras 3 class takes them.

    Args:
      name: the layer's name, for errors.
      kind: the Keras 3 class.
      config: what the tf_keras layer's `get_config` returned.
      custom_objects: class name -> Keras 3 class.

    Raises:
      LotteryError: if an option has no counterpart.

    Example:
      >>> import tf_keras
      >>> config = tf_keras.layers.LeakyReLU(0.5, name="act").get_config()
      >>> translated("act", keras.layers.LeakyReLU, config, {})["negative_slope"]
      0.5
    """
    known = _arguments(kind)
    found = {}
    for option, value in config.items():
        if "activation" in option and isinstance(value, str) and value in _OTHERWISE:
            raise LotteryError(f"A converted layer must compute the same. Received: {option}="
                               f"{value!r} of {name!r}: {_OTHERWISE[value]}.")
        key = _RENAMED.get((kind.__name__, option), option)
        if key in known:
            found[key] = _value(name, value, custom_objects)
            if key == "axis" and kind is keras.layers.BatchNormalization:
                found[key], = np.ravel(value).tolist()
        # An option that Keras 3 does not have matters only where it is set.
        elif key not in _LEFT_OUT and value not in (None, False, 1, 0) and not (
                kind.__name__.startswith("Separable") and key.startswith("kernel_")):
            raise LotteryError("An option of a layer to convert must be one that Keras 3 has. "
                               f"Received: {option}={value!r} of {name!r} ({kind.__name__}).")
    return found


def _arguments(kind: Any) -> set[str]:
    names: set[str] = set()
    for base in kind.__mro__[:-1]:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {item.name for item in parameters}
            if not any(item.kind is item.VAR_KEYWORD for item in parameters):
                break
    return names - {"self", "args", "kwargs"}


def _value(name: str, value: Any, custom_objects: Mapping[str, Any]) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        items = [_value(name, item, custom_objects) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if not isinstance(value, Mapping):
        return value
    if value.get("class_name") in ("Policy", "PolicyV1"):
        return value["config"]["name"]
    if "class_name" in value and "config" in value:
        return _serialized(name, value, custom_objects)
    return {key: _value(name, item, custom_objects) for key, item in value.items()}


def _serialized(name: str, value: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> Any:
    """An object that is an option of a layer: another layer, an initializer, a function."""
    kind, module = value["class_name"], value.get("module") or ""
    own = value["config"] if kind == "function" else kind
    if own not in custom_objects and (kind == "function"
                                      or module.partition(".")[0] not in ("keras", "tf_keras")):
        raise LotteryError("An option of a layer to convert must be of Keras. Received: "
                           f"{own} of {name!r}. Give what stands for it in Keras 3: "
                           f"custom_objects={{{own!r}: the "
                           f"{'function' if kind == 'function' else 'class'}}}.")
    if module.endswith("keras.layers") or isinstance(custom_objects.get(kind), type):
        made = class_of(name, value, custom_objects)
        return {**value, "config": translated(name, made, value["config"], custom_objects)}
    return {key: _value(name, item, custom_objects) for key, item in value.items()}
