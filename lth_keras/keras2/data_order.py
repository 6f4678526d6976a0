"""What `lottery.order` makes of tf.data: data sets with an order of their own for each epoch.

tf.data reads the number of the epoch from a variable, so nothing is traced again in the next epoch.
"""

from typing import Any

import tensorflow as tf

from lth_keras.core.seeding import generator
from lth_keras.errors import LotteryError


class DataOrder:
    """Makes tf.data.Datasets with a new order in each epoch; see `search.fit.data_order`.

    Args:
      seed: a whole number that determines all orders.
    """

    def __init__(self, seed: int):
        self._key = int(generator(seed, "data_order").integers(2**62))
        self._epoch = 0
        self._variable: tf.Variable | None = None

    def begin(self, epoch: int) -> None:
        """Sets the epoch whose order the next iterations have; the callback calls this in `fit`.

        Args:
          epoch: the number of the epoch, >= 0.
        """
        self._epoch = epoch
        if self._variable is not None:
            self._variable.assign(epoch)

    def batches(self, examples: Any, *, batch_size: int,
                drop_remainder: bool = False) -> tf.data.Dataset:
        """Makes batches of arrays, in a new random order of all examples in each epoch.

        Args:
          examples: an array, or a structure of tuples and dicts of arrays of the same length.
          batch_size: examples in a batch, >= 1.
          drop_remainder: whether to drop a last batch that is smaller.

        Returns:
          A dataset of the same structure, for `fit` without steps_per_epoch.

        Raises:
          LotteryError: if the arrays differ in length or are empty.

        Example:
          >>> data = DataOrder(seed=0).batches((tf.zeros((3, 5)), tf.zeros(3)), batch_size=2)
          >>> [tuple(x.shape) for x, y in data]
          [(2, 5), (1, 5)]
        """
        arrays = tf.nest.map_structure(tf.convert_to_tensor, examples)
        shapes = [tuple(array.shape) for array in tf.nest.flatten(arrays)]
        sizes = {shape[0] if shape else 0 for shape in shapes}
        if len(sizes) != 1 or 0 in sizes:
            raise LotteryError("x, y and sample_weight must have the same length, at least 1. "
                               f"Received: shapes {shapes}.")
        size = int(sizes.pop())
        steps = size // batch_size if drop_remainder else -(-size // batch_size)

        def permuted(epoch: tf.Tensor) -> tf.data.Dataset:
            seed = tf.stack([tf.constant(self._key, tf.int64), epoch])
            order = tf.random.experimental.stateless_shuffle(tf.range(size, dtype=tf.int64), seed)
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder)
        return self._epochs().flat_map(permuted).map(
            lambda index: tf.nest.map_structure(lambda array: tf.gather(array, index), arrays),
            num_parallel_calls=tf.data.AUTOTUNE, deterministic=True,
        ).apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)

    def shuffled(self, dataset: tf.data.Dataset, buffer_size: int) -> tf.data.Dataset:
        """Shuffles a data set through a buffer, in a new random order in each epoch.

        Args:
          dataset: examples, not yet in batches. It must have the same order whenever it is read,
            so it must not reshuffle itself.
          buffer_size: the size of the buffer that examples are drawn from, >= 1. All orders are
            equally likely only if all examples fit into it.

        Returns:
          A dataset of the same elements, to be batched, for `fit` without steps_per_epoch.

        Example:
          >>> data = DataOrder(seed=0).shuffled(tf.data.Dataset.range(4), buffer_size=4)
          >>> sorted(int(value) for value in data)
          [0, 1, 2, 3]
        """
        def reshuffled(epoch: tf.Tensor) -> tf.data.Dataset:
            # tf.data combines the given seed with the graph's seed, or else with the global one,
            # which this order must not depend on.
            tf.compat.v1.get_default_graph().seed = self._key % 2**31
            return dataset.shuffle(buffer_size, seed=epoch, reshuffle_each_iteration=False)
        shuffled = self._epochs().flat_map(reshuffled)
        size = dataset.cardinality()
        return shuffled if size == tf.data.UNKNOWN_CARDINALITY else shuffled.apply(
            tf.data.experimental.assert_cardinality(size))

    def _epochs(self) -> tf.data.Dataset:
        # A data set of one element: the epoch at the moment at which an iteration begins.
        if self._variable is None:
            with tf.init_scope(), tf.device("CPU:0"):
                self._variable = tf.Variable(self._epoch, dtype=tf.int64, trainable=False)
        variable = self._variable
        return tf.data.Dataset.range(1).map(lambda _: variable.read_value())
