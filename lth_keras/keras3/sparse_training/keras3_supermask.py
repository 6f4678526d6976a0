"""`lth.Supermask` for Keras 3."""

import keras

from lth_keras.keras3.sparse_training.keras3_wrapper import Keras3Wrapper
from lth_keras.sparse_training.supermask import Supermask


@keras.saving.register_keras_serializable("lth_keras")
class Keras3Supermask(Supermask, Keras3Wrapper):
    """`lth.Supermask` of a Keras 3 model."""

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.
