"""What a sparse training needs of a model and of the optimizer that it wraps, of either Keras."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.sparse_training.array_ops import ArrayOps


class Host(Protocol):
    """A model and an optimizer; `keras2.sparse_training` and `keras3.sparse_training` have one.

    A variable is one of the model or one that `new` made; a value is what a step computes with.

    Attributes:
      model: the model's name.
      weights: weight name -> variable, for every weight of the model.
      kernels: the same for those that get masks, in the order of the model.
      trained: the variables that a training of the model would train.
      frozen: the names of those of them that are no kernels.
      constrained: the names of the kernels that have a constraint.
      packages: the packages whose versions decide what is computed.
      ops: the operations of the array library.
    """

    model: str
    weights: Mapping[str, Any]
    kernels: Mapping[str, Any]
    trained: Sequence[Any]
    frozen: Sequence[str]
    constrained: Sequence[str]
    packages: Sequence[str]
    ops: ArrayOps

    def new(self, name: str, value: Array) -> Any:
        """A variable that is part of the optimizer's state, and is not trained by itself."""

    def read(self, variable: Any) -> Array:
        """A copy of a variable's value, outside of a step."""

    def write(self, variable: Any, value: Array) -> None:
        """Sets a variable outside of a step."""

    def value(self, variable: Any) -> Any:
        """The value of a variable in a step."""

    def put(self, variable: Any, value: Any) -> None:
        """Sets a variable in a step."""

    def build(self, variables: Sequence[Any]) -> None:
        """Builds the wrapped optimizer for what it trains, and keeps its state as it is now."""

    def apply(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Lets the wrapped optimizer take a step."""

    def restart(self) -> None:
        """Gives the wrapped optimizer the state that it had when it was built."""

    def slots(self, variable: Any) -> Mapping[str, Any]:
        """The variables that the wrapped optimizer has for one that it trains, of its shape."""

    def fresh_slots(self) -> Mapping[str, float]:
        """The initial value of each kind of slot."""

    def steps(self) -> Any:
        """How many steps have been taken, int32."""

    def taken(self) -> int:
        """How many steps have been taken, outside of a step."""

    def outside(self, look: Callable[[], None]) -> None:
        """In a step, calls what reads variables as they are before it, where that is possible.

        Where a step is compiled, that is once, and before it is taken.
        """


def watched(model: Any, optimizer: Any, look: Callable[[], None]) -> None:
    """Has a function called before each training of a model by an optimizer, in Keras' own loop."""
    def before(train: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(train)
        def trained(*arguments: Any, **options: Any) -> Any:
            if getattr(model, "optimizer", None) is optimizer:
                look()
            return train(*arguments, **options)
        return trained
    # In the instance, past Keras' own tracking: the model keeps its class and its files.
    vars(model).update({name: before(getattr(model, name)) for name in ("fit", "train_on_batch")})


def several_devices(received: str) -> LotteryError:
    """The error for a model or an optimizer of several devices.

    Example:
      >>> print(several_devices("a model of two"))
      A sparse training runs on one device. Received: a model of two. Leave strategies out.
    """
    return LotteryError(f"A sparse training runs on one device. Received: {received}. Leave "
                        "strategies out.")


def check_policy(model: Any) -> None:
    """Checks that no layer of a model needs its loss scaled.

    Raises:
      LotteryError: if one does.
    """
    if any(getattr(layer, "compute_dtype", None) == "float16"
           for layer in model._flatten_layers()):
        raise LotteryError("A sparse training scales no loss, which float16 needs. Received: "
                           f"{model.name!r} with the policy mixed_float16. Take mixed_bfloat16 or "
                           "float32.")


def check_optimizer(optimizer: Any, built: bool) -> None:
    """Checks that an optimizer has taken no step, and averages no weights.

    Args:
      optimizer: of either Keras.
      built: whether it has its variables.

    Raises:
      LotteryError: if it is of a kind that does not work.
    """
    if built:
        raise LotteryError("A sparse training needs an optimizer that has taken no step. Received: "
                           f"{optimizer.name!r}, which has been built for a model. Make a new one.")
    if optimizer.use_ema:
        raise LotteryError("A moving average of weights does not keep masks. Received: "
                           f"{optimizer.name!r} with use_ema=True. Leave it out.")


def check_kernels(kernels: Mapping[str, Any], trained: Sequence[Any],
                  dtypes: Mapping[str, str]) -> None:
    """Checks that kernels are trained, and of float32.

    Raises:
      LotteryError: if not.
    """
    known = {id(variable) for variable in trained}
    for name, kernel in kernels.items():
        if id(kernel) not in known:
            raise LotteryError("A sparse training masks weights that are trained. Received: "
                               f"{name!r}, which is frozen (trainable=False). Leave the layer out "
                               "of include=, or make it trainable.")
        if dtypes[name] != "float32":
            raise LotteryError("A sparse training masks weights of float32. Received: "
                               f"{name!r} of {dtypes[name]}. Leave it out by exclude=, or build "
                               "the model in float32.")


def remembered(value: Array) -> Array:
    """An array that is broadcast to the given one: of equal numbers, one is enough to keep.

    Example:
      >>> import numpy as np
      >>> remembered(np.zeros((784, 300))).shape, remembered(np.arange(3)).shape
      ((1, 1), (3,))
    """
    if value.size and (value == value.flat[0]).all():
        return value.flat[:1].reshape((1,) * value.ndim)
    return value
