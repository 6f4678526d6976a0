"""Calls of a tf_keras graph that say training=, which `fit` overrides in a graph of Keras 3."""

import warnings
from collections.abc import Iterable
from typing import Any

import tf_keras

from lth_keras.errors import LotteryError

# They hand the mode on to their parts, and to their own `dropout`.
_HAND_ON = (tf_keras.Model, tf_keras.layers.RNN, tf_keras.layers.StackedRNNCells,
            tf_keras.layers.TimeDistributed, tf_keras.layers.Bidirectional,
            tf_keras.layers.MultiHeadAttention)
_SHARES = ("rate", "stddev", "dropout", "recurrent_dropout")


def check_mode(node: Any) -> None:
    """Checks a call: Keras 3 runs it in the mode of `fit`, `evaluate` or `predict` in any case.

    It warns of training=False, with which the model still predicts the same.

    Args:
      node: a call in a graph of tf_keras.

    Raises:
      LotteryError: for training=True of a layer that computes something else in training.
    """
    layer = node.layer
    mode = layer._call_spec.get_arg_value("training", node.call_args, node.call_kwargs,
                                          inputs_in_args=True) if _says(node) else None
    others = [part.name for part in layer._flatten_layers() if _differs(part)]
    if mode is None or not others:
        return
    called = f"{layer.name!r}, called with training={mode}"
    within = "" if others == [layer.name] else f", in which training changes {', '.join(others)}"
    if mode:
        raise LotteryError("Keras 3 predicts in inference mode, whatever a call in the graph says. "
                           f"Received: {called}{within}. Call it without training=.")
    warnings.warn(
        "Keras 3 trains every layer in training mode, whatever a call in the graph says. Received: "
        f"{called}{within}. The converted model predicts the same, but trains otherwise: set "
        "trainable=False of a BatchNormalization and the rate of a Dropout to 0 before.",
        stacklevel=6)


def _says(node: Any) -> bool:
    names: Iterable[str] = node.layer._call_spec._arg_names
    return "training" in node.call_kwargs or "training" in [*names][:len(node.call_args)]


def _differs(layer: Any) -> bool:
    # Whether it computes something else in training, apart from its parts.
    if "training" not in layer._call_spec._arg_names:
        return False
    if isinstance(layer, tf_keras.layers.BatchNormalization):
        return bool(layer.trainable)  # One that is frozen is in inference mode, in both.
    shares = [getattr(layer, name) for name in _SHARES if hasattr(layer, name)]
    if shares:
        return any(share != 0 for share in shares)
    return not isinstance(layer, _HAND_ON) or \
        type(layer).call.__module__.partition(".")[0] != "tf_keras"
