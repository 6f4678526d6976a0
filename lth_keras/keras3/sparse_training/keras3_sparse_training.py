"""`lth.SparseTraining` for Keras 3."""

import keras

from lth_keras.keras3.sparse_training.keras3_wrapper import Keras3Wrapper
from lth_keras.sparse_training.sparse_training import SparseTraining


@keras.saving.register_keras_serializable("lth_keras")
class Keras3SparseTraining(SparseTraining, Keras3Wrapper):
    """`lth.SparseTraining` of a Keras 3 model."""

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.
