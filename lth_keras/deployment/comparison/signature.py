"""The inputs and outputs of a model by name.

TensorFlow Lite and SavedModel order the inputs and outputs of a file as they like.  So a file of
several is written with the names that are given here, and is fed and read by them.
"""

import dataclasses
from typing import Any

from lth_keras.deployment.models.kinds import kind_of
from lth_keras.deployment.models.model_kind import flatten, packed, Spec
from lth_keras.errors import LotteryError


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """The inputs and outputs of a model, by the names that Keras gives them.

    Attributes:
      inputs: name -> `Spec`, in the order of `flatten`.
      takes: what the model is called on, with names in place of tensors: a name, or names in lists
        and dicts.
      returns: what the model returns, in the same way.
    """

    inputs: dict[str, Spec]
    takes: Any
    returns: Any

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in the order of `flatten`."""
        return tuple(flatten(self.returns))

    @property
    def single(self) -> bool:
        """Whether there is one input and one output, so that no names are needed."""
        return len(self.inputs) == 1 and len(self.outputs) == 1

    def pack(self, tensors: dict[str, Any]) -> Any:
        """Returns tensors by name in the structure that the model is called on."""
        return packed(self.takes, [tensors[name] for name in flatten(self.takes)])

    def by_name(self, outputs: Any) -> dict[str, Any]:
        """Returns what the model has returned by the names of its outputs."""
        return dict(zip(self.outputs, flatten(outputs), strict=True))


def of(model: Any) -> Signature:
    """Returns the signature of a model.

    For a dict of inputs or outputs, names are its keys.  A functional model names the others by
    its layers, any other model numbers them: input_1, output_1, output_2.

    Raises:
      LotteryError: if the model is subclassed and was never called, since only a call shows what
        it takes and returns.

    Example:
      >>> import tf_keras as keras
      >>> x = keras.Input((2,), name="x")
      >>> heads = {"sum": keras.layers.Dense(1)(x), "parts": keras.layers.Dense(3)(x)}
      >>> of(keras.Model(x, heads)).outputs
      ('parts', 'sum')
    """
    ends = kind_of(model).ends(model)
    if ends is None:
        raise LotteryError("A subclassed model must be called once before it is converted, so "
                           "that the shapes of its inputs are known. Received: "
                           f"{type(model).__name__}, which was never called.")
    takes, specs, returns = ends
    return Signature(dict(zip(flatten(takes), specs, strict=True)), takes, returns)
