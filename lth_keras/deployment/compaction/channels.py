"""Which channels of a network are constant, which must stay together, and which it needs.

A channel is a place on the last axis of a tensor: a unit of a dense layer, a filter of a
convolution, a feature of an input.  It is constant if it has one value for every example and
at every position.  An operation on channels is of three kinds: `Linear` sums over channels with
weights (dense layers, convolutions), `Channelwise` works channel by channel (activations,
normalisation, pooling, additions), and of an `Opaque` one nothing is known.

A tensor is named by its index in a list; constants are float64 arrays, NaN where a channel
varies.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """An output channel is a weighted sum over input channels, a bias, and an activation.

    Attributes:
      source: the tensor that it reads.
      target: the tensor that it makes.
      kernel: (positions, inputs, outputs) weights; a dense layer has one position.
      bias: (outputs,) float64.
      activation: of an array of constants, elementwise; None if it mixes channels.
      padded: whether the kernel may reach beyond the border, where it reads zeros.
      merges: whether its kernel can be set to any value; that of a separable convolution cannot.
    """

    source: int
    target: int
    kernel: npt.NDArray[Any]
    bias: Floats
    activation: "Callable[[Floats], Floats] | None"
    padded: bool
    merges: bool = True

    @functools.cached_property
    def reads(self) -> Flags:
        """(inputs, outputs): whether there is a connection."""
        return np.asarray((self.kernel != 0).any(axis=0))


@dataclasses.dataclass(frozen=True, eq=False)
class Channelwise:
    """Each output channel is made of one channel of each input: they are removed together or not.

    Attributes:
      sources: the tensors that it reads.
      target: the tensor that it makes.
      origins: for each source, the input channel that each output channel is made of, or -1.
      constants: gives the outputs' constants for those of the inputs.
    """

    sources: tuple[int, ...]
    target: int
    origins: tuple[Places, ...]
    constants: Callable[[list[Floats]], Floats]


@dataclasses.dataclass(frozen=True, eq=False)
class Opaque:
    """All of its inputs are needed; its outputs vary and cannot be removed."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]


Operation = Linear | Channelwise | Opaque


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """What a network needs, channel by channel; the rest can be removed.

    Attributes:
      constants: for each tensor the value of its constant channels, NaN for the others.
      live: for each tensor which channels are needed.
      kept: for each tensor which channels stay: those that are live, or one if none is, since a
        layer has at least one unit.
    """

    constants: list[Floats]
    live: list[Flags]
    kept: list[Flags]


def analyse(widths: Sequence[int], operations: Sequence[Operation]) -> Analysis:
    """Finds the channels that a network needs; the rest can be removed exactly.

    Args:
      widths: the number of channels of each tensor, >= 1.
      operations: in an order in which each comes after those that make what it reads.

    Example: of two units the second has no weight to the output, and the first reads one input.
      >>> def dense(source, target, kernel):
      ...     kernel = np.asarray(kernel, float)[None]
      ...     return Linear(source, target, kernel, np.zeros(kernel.shape[-1]), lambda x: x, False)
      >>> found = analyse([2, 2, 1], [Opaque((), (0,)), dense(0, 1, [[1, 1], [0, 1]]),
      ...                             dense(1, 2, [[1], [0]]), Opaque((2,), ())])
      >>> [kept.tolist() for kept in found.kept]
      [[True, True], [True, False], [True]]
    """
    values = _constants(widths, operations)
    groups = _groups(widths, operations)
    live = np.zeros(sum(widths), bool)  # By group: the id of its first channel.
    for operation in operations:
        if isinstance(operation, Opaque):
            for tensor in (*operation.sources, *operation.targets):
                live[groups[tensor]] = True
    linears = [operation for operation in reversed(operations) if isinstance(operation, Linear)]
    for operation in linears:
        if operation.activation is None:
            live[groups[operation.target]] = True
    # Backwards until nothing changes: a layer's needs make others live, also across additions.
    before = -1
    while before != (before := int(live.sum())):
        for operation in linears:
            needed = inputs(operation, values[operation.source], live[groups[operation.target]])
            live[groups[operation.source][needed]] = True
    kept = live.copy()
    for group in groups:
        if not kept[group].any():
            kept[group[0]] = True
    return Analysis(values, [live[group] for group in groups], [kept[group] for group in groups])


def inputs(operation: Linear, constants: Floats, live: Flags) -> Flags:
    """Which input channels a linear operation needs once constants are part of its bias.

    A constant channel that padding surrounds with zeros cannot become part of a bias: its sum
    differs at the border.  But one such channel can stand for all of them, with their weights
    added up.

    Args:
      operation: the linear operation.
      constants: (inputs,) of its input.
      live: (outputs,) which of its outputs are needed.
    """
    needed = operation.reads[:, live].any(axis=1) & ~foldable(operation, constants)
    bordered = needed & ~np.isnan(constants)
    if operation.merges and bordered.any():
        needed &= ~bordered
        needed[_representative(constants)] = True
    return needed


def foldable(operation: Linear, constants: Floats) -> Flags:
    """Which input channels can become part of the bias: those constant at the border too."""
    return constants == 0 if operation.padded else ~np.isnan(constants)


def folded(operation: Linear, constants: Floats, live: Flags) -> tuple[npt.NDArray[Any], Floats]:
    """The kernel and bias of a linear operation in float64, with constants in the bias.

    Weights of outputs that are not needed are zero.  Arguments are those of `inputs`.
    """
    known = foldable(operation, constants)
    bias = operation.bias + _value(operation, constants, known)
    kernel = operation.kernel.astype(np.float64)
    bordered = operation.reads[:, live].any(axis=1) & ~np.isnan(constants) & ~known
    if operation.merges and bordered.any():
        one = _representative(constants)
        shares = constants[bordered] / constants[one]
        merged = np.einsum("pio,i->po", kernel[:, bordered], shares)
        kernel[:, bordered] = 0
        kernel[:, one] = merged
    kernel[:, known] = 0
    kernel[:, :, ~live] = 0
    bias[~live] = 0
    return kernel, bias


def _value(operation: Linear, constants: Floats, chosen: Flags) -> Floats:
    """What the chosen constant inputs add to each output."""
    total = operation.kernel[:, chosen].sum(axis=0, dtype=np.float64)
    return np.asarray(constants[chosen] @ total, np.float64)


def _representative(constants: Floats) -> int:
    # The largest, since the others are divided by it.
    return int(np.nanargmax(np.abs(constants)))


def _constants(widths: Sequence[int], operations: Sequence[Operation]) -> list[Floats]:
    values = [np.full(width, np.nan) for width in widths]
    for operation in operations:
        if isinstance(operation, Linear):
            found = _constant_outputs(operation, values[operation.source])
        elif isinstance(operation, Channelwise):
            found = operation.constants([values[source] for source in operation.sources])
        else:
            continue
        values[operation.target] = np.where(np.isfinite(found), found, np.nan)
    return values


def _constant_outputs(operation: Linear, constants: Floats) -> Floats:
    found = np.full(len(operation.bias), np.nan)
    if operation.activation is None:
        return found
    known = foldable(operation, constants)
    still = ~operation.reads[~known].any(axis=0)
    if still.any():
        total = operation.bias + _value(operation, constants, known)
        found[still] = operation.activation(total[still])
    return found


def _groups(widths: Sequence[int], operations: Sequence[Operation]) -> list[Places]:
    # Channels that must stay together are a group.  Every channel starts with a number of its own;
    # within a group the lowest spreads to all.
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    label = np.arange(sum(widths))
    pairs = []
    for operation in operations:
        if isinstance(operation, Channelwise):
            for source, origin in zip(operation.sources, operation.origins, strict=True):
                there = np.flatnonzero(origin >= 0)
                pairs.append((starts[source] + origin[there], starts[operation.target] + there))
    before = None
    while before is None or (label != before).any():
        before = label.copy()
        for one, other in (*pairs, *reversed(pairs)):
            lowest = np.minimum(label[one], label[other])
            np.minimum.at(label, one, lowest)
            np.minimum.at(label, other, lowest)
    return [label[start:start + width] for start, width in zip(starts, widths, strict=True)]
