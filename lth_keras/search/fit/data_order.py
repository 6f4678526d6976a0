"""`lottery.order`: data sets whose order depends only on a seed and the number of the epoch.

`fit` shuffles arrays, and tf.data reshuffles, with a random state that a new process does not
have.  Here epoch 7 has the same batches in the same order whether or not epochs 0 to 6 were trained
in the same process, so that a resumed search continues bit for bit.
"""

from typing import Any

from lth_keras import providers
from lth_keras.arguments import check_whole
from lth_keras.errors import LotteryError


class DataOrder:
    """Makes data sets with a new order in each epoch: of tf.data, or of Keras without TensorFlow.

    Args:
      seed: a whole number that determines all orders.

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
        self._seed, self._epoch = seed, 0
        self._maker: Any = None

    @property
    def used(self) -> bool:
        """Whether a data set was made with this order."""
        return self._maker is not None

    def begin(self, epoch: int) -> None:
        """Sets the epoch whose order the next iterations have; the callback calls this in `fit`.

        Args:
          epoch: the number of the epoch, >= 0.
        """
        self._epoch = epoch
        if self._maker is not None:
            self._maker.begin(epoch)

    def batches(self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int,
                drop_remainder: bool = False) -> Any:
        """Makes batches of arrays, in a new random order of all examples in each epoch.

        Args:
          x: an array of shape (examples, ...), or a list, tuple or dict of arrays, one for each
            input of the model.
          y: targets of the same length, likewise one for each output, or None.
          sample_weight: weights of the same length, of targets, or None.
          batch_size: examples in a batch, >= 1.
          drop_remainder: whether to drop a last batch that is smaller.

        Returns:
          A data set of x, (x, y) or (x, y, sample_weight), for `fit` without steps_per_epoch: a
          tf.data.Dataset, or where TensorFlow is not installed a keras.utils.PyDataset.

        Raises:
          LotteryError: if the arrays differ in length or are empty, there are weights and no
            targets, or batch_size is below 1.
        """
        check_whole("batch_size", batch_size, 1)
        return self._made().batches(_examples(x, y, sample_weight), batch_size=batch_size,
                                    drop_remainder=drop_remainder)

    def shuffled(self, dataset: Any, buffer_size: int) -> Any:
        """Shuffles a tf.data.Dataset through a buffer, in a new random order in each epoch.

        Args:
          dataset: examples, not yet in batches. It must have the same order whenever it is read,
            so it must not reshuffle itself.
          buffer_size: the size of the buffer that examples are drawn from, >= 1. All orders are
            equally likely only if all examples fit into it.

        Returns:
          A tf.data.Dataset of the same elements, to be batched, for `fit` without steps_per_epoch.
        """
        return self._made().shuffled(dataset, buffer_size)

    def _made(self) -> Any:
        if self._maker is None:
            try:
                self._maker = providers.provider(providers.DATA_ORDER)(self._seed)
            except ImportError:  # TensorFlow is not installed.
                self._maker = providers.provider(providers.DATA_ORDER_OF_KERAS)(self._seed)
            self._maker.begin(self._epoch)
        return self._maker


def _examples(x: Any, y: Any, sample_weight: Any) -> Any:
    # As `fit` reads an element of a data set: x alone, or a tuple that begins with it.
    if y is None and sample_weight is not None:
        raise LotteryError("sample_weight weighs the loss of targets. Received: sample_weight, "
                           "and y=None. Give y too.")
    given = (x,) if y is None else (x, y) if sample_weight is None else (x, y, sample_weight)
    found = tuple(map(_structure, given))
    return found[0] if y is None and not isinstance(found[0], tuple) else found


def _structure(value: Any) -> Any:
    # tf.data stacks the arrays of a list as one, and keeps those of a tuple.
    if isinstance(value, dict):
        return {name: _structure(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(map(_structure, value))
    return value
