"""`lth.SparseTraining` for tf_keras."""

import tf_keras as keras

from lth_keras.keras2.sparse_training.tf_keras_wrapper import TfKerasWrapper
from lth_keras.sparse_training.sparse_training import SparseTraining


@keras.saving.register_keras_serializable("lth_keras")
class TfKerasSparseTraining(SparseTraining, TfKerasWrapper):
    """`lth.SparseTraining` of a tf_keras model."""

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.
