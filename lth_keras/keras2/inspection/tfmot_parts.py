"""The parts of tfmot that this package uses, imported so that `tf.keras` stays what it was.

tfmot sets TF_USE_LEGACY_KERAS when it is imported, and looks at `tf.keras`, which from then on is
Keras 2 for the whole program: a script's own `tf.keras` models would be of another Keras than it
believes, depending on which import comes first.  Here tfmot finds tf_keras under that name, and the
name and the variable are put back.  A program that imports tfmot itself gets what tfmot does.
"""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

_VARIABLE = "TF_USE_LEGACY_KERAS"


@contextlib.contextmanager
def _tf_keras_as_it_was() -> Iterator[None]:
    said, there = os.environ.get(_VARIABLE), vars(tf)["keras"]
    tf.keras = tf_keras  # `there` is loaded when it is first used: not here, and not for tfmot.
    try:
        yield
    finally:
        tf.keras = there
        if said is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = said


with _tf_keras_as_it_was():
    from tensorflow_model_optimization.python.core.sparsity.keras import (
        pruning_callbacks,
        pruning_impl,
        pruning_wrapper,
    )
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import (
        PruneRegistry,
    )
    from tensorflow_model_optimization.sparsity.keras import PruningSchedule

__all__ = ["PruneRegistry", "PruningSchedule", "pruning_callbacks", "pruning_impl",
           "pruning_wrapper"]
