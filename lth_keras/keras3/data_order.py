"""Data sets in an order of their own for each epoch, as keras.utils.PyDataset."""

from typing import Any

import keras
import numpy as np

from lth_keras.core.seeding import generator
from lth_keras.errors import LotteryError


class DataOrder:
    """Makes data sets with a new order in each epoch; see `search.fit.data_order`.

    Args:
      seed: a whole number that determines all orders.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self.epoch = 0

    def begin(self, epoch: int) -> None:
        """Sets the epoch whose order the next iterations have."""
        self.epoch = epoch

    def permutation(self, size: int) -> Any:
        """The order of an epoch: an array of the numbers from 0 to size - 1."""
        return generator(self._seed, "data_order", level=self.epoch).permutation(size)

    def batches(self, examples: Any, *, batch_size: int,
                drop_remainder: bool = False) -> keras.utils.PyDataset:
        """Makes batches of arrays, in a new random order of all examples in each epoch.

        Raises:
          LotteryError: if the arrays differ in length or are empty.

        Example:
          >>> data = DataOrder(seed=0).batches((np.zeros((3, 5)), np.zeros(3)), batch_size=2)
          >>> [tuple(x.shape) for x, y in (data[0], data[1])]
          [(2, 5), (1, 5)]
        """
        arrays = keras.tree.map_structure(np.asarray, examples)
        shapes = [array.shape for array in keras.tree.flatten(arrays)]
        sizes = {shape[0] if shape else 0 for shape in shapes}
        if len(sizes) != 1 or 0 in sizes:
            raise LotteryError("x, y and sample_weight must have the same length, at least 1. "
                               f"Received: shapes {shapes}.")
        return _Batches(self, arrays, sizes.pop(), batch_size, drop_remainder)

    def shuffled(self, dataset: Any, buffer_size: int) -> Any:
        """Raises LotteryError: only tf.data is shuffled through a buffer."""
        raise LotteryError("lottery.order.shuffled needs TensorFlow, which is not installed. "
                           f"Received: {type(dataset).__name__}. Use lottery.order.batches.")


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]

    def __init__(self, order: DataOrder, arrays: Any, size: int, batch_size: int,
                 drop_remainder: bool):
        super().__init__()
        self._order, self._arrays, self._size = order, arrays, size
        self._batch_size, self._drop = batch_size, drop_remainder
        self._drawn: tuple[int, Any] | None = None  # The epoch, and its permutation.

    def __len__(self) -> int:
        whole, rest = divmod(self._size, self._batch_size)
        return whole + (rest > 0 and not self._drop)

    def __getitem__(self, number: int) -> Any:
        if self._drawn is None or self._drawn[0] != self._order.epoch:
            self._drawn = self._order.epoch, self._order.permutation(self._size)
        chosen = self._drawn[1][number * self._batch_size:(number + 1) * self._batch_size]
        return keras.tree.map_structure(lambda array: array[chosen], self._arrays)
