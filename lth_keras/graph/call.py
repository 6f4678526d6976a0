"""One call of a layer, as its reader sees it, and what readers of several kinds ask of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import LayerKind
from lth_keras.graph.operations import Floats, Held, Places


def _no_more(width: int) -> int:
    raise AssertionError("this call has no tensors of its own")


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer in a model's graph.

    Attributes:
      layer: the layer.
      sources: the indices of the tensors that it is called on.
      target: the index of the tensor that it makes.
      shapes: (number of axes, number of channels) of each source; 0 if unknown.
      shape: (number of axes, number of channels) of the target; 0 if unknown.
      more: makes a tensor within the layer, with so many channels, and returns its index.
      again: calls the layer as the graph does, on another tensor.
    """

    layer: Any
    sources: tuple[int, ...]
    target: int
    shapes: tuple[tuple[int, int], ...]
    shape: tuple[int, int]
    more: Callable[[int], int] = _no_more
    again: "Callable[..., Any] | None" = None

    @property
    def kind(self) -> LayerKind:
        """What knows the layer's Keras."""
        return kind_of(self.layer)

    def weight(self, name: str) -> Any:
        """A weight of the layer by tf_keras' name of it, float64; None if the layer has none."""
        value = self.kind.weight(self.layer, name)
        return None if value is None else value.astype(np.float64)

    def bias(self, size: int) -> Floats:
        """Its bias, zeros if it has none."""
        bias = self.weight("bias")
        return np.zeros(size) if bias is None else np.asarray(bias)

    def activation(self) -> "Callable[[Floats], Floats] | None":
        """Its activation of constants; None if it is not known to work on each element."""
        kind, activation = self.kind, self.layer.activation
        if not elementwise(kind, activation):
            return None
        if activation is None:
            return lambda values: values
        return lambda values: np.asarray(kind.array(activation(kind.tensor(values))), np.float64)

    def inputs(self, weight: str, axis: int, channels: "Places | None" = None) -> Held:
        """An axis of a weight along the channels of its first source."""
        return Held(weight, axis, self.sources[0], channels)

    def outputs(self, weight: str, axis: int, channels: "Places | None" = None) -> Held:
        """An axis of a weight along the channels of its target."""
        return Held(weight, axis, self.target, channels)


def elementwise(kind: LayerKind, activation: Any) -> bool:
    """Returns whether an activation is known to work on each element separately.

    Example:
      >>> import keras
      >>> kind = kind_of(keras.layers.Layer())
      >>> [elementwise(kind, getattr(keras.activations, name)) for name in ("relu", "softmax")]
      [True, False]
    """
    return activation in kind.elementwise if callable(activation) else activation is None
