"""A Keras 3 model and an optimizer of it, as `sparse_training.host.Host`."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.keras3 import optimizer_state
from lth_keras.keras3.gradient_masks import masks_of, own_constraint
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.sparse_training.keras_ops import KerasOps
from lth_keras.keras3.weights import check_keras3, named_weights, prunable_weights
from lth_keras.sparse_training.host import (
    check_kernels,
    check_optimizer,
    check_policy,
    Host,
    remembered,
    several_devices,
)


class Keras3Host(Host):
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
        self._model, self._track = model, track
        self.model, self.ops = model.name, KerasOps()
        self.packages = provenance.KERAS.get(keras.backend.backend(), ("keras",))
        self.weights: Mapping[str, Any] = named_weights(model)
        self.kernels: Mapping[str, Any] = {
            name: self.weights[name] for name in prunable_weights(model, include, exclude)}
        self.trained = model.trainable_variables
        trained = {id(variable) for variable in self.trained}
        self.frozen = [name for name, variable in self.weights.items()
                       if id(variable) in trained and name not in self.kernels]
        self.constrained = [name for name, kernel in self.kernels.items()
                            if own_constraint(kernel) is not None]
        _check_dense(model, self.kernels)
        check_kernels(self.kernels, self.trained, {
            name: kernel.dtype for name, kernel in self.kernels.items()})
        self.optimizer = _checked(keras.optimizers.get(optimizer))
        self._fresh: list[tuple[Any, Array]] = []

    def new(self, name: str, value: Array) -> Any:
        variable = keras.Variable(value, dtype=np.asarray(value).dtype.name, trainable=False,
                                  name=name.replace("/", "_"))
        self._track(variable)
        return variable

    def read(self, variable: Any) -> Array:
        self._synchronise()
        return np.array(keras.ops.convert_to_numpy(variable))

    def write(self, variable: Any, value: Array) -> None:
        self._synchronise()
        variable.assign(value)

    def value(self, variable: Any) -> Any:
        # A copy: the value of a variable of torch or TensorFlow is what it holds when it is used.
        return keras.ops.stop_gradient(keras.ops.copy(variable))

    def put(self, variable: Any, value: Any) -> None:
        variable.assign(value)

    def build(self, variables: Sequence[Any]) -> None:
        self.optimizer.build([*variables])
        self._fresh = [(variable, remembered(self.read(variable)))
                       for variable in self.optimizer.variables]
        for variable in self.optimizer.variables:
            self._track(variable)

    def apply(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        self.optimizer.apply([*gradients], [*variables])

    def restart(self) -> None:
        for variable, value in self._fresh:
            self.write(variable, np.broadcast_to(value, tuple(variable.shape)))

    def slots(self, variable: Any) -> Mapping[str, Any]:
        return optimizer_state.slots_of(self.optimizer, variable)

    def fresh_slots(self) -> Mapping[str, float]:
        return optimizer_state.fresh_slots(self.optimizer)

    def steps(self) -> Any:
        return keras.ops.cast(self.value(self.optimizer.iterations), "int32")

    def taken(self) -> int:
        return int(self.read(self.optimizer.iterations))

    def outside(self, look: Callable[[], None]) -> None:
        if keras.backend.backend() == "torch":
            look()
        elif keras.backend.backend() == "tensorflow":
            tf = importlib.import_module("tensorflow")
            with tf.init_scope():
                if tf.executing_eagerly():  # Not in a graph of TensorFlow 1.
                    look()

    def _synchronise(self) -> None:
        # While JAX trains, variables are in its state, and read from there when they are asked for.
        if hasattr(self._model, "jax_state_sync"):
            self._model.jax_state_sync()


def _check_model(model: Any) -> None:
    check_keras3(model)
    if not model.built or not model.weights:
        raise LotteryError("A model must be built before it is trained sparse. Received: "
                           f"{model.name!r}, which has no weights yet. Start it with "
                           "keras.Input(shape), or call it on one batch.")
    if ModelMasks.of(model) is not None:
        raise LotteryError("A sparse training masks an ordinary model. Received: "
                           f"{model.name!r}, which is pruned already. Build it anew.")
    check_policy(model)
    if keras.distribution.distribution() is not None:
        raise several_devices("a distribution of "
                              f"{type(keras.distribution.distribution()).__name__}")
    if keras.backend.backend() == "tensorflow":
        _check_strategy(model)


def _check_dense(model: Any, kernels: Mapping[str, Any]) -> None:
    # A layer may be pruned in another model, whose masks hold in this one too.
    pruned = [name for name, mask in masks_of(kernels).items() if not mask.all()]
    if pruned:
        raise LotteryError("A sparse training masks an ordinary model. Received: "
                           f"{model.name!r}, of which {', '.join(pruned[:3])} is pruned in another "
                           "model. Leave the layer out by exclude=, or build it anew.")


def _check_strategy(model: Any) -> None:
    # Keras 3 takes those of TensorFlow on that backend.
    tf = importlib.import_module("tensorflow")
    if tf.distribute.has_strategy():
        raise several_devices("a model in the scope of "
                              f"{type(tf.distribute.get_strategy()).__name__}")
    if any(_is_distributed(variable) for variable in model.weights):
        raise several_devices(f"{model.name!r}, built in the scope of a strategy")


def _is_distributed(variable: Any) -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    return isinstance(variable.value,
                      importlib.import_module("tensorflow").distribute.DistributedValues)


def _checked(optimizer: Any) -> Any:
    if not isinstance(optimizer, keras.optimizers.Optimizer) \
            or len([*optimizer_state.chain(optimizer)]) > 1:
        raise LotteryError("A sparse training wraps an optimizer of Keras 3 that wraps no other. "
                           f"Received: {type(optimizer).__module__}."
                           f"{type(optimizer).__qualname__}.")
    check_optimizer(optimizer, optimizer.built)
    for name in ("loss_scale_factor", "gradient_accumulation_steps"):
        if getattr(optimizer, name, None):
            raise LotteryError("A sparse training takes each gradient as it is. Received: "
                               f"{optimizer.name!r} with {name}="
                               f"{getattr(optimizer, name)!r}. Leave it out.")
    if _is_distributed(optimizer.iterations):
        raise several_devices(f"{optimizer.name!r}, made in the scope of a strategy")
    return optimizer
