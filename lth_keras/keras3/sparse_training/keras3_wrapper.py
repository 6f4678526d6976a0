"""An optimizer of Keras 3 that wraps another one, for sparse trainings."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from lth_keras.keras3.sparse_training.keras3_host import Keras3Host
from lth_keras.sparse_training.host import Host


class Keras3Wrapper(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Passes steps and the learning rate of the wrapped optimizer on, and calls `_step`.

    Its `variables` are those of the training and the wrapped optimizer's.  A file that Keras saves
    of the model has the wrapped optimizer's settings in its place: masks are kept in a ticket.  A
    process that has not made such an optimizer loads the file with compile=False.

    Attributes:
      inner_optimizer: the wrapped optimizer.
    """

    _optimizers = keras.optimizers
    inner_optimizer: Any
    _iterations: Any
    _learning_rate: Any
    _step: Callable[[list[tuple[Any, Any]]], None]
    _check_variables: Callable[[Sequence[Any]], None]

    def _open(self, model: Any, optimizer: Any, include: Any, exclude: Any) -> Host:
        keras.optimizers.Optimizer.__init__(self, learning_rate=0.0)
        host = Keras3Host(model, optimizer, include, exclude, self._track_variable)
        # Steps and learning rate are the wrapped one's: schedules and callbacks work with them.
        for variable in self.variables:
            if variable is self._iterations or variable is self._learning_rate:
                self._untrack_variable(variable)
        self.inner_optimizer, self._iterations = host.optimizer, host.optimizer._iterations
        self._learning_rate = host.optimizer._learning_rate
        return host

    def build(self, variables: Any) -> None:
        """Keeps the variables that steps are given gradients of, in their order.

        Raises:
          LotteryError: if one is not trained by this optimizer. On JAX, what a step raises would
            leave the model without its values.
        """
        self._check_variables(variables)
        super().build(variables)

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Takes a step of the training; the arguments are those of any optimizer."""
        variables = self._trainable_variables if trainable_variables is None \
            else trainable_variables
        self._step([(None if gradient is None else _dense(gradient), variable)
                    for gradient, variable in zip(grads, variables, strict=True)])


def _dense(gradient: Any) -> Any:
    # The gradient of an embedding may have only the rows that occur in the batch.
    return keras.ops.convert_to_tensor(gradient, sparse=False)
