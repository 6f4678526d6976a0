"""Finds what knows the layers of a Keras, by the class of a model or layer."""

from typing import Any

from lth_keras.errors import LotteryError
from lth_keras.files import engines
from lth_keras.graph.layer_kind import LayerKind


def package_of(model: Any) -> str:
    """Returns the package of the Keras that a model or layer is of.

    Raises:
      LotteryError: if it is of none.

    Example:
      >>> import tf_keras
      >>> package_of(tf_keras.layers.Dense(1))
      'tf_keras'
    """
    package = engines.package_of(model)
    if package is None:
        raise LotteryError("The model must be one of Keras 3 or of tf_keras (Keras 2). Received: "
                           f"{type(model).__module__}.{type(model).__qualname__}. Build it with "
                           "import keras, or import tf_keras as keras.")
    return package


def kind_of(model: Any) -> LayerKind:
    """Returns what knows the layers of the Keras of a model or layer; only this one is imported.

    Raises:
      LotteryError: if it is of no Keras.

    Example:
      >>> import keras, tf_keras
      >>> kind_of(keras.Sequential()).keras is keras, kind_of(tf_keras.Sequential()).keras is keras
      (True, False)
    """
    package_of(model)
    kind: LayerKind = engines.engine_of(model).LAYERS
    return kind
