"""Computes the mean gradient of a model's loss, for criteria that need it, such as "taylor".

It is the gradient of the compiled loss with regularisation, averaged over given examples.  Layers
run in inference mode: no dropout is drawn, and no weight, statistic or metric changes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.search import scoring


def batches(scoring_data: Any) -> tf.data.Dataset:
    """Returns batches of scoring data, which can be iterated over any number of times.

    Args:
      scoring_data: a tuple (x, y) or (x, y, sample_weight) of arrays, or of structures of arrays,
        as `fit` takes them; or a finite tf.data.Dataset of batches of such tuples.

    Raises:
      LotteryError: for anything else.

    Example:
      >>> import numpy as np
      >>> [len(x) for x, y in batches((np.zeros((300, 2)), np.zeros(300)))]
      [256, 44]
    """
    if isinstance(scoring_data, tf.data.Dataset):
        scoring.check_finite(bool(scoring_data.cardinality() == tf.data.INFINITE_CARDINALITY))
        return scoring_data
    if not isinstance(scoring_data, tuple) or len(scoring_data) not in (2, 3):
        raise LotteryError("scoring_data must be (x, y), (x, y, sample_weight) or a "
                           f"tf.data.Dataset of batches. Received: {type(scoring_data).__name__}.")
    # TensorFlow takes a list for one array, and a tuple for several.
    parts = tuple(tuple(part) if isinstance(part, list) and part and all(
        hasattr(each, "shape") for each in part) else part for part in scoring_data)
    return tf.data.Dataset.from_tensor_slices(parts).batch(scoring.TOGETHER)


class LossGradient:
    """Computes the mean gradient of a compiled model's loss for each prunable weight.

    Args:
      model: a compiled model with pruning wrappers.
      weights: name -> variable, of a model without wrappers.

    Example:
      >>> import numpy as np
      >>> from lth_keras import prune_low_magnitude
      >>> model = prune_low_magnitude(keras.Sequential([
      ...     keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False, name="fc")]))
      >>> model.compile("sgd", "mse")
      >>> model.set_weights([np.full_like(value, 3) if value.shape == (1, 1) else value
      ...                    for value in model.get_weights()])
      >>> LossGradient(model).mean([(np.ones((2, 1)), np.ones((2, 1)))])["fc/kernel"].tolist()
      [[4.0]]
    """

    def __init__(self, model: Any, weights: "Mapping[str, tf.Variable] | None" = None):
        self._model, self._used = model, getattr(model, "loss", None)
        self._weights = dict(weights) if weights is not None else {
            name: item.weight for name, item in masked(model).items()}
        half = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
        self._scales = scoring.HALF_PRECISION_SCALES if half else (1.0,)
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
        found = scoring.mean_gradient(self._weights, map(self._counted, data), self._scales)
        for variable, value in zip(counted, before, strict=True):
            variable.assign(value)
        return found

    def _counted(self, batch: Any) -> tuple[int, Callable[[float], Arrays]]:
        # What a batch counts, and its gradient for a loss scale.
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        examples = int(tf.nest.flatten(x)[0].shape[0])
        return scoring.weight_of(examples, tf.nest.flatten(self._used)), lambda scale: {
            name: value.numpy() for name, value
            in self._of(x, y, sample_weight, tf.constant(scale)).items()}

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
        with tf.GradientTape() as tape:
            loss = self._loss(x, y, sample_weight, scale)
        return {name: tf.convert_to_tensor(value) for name, value
                in tape.gradient(loss, self._weights).items() if value is not None}

    def _loss(self, x: Any, y: Any, sample_weight: Any, scale: tf.Tensor) -> tf.Tensor:
        model = self._model
        loss = model.compute_loss(x, y, model(x, training=False), sample_weight)
        # compute_loss returns None if the model was compiled without a loss.
        return tf.zeros(()) if loss is None else tf.cast(loss, tf.float32) * scale
