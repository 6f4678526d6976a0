"""An optimizer of tf_keras that wraps another one, for sparse trainings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.keras2.sparse_training.tf_keras_host import TfKerasHost
from lth_keras.sparse_training.host import Host


class TfKerasWrapper(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Passes steps and the learning rate of the wrapped optimizer on, and calls `_step`.

    Its `variables` are those of the wrapped optimizer and its own.  A file that Keras saves of the
    model has the wrapped optimizer's settings in its place: masks are kept in a ticket.

    Attributes:
      inner_optimizer: the wrapped optimizer.
    """

    _optimizers = keras.optimizers
    _step: Callable[[list[tuple[Any, Any]]], None]

    def _open(self, model: Any, optimizer: Any, include: Any, exclude: Any) -> Host:
        keras.optimizers.Optimizer.__init__(self, name=type(self).__name__)
        self._of_training: list[Any] = []  # An attribute: checkpoints of TensorFlow have it.
        host = TfKerasHost(model, optimizer, include, exclude, self._of_training.append)
        self.inner_optimizer = host.optimizer
        # Steps and learning rate are the wrapped one's: schedules and callbacks work with them.
        self._iterations = host.optimizer.iterations
        self._host = host
        self._built = True  # Keras refuses another `iterations` from here on.
        return host

    @property
    def variables(self) -> Any:
        """The wrapped optimizer's variables, then those of the training."""
        return type(self.inner_optimizer.variables)(
            [*self.inner_optimizer.variables, *self._of_training])

    def build(self, var_list: Any) -> None:
        """Does nothing: everything is built with the optimizer."""

    def set_weights(self, weights: Any) -> None:
        """Sets `variables`.

        Args:
          weights: an array for each of them, in their order.

        Raises:
          LotteryError: if there are more or fewer, or one has another shape.
        """
        shapes = [tuple(variable.shape) for variable in self.variables]
        given = [np.shape(value) for value in weights]
        if given != shapes:
            raise LotteryError(f"set_weights takes {len(shapes)} arrays of the shapes of "
                               f"optimizer.variables. Received: {len(given)} arrays"
                               f"{'' if len(given) != len(shapes) else ' of other shapes'}. Take "
                               "those of an optimizer that was made in the same way.")
        for variable, value in zip(self.variables, weights, strict=True):
            variable.assign(value)

    def add_variable_from_reference(self, *arguments: Any, **options: Any) -> Any:
        """Refused: what a step needs is made with the optimizer.

        Raises:
          LotteryError: always.
        """
        raise LotteryError("A sparse training makes its variables itself. Received: another one. "
                           "Make it a tf.Variable of your own.")

    add_variable = add_variable_from_reference

    def apply_gradients(self, grads_and_vars: Any, name: Any = None,
                        skip_gradients_aggregation: bool = False, **options: Any) -> Any:
        """Takes a step of the training; the arguments are those of any optimizer."""
        with tf.name_scope(name or self.name):
            self._step([(self._host.dense(gradient, variable), variable)
                        for gradient, variable in grads_and_vars])
        return self.iterations

    @property
    def lr(self) -> Any:
        """`learning_rate`, by its earlier name."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: Any) -> None:
        self.learning_rate = value
