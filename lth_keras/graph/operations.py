"""The operations of a network on channels, and which channels can only be removed together.

There are three kinds of operations on channels: `Linear` computes weighted sums over channels
(dense layers, convolutions), `Channelwise` works on each channel separately (activations,
normalisation, pooling, additions), and of an `Opaque` operation nothing is known.  `Tied` computes
nothing: it says that channels belong together.

Tensors are given by their index in a list.  Constants are float64 arrays, with NaN for channels
that vary.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
    """An axis of a layer's weight that goes along the channels of a tensor.

    Attributes:
      weight: tf_keras' name of the weight in its layer, such as "kernel"; "cell.kernel" of one in
        a layer within the layer.
      axis: the axis, >= 0.
      tensor: the tensor whose channels they are.
      channels: the channel of each index of the axis; None if index i is of channel i.
    """

    weight: str
    axis: int
    tensor: int
    channels: "Places | None" = None


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """An operation whose outputs are weighted sums of inputs, with a bias and an activation.

    Attributes:
      source: the tensor that it reads.
      target: the tensor that it makes.
      kernel: weights, shape (positions, inputs, outputs); a dense layer has one position.
      bias: biases, float64, shape (outputs,).
      activation: the elementwise activation, applied to an array of constants; None if it mixes
        channels, as softmax does.
      padded: whether the kernel may reach beyond the border, where it reads zeros.
      merges: whether its kernel can have any value; that of a separable convolution cannot.
      folds: whether constant inputs can be added to its bias.
      holds: the axes of its weights.
    """

    source: int
    target: int
    kernel: npt.NDArray[Any]
    bias: Floats
    activation: "Callable[[Floats], Floats] | None"
    padded: bool
    merges: bool = True
    folds: bool = True
    holds: tuple[Held, ...] = ()

    @functools.cached_property
    def reads(self) -> Flags:
        """Whether there is a connection, shape (inputs, outputs)."""
        return np.asarray((self.kernel != 0).any(axis=0))

    @property
    def makes(self) -> tuple[Held, ...]:
        """The axes whose indices are the filters or units that it makes."""
        return tuple(held for held in self.holds if held.tensor == self.target)


@dataclasses.dataclass(frozen=True, eq=False)
class Channelwise:
    """An operation that computes each output channel from one channel of each input.

    These channels can only be removed together.

    Attributes:
      sources: the tensors that it reads.
      target: the tensor that it makes.
      origins: for each source, the input channel of each output channel, or -1 for none.
      constants: computes the outputs' constants from the inputs' constants.
      holds: the axes of its weights.
    """

    sources: tuple[int, ...]
    target: int
    origins: tuple[Places, ...]
    constants: Callable[[list[Floats]], Floats]
    holds: tuple[Held, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Opaque:
    """An unknown operation: all its inputs are needed, and its outputs vary and stay."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Tied:
    """Channels that one weight holds: those of two calls of a layer, or of a group's filters.

    Attributes:
      tensors: the two tensors, which may be one.
      channels: a channel of each, for every pair, as two arrays of equal length.
    """

    tensors: tuple[int, int]
    channels: tuple[Places, Places]


Operation = Linear | Channelwise | Opaque | Tied


def tied_channels(widths: Sequence[int], operations: Iterable[Operation]) -> list[Places]:
    """Numbers the channels of all tensors, so that those that are tied have the same number.

    Args:
      widths: the number of channels of each tensor, >= 1.
      operations: the operations.

    Returns:
      For each tensor an array of its channels' numbers, each in [0, sum of widths): that of the
      first channel it is tied to.

    Example: an addition ties its inputs and its output.
      >>> same = np.arange(2)
      >>> add = Channelwise((0, 1), 2, (same, same), sum)
      >>> [numbers.tolist() for numbers in tied_channels([2, 2, 2], [add])]
      [[0, 1], [0, 1], [0, 1]]
    """
    # Every channel starts with its own number, and the lowest of tied ones spreads to all.
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    label = np.arange(sum(widths))
    pairs = []
    for operation in operations:
        if isinstance(operation, Channelwise):
            for source, origin in zip(operation.sources, operation.origins, strict=True):
                there = np.flatnonzero(origin >= 0)
                pairs.append((starts[source] + origin[there], starts[operation.target] + there))
        elif isinstance(operation, Tied):
            pairs.append(tuple(starts[tensor] + channels for tensor, channels in zip(
                operation.tensors, operation.channels, strict=True)))
    before = None
    while before is None or (label != before).any():
        before = label.copy()
        for one, other in (*pairs, *reversed(pairs)):
            lowest = np.minimum(label[one], label[other])
            np.minimum.at(label, one, lowest)
            np.minimum.at(label, other, lowest)
    return [label[start:start + width] for start, width in zip(starts, widths, strict=True)]
