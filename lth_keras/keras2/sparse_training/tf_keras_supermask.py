"""`lth.Supermask` for tf_keras."""

from lth_keras.keras2.sparse_training.tf_keras_wrapper import TfKerasWrapper
from lth_keras.sparse_training.supermask import Supermask


class TfKerasSupermask(Supermask, TfKerasWrapper):
    """`lth.Supermask` of a tf_keras model."""
