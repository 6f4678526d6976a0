"""The gradient of a model's loss, for criteria that score by it.

The mean over given examples, of the compiled loss with its regularisation, with layers as in
inference: nothing is drawn, and no statistic, metric or weight changes.
"""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core import criteria
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import masked

NEEDS = ("gradient", "initial_gradient")  # Of a criterion, which scoring data provide.
_TOGETHER = 256  # Examples of arrays that are taken at once.
_SCALES = (2.0**12, 2.0**6, 1.0)  # Small gradients of float16 are 0 without, large ones infinite.


def provided(scoring_data: Any) -> Collection[str]:
    """What a search with such data provides to its criterion."""
    return () if scoring_data is None else NEEDS


def check_used(criterion: criteria.CriterionLike, scoring_data: Any) -> None:
    """Raises LotteryError if scoring data are given to a criterion that needs none."""
    found = criteria.get(criterion)
    if scoring_data is not None and not {*NEEDS} & {*found.needs}:
        raise LotteryError("scoring_data is for criteria that need a gradient, such as \"taylor\"; "
                           f"leave it out. Received: it with criterion={found.name!r}.")


def batches(scoring_data: Any) -> tf.data.Dataset:
    """Batches of scoring data, which can be gone through again and again.

    Args:
      scoring_data: a tuple (x, y) or (x, y, sample_weight) of arrays, or of nests of arrays, as
        `fit` takes them; or a finite tf.data.Dataset of batches of such tuples.

    Raises:
      LotteryError: for anything else.

    Example:
      >>> [len(x) for x, y in batches((np.zeros((300, 2)), np.zeros(300)))]
      [256, 44]
    """
    if isinstance(scoring_data, tf.data.Dataset):
        if scoring_data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise LotteryError("scoring_data must end: all of it is gone through in every round. "
                               "Received: a data set that repeats for ever; use take(batches).")
        return scoring_data
    if not isinstance(scoring_data, tuple) or len(scoring_data) not in (2, 3):
        raise LotteryError("scoring_data must be (x, y), (x, y, sample_weight) or a "
                           f"tf.data.Dataset of batches. Received: {type(scoring_data).__name__}.")
    return tf.data.Dataset.from_tensor_slices(scoring_data).batch(_TOGETHER)


class LossGradient:
    """The mean gradient of a compiled model's loss with respect to its prunable weights.

    Args:
      model: a compiled model with pruning wrappers.
    """

    def __init__(self, model: Any):
        self._model = model
        self._weights = {name: item.weight for name, item in masked(model).items()}
        half = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
        self._scales = _SCALES if half else (1.0,)
        self._of = self._of_batch if model.run_eagerly else \
            tf.function(self._of_batch, reduce_retracing=True)

    def mean(self, data: Iterable[Any]) -> dict[str, Array]:
        """The gradient at the weights that the model has, masked by the masks that it has.

        Args:
          data: batches (x, y) or (x, y, sample_weight).

        Returns:
          Weight name -> array of the weight's shape, float64.

        Raises:
          LotteryError: if the loss does not reach a weight, or there are no examples.
        """
        # A loss counts itself in the model's metrics, which may be in the midst of an epoch.
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
            raise LotteryError("scoring_data must have examples. Received: none.")
        return {name: total / examples for name, total in totals.items()}

    def _of_examples(self, x: Any, y: Any, sample_weight: Any) -> dict[str, Array]:
        for scale in self._scales:
            found = {name: value.numpy().astype(np.float64) / scale for name, value
                     in self._of(x, y, sample_weight, tf.constant(scale)).items()}
            if all(np.isfinite(value).all() for value in found.values()):
                break
        missed = [name for name in self._weights if name not in found]
        if missed:
            raise LotteryError("A criterion that needs a gradient takes that of the compiled loss, "
                               "which must depend on every prunable weight: compile(loss=...). "
                               f"Received: a loss that does not depend on {', '.join(missed)}.")
        return found

    def _of_batch(self, x: Any, y: Any, sample_weight: Any,
                  scale: tf.Tensor) -> dict[str, tf.Tensor]:
        # Each replica takes the whole batch, of whose loss Keras gives it a share.
        strategy = self._model.distribute_strategy
        found = strategy.run(self._of_replica, args=(x, y, sample_weight, scale))
        return {name: strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
                for name, value in found.items()}

    def _of_replica(self, x: Any, y: Any, sample_weight: Any,
                    scale: tf.Tensor) -> dict[str, tf.Tensor]:
        model = self._model
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=False), sample_weight)
            # None for a model that was compiled without a loss.
            loss = tf.zeros(()) if loss is None else tf.cast(loss, tf.float32) * scale
        return {name: tf.convert_to_tensor(value) for name, value
                in tape.gradient(loss, self._weights).items() if value is not None}
