"""A tf_keras model and an optimizer of it, as `sparse_training.host.Host`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.keras2 import optimizer_state
from lth_keras.keras2.initial.tf_keras_scored import selected
from lth_keras.keras2.masking.weight_names import check_keras2, named_weights, wrappers
from lth_keras.keras2.masking.wrap_weights import check_built
from lth_keras.keras2.sparse_training.tensorflow_ops import TensorFlowOps
from lth_keras.sparse_training.host import (
    check_kernels,
    check_optimizer,
    check_policy,
    Host,
    remembered,
    several_devices,
)


class TfKerasHost(Host):
    """The weights of a model, and the optimizer that a sparse training wraps.

    Args:
      model: a built model that nothing prunes.
      optimizer: an optimizer that has taken no step.
      include, exclude: as `lth.Supermask` takes them.
      track: makes a variable one of the optimizer's own.

    Attributes:
      optimizer: the wrapped optimizer.

    Raises:
      LotteryError: if the model or the optimizer is of a kind that does not work.
    """

    def __init__(self, model: Any, optimizer: Any, include: Any, exclude: Any,
                 track: Callable[[Any], None]):
        _check_model(model)
        self._track = track
        self.model, self.packages, self.ops = model.name, provenance.TF_KERAS, TensorFlowOps()
        self.weights: Mapping[str, Any] = named_weights(model)
        self.kernels: Mapping[str, Any] = selected(model, include, exclude)
        self.trained = model.trainable_variables
        trained = {id(variable) for variable in self.trained}
        self.frozen = [name for name, variable in self.weights.items()
                       if id(variable) in trained and name not in self.kernels]
        self.constrained = [name for name, kernel in self.kernels.items()
                            if kernel.constraint is not None]
        check_kernels(self.kernels, self.trained, {
            name: _dtype(kernel) for name, kernel in self.kernels.items()})
        self.optimizer = _checked(keras.optimizers.get(optimizer))
        self._fresh: list[tuple[Any, Array]] = []

    def new(self, name: str, value: Array) -> Any:
        variable = tf.Variable(value, trainable=False, name=name)
        self._track(variable)
        return variable

    def read(self, variable: Any) -> Array:
        value: Array = np.array(variable.numpy())
        return value

    def write(self, variable: Any, value: Array) -> None:
        variable.assign(value)

    def value(self, variable: Any) -> Any:
        return tf.convert_to_tensor(variable)

    def put(self, variable: Any, value: Any) -> None:
        variable.assign(value)

    def dense(self, gradient: Any, variable: Any) -> Any:
        """A gradient as the training takes it: of a kernel, one for all of its elements.

        That of an embedding has only the rows that occur in the batch.
        """
        if isinstance(gradient, tf.IndexedSlices) and any(
                variable is kernel for kernel in self.kernels.values()):
            return tf.convert_to_tensor(gradient)
        return gradient

    def build(self, variables: Sequence[Any]) -> None:
        self.optimizer.build([*variables])
        self._fresh = [(variable, remembered(self.read(variable))) for variable
                       in optimizer_state.variables_of(self.optimizer)]

    def apply(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        self.optimizer.apply_gradients([*zip(gradients, variables, strict=True)])

    def restart(self) -> None:
        for variable, value in self._fresh:
            variable.assign(tf.broadcast_to(value, variable.shape))

    def slots(self, variable: Any) -> Mapping[str, Any]:
        return optimizer_state.slots_of(self.optimizer, variable)

    def fresh_slots(self) -> Mapping[str, float]:
        return optimizer_state.fresh_slots(self.optimizer)

    def steps(self) -> Any:
        return tf.cast(self.optimizer.iterations, tf.int32)

    def taken(self) -> int:
        return int(self.optimizer.iterations.numpy())

    def outside(self, look: Callable[[], None]) -> None:
        with tf.init_scope():
            if tf.executing_eagerly():  # Not in a graph of TensorFlow 1.
                look()


def _check_model(model: Any) -> None:
    check_keras2(model)
    if not isinstance(model, keras.Model):
        raise LotteryError("A model of tf_keras is needed. Received: the layer "
                           f"{model.name!r}. Put it into a model.")
    check_built(model)
    if wrappers(model):
        raise LotteryError("A sparse training masks an ordinary model. Received: "
                           f"{model.name!r}, which is wrapped for pruning. Leave "
                           "lth.prune_low_magnitude out.")
    check_policy(model)
    if tf.distribute.has_strategy():
        raise several_devices("a model in the scope of "
                              f"{type(tf.distribute.get_strategy()).__name__}")
    if model.distribute_strategy.num_replicas_in_sync > 1:
        raise several_devices(f"{model.name!r}, built in the scope of "
                              f"{type(model.distribute_strategy).__name__}")


def _dtype(kernel: Any) -> str:
    return str(tf.as_dtype(getattr(kernel, "true_dtype", kernel.dtype)).name)


def _checked(optimizer: Any) -> Any:
    if not isinstance(optimizer, keras.optimizers.Optimizer) \
            or getattr(optimizer, "inner_optimizer", None) is not None:
        raise LotteryError("A sparse training wraps an optimizer of tf_keras that wraps no other, "
                           "none of keras.optimizers.legacy. Received: "
                           f"{type(optimizer).__module__}.{type(optimizer).__qualname__}.")
    check_optimizer(optimizer, getattr(optimizer, "_built", False))
    if isinstance(optimizer.iterations, tf.distribute.DistributedValues):
        raise several_devices(f"{optimizer.name!r}, made in the scope of a strategy")
    return optimizer
