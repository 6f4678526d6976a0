"""Finds what knows the Keras of a model, by the model's class."""

import importlib
from typing import Any

from lth_keras.deployment.models.model_kind import ModelKind
from lth_keras.graph.kinds import package_of

# Top-level package of a model's class -> the module that has its KIND.
_MODULES = {"tf_keras": "lth_keras.deployment.models.tf_keras_models",
            "keras": "lth_keras.deployment.models.keras3_models"}


def kind_of(model: Any) -> ModelKind:
    """Returns what knows the Keras of a model or layer; only this Keras is imported.

    Raises:
      LotteryError: if it is of no Keras.

    Example:
      >>> import keras, tf_keras
      >>> kind_of(keras.Sequential()).title, kind_of(tf_keras.layers.Dense(1)).title
      ('Keras 3', 'tf_keras')
    """
    return named(package_of(model))


def named(package: str) -> ModelKind:
    """Returns what knows the Keras that is in a package: "tf_keras", or "keras" for Keras 3."""
    kind: ModelKind = importlib.import_module(_MODULES[package]).KIND
    return kind
