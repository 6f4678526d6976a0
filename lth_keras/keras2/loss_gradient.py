"""Computes the mean gradient of a model's loss, for criteria that need it, such as "taylor".

It is the gradient of the compiled loss with regularisation, averaged over given examples.  Layers
run in inference mode: no dropout is drawn, and no weight, statistic or metric changes.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import masked

_TOGETHER = 256  # Examples in a batch, if arrays are given.
# Loss scales for float16, tried until all gradients are finite: without a scale small gradients
# become 0, and with too large a scale large ones become infinite.
_SCALES = (2.0**12, 2.0**6, 1.0)


def batches(scoring_data: Any) -> tf.data.Dataset:
    """Returns batches of scoring data, which can be iterated over any number of times.

    Args:
      scoring_data: a tuple (x, y) or (x, y, sample_weight) of arrays, or of structures of arrays,
        as `fit` takes them; or a finite tf.data.Dataset of batches of such tuples.

    Raises:
      LotteryError: for anything else.

    Example:
      >>> [len(x) for x, y in batches((np.zeros((300, 2)), np.zeros(300)))]
      [256, 44]
    """
    if isinstance(scoring_data, tf.data.Dataset):
        if scoring_data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise LotteryError("scoring_data must be finite, since all of it is used in every "
                               "round. Received: a data set that repeats forever. Limit it with "
                               "dataset.take(batches).")
        return scoring_data
    if not isinstance(scoring_data, tuple) or len(scoring_data) not in (2, 3):
        raise LotteryError("scoring_data must be (x, y), (x, y, sample_weight) or a "
                           f"tf.data.Dataset of batches. Received: {type(scoring_data).__name__}.")
    return tf.data.Dataset.from_tensor_slices(scoring_data).batch(_TOGETHER)


class LossGradient:
    """Computes the mean gradient of a compiled model's loss for each prunable weight.

    Args:
      model: a compiled model with pruning wrappers.

    Example:
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False, name="fc")]))
      >>> model.compile("sgd", "mse")
      >>> model.set_weights([np.full_like(value, 3) if value.shape == (1, 1) else value
      ...                    for value in model.get_weights()])
      >>> LossGradient(model).mean([(np.ones((2, 1)), np.ones((2, 1)))])["fc/kernel"].tolist()
      [[4.0]]
    """

    def __init__(self, model: Any):
        self._model = model
        self._weights = {name: item.weight for name, item in masked(model).items()}
        half = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
        self._scales = _SCALES if half else (1.0,)
        self._of = self._of_batch if model.run_eagerly else \
            tf.function(self._of_batch, reduce_retracing=True)

    def mean(self, data: Iterable[Any]) -> dict[str, Array]:
        """Returns the mean gradient at the model's current weights; 0 for pruned weights.

        Args:
          data: batches (x, y) or (x, y, sample_weight).

        Returns:
          Weight name -> array of the weight's shape, float64.

        Raises:
          LotteryError: if the loss does not depend on a weight, or there are no examples.
        """
        # Computing a loss changes the model's loss metric, which an epoch of `fit` may be using.
        counted = [variable for metric in self._model.metrics for variable in metric.variables]
        before = [variable.numpy() for variable in counted]
        totals: dict[str, Any] = dict.fromkeys(self._weights, 0.0)
        examples = 0
        for batch in data:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            count = int(tf.nest.flatten(x)[0].shape[0])
            examples += count
            for name, value in self._of_examples(x, y, sample_weight).items():
                totals[name] = totals[name] + count * value
        for variable, value in zip(counted, before, strict=True):
            variable.assign(value)
        if not examples:
            raise LotteryError("scoring_data must hold at least one example. Received: none.")
        return {name: total / examples for name, total in totals.items()}

    def _of_examples(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Array]:
        # The largest scale first: most batches need no second attempt.
        for scale in self._scales:
            found = {name: value.numpy().astype(np.float64) / scale for name, value
                     in self._of(x, y, sample_weight, tf.constant(scale)).items()}
            if all(np.isfinite(value).all() for value in found.values()):
                break
        missed = [name for name in self._weights if name not in found]
        if missed:
            raise LotteryError("A criterion that needs a gradient needs a compiled loss that "
                               "depends on every prunable weight. Received: a loss that does not "
                               f"depend on {', '.join(missed)}. Compile the model with "
                               "loss=....")
        return found

    def _of_batch(self, x: Any, y: Any, sample_weight: Any,
                  scale: tf.Tensor) -> dict[str, tf.Tensor]:
        # Every replica computes the whole batch: Keras divides the loss by their number, so the
        # sum is the gradient of the batch.
        strategy = self._model.distribute_strategy
        found = strategy.run(self._of_replica, args=(x, y, sample_weight, scale))
        return {name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                for name, value in found.items()}

    def _of_replica(self, x: Any, y: Any, sample_weight: Any,
                    scale: tf.Tensor) -> dict[str, tf.Tensor]:
        model = self._model
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=False), sample_weight)
            # compute_loss returns None if the model was compiled without a loss.
            loss = tf.zeros(()) if loss is None else tf.cast(loss, tf.float32) * scale
        return {name: tf.convert_to_tensor(value) for name, value
                in tape.gradient(loss, self._weights).items() if value is not None}
