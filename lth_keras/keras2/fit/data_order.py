"""Data in an order that is a function of a seed and the epoch, and of nothing before it.

`fit` shuffles arrays, and tf.data reshuffles, by state that a new process does not have.
Here epoch 7 has the same batches in the same order whether or not epochs 0 to 6 were trained
in the same process.  `tf.data` makes the order: nothing is traced anew from epoch to epoch.
"""

from typing import Any

import tensorflow as tf

from lth_keras.arguments import check_whole
from lth_keras.core.seeding import generator
from lth_keras.errors import LotteryError


class DataOrder:
    """The order of the examples in each epoch; that of a callback is `lottery.order`.

    Args:
      seed: any whole number.

    Example:
      >>> import numpy as np
      >>> order = DataOrder(seed=0)
      >>> data = order.batches(np.arange(6), batch_size=4)
      >>> epochs = []
      >>> for number in (0, 1, 0):
      ...     order.begin(number)
      ...     epochs.append(np.concatenate(list(data.as_numpy_iterator())).tolist())
      >>> epochs[0] == epochs[2] != epochs[1], sorted(epochs[1])
      (True, [0, 1, 2, 3, 4, 5])
    """

    def __init__(self, seed: int):
        self._key = int(generator(seed, "data_order").integers(2**62))
        self._epoch = 0
        self._variable: tf.Variable | None = None

    @property
    def used(self) -> bool:
        """Whether it has made a dataset."""
        return self._variable is not None

    def begin(self, epoch: int) -> None:
        """Gives iterations that begin from now on the order of an epoch.

        Args:
          epoch: >= 0; a callback does this for its `fit`.
        """
        self._epoch = epoch
        if self._variable is not None:
            self._variable.assign(epoch)

    def batches(self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int,
                drop_remainder: bool = False) -> tf.data.Dataset:
        """Batches of arrays, shuffled as a whole anew each epoch.

        Args:
          x: an array of shape (examples, ...), or a structure of them, such as a mapping.
          y: targets of the same length, or None.
          sample_weight: weights of the same length, or None.
          batch_size: examples a batch, >= 1.
          drop_remainder: whether to leave out a last batch that is smaller.

        Returns:
          A dataset of x, (x, y) or (x, y, sample_weight), for `fit` without steps_per_epoch.

        Raises:
          LotteryError: if the arrays differ in length, or batch_size is not in its range.
        """
        check_whole("batch_size", batch_size, 1)
        given = (x, y, sample_weight) if sample_weight is not None else (x, y)
        arrays = tf.nest.map_structure(tf.convert_to_tensor, x if y is None else given)
        shapes = [tuple(array.shape) for array in tf.nest.flatten(arrays)]
        sizes = {shape[0] if shape else 0 for shape in shapes}
        if len(sizes) != 1 or 0 in sizes:
            raise LotteryError("Arrays must have one length, of at least 1. "
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
        """A dataset shuffled through a buffer anew each epoch.

        Args:
          dataset: of examples, not yet in batches, in the same order whenever it is read; so
            without a shuffle of its own that reshuffles.
          buffer_size: how many examples each is drawn from, >= 1; as many as there are for
            every order to be as likely.

        Returns:
          A dataset of the same elements, to be batched, for `fit` without steps_per_epoch.
        """
        def reshuffled(epoch: tf.Tensor) -> tf.data.Dataset:
            # tf.data draws from its function's seed, else the global one, and the seed given.
            tf.compat.v1.get_default_graph().seed = self._key % 2**31
            return dataset.shuffle(buffer_size, seed=epoch, reshuffle_each_iteration=False)
        shuffled = self._epochs().flat_map(reshuffled)
        size = dataset.cardinality()
        return shuffled if size == tf.data.UNKNOWN_CARDINALITY else shuffled.apply(
            tf.data.experimental.assert_cardinality(size))

    def _epochs(self) -> tf.data.Dataset:
        # One element, read when an iteration begins.
        if self._variable is None:
            with tf.init_scope(), tf.device("CPU:0"):
                self._variable = tf.Variable(self._epoch, dtype=tf.int64, trainable=False)
        variable = self._variable
        return tf.data.Dataset.range(1).map(lambda _: variable.read_value())
