"""`lth.SparseTraining` for tf_keras."""

from lth_keras.keras2.sparse_training.tf_keras_wrapper import TfKerasWrapper
from lth_keras.sparse_training.sparse_training import SparseTraining


class TfKerasSparseTraining(SparseTraining, TfKerasWrapper):
    """`lth.SparseTraining` of a tf_keras model."""
