"""Finds the channels of a network that are constant, and those that are needed.

A channel is constant if it has the same value for all examples and at all positions.  The
operations on channels, and which channels can only be removed together, are those of
`graph.operations`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lth_keras.graph.operations import (
    Channelwise,
    Flags,
    Floats,
    Linear,
    Opaque,
    Operation,
    tied_channels,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """The channels of a network that are needed; the others can be removed.

    Attributes:
      constants: for each tensor, the values of its constant channels; NaN for the others.
      live: for each tensor, which channels are needed.
      kept: for each tensor, which channels are kept: those that are needed, or one if none is,
        since a layer needs at least one unit.
    """

    constants: list[Floats]
    live: list[Flags]
    kept: list[Flags]


def analyse(widths: Sequence[int], operations: Sequence[Operation],
            drop_constants: bool = False) -> Analysis:
    """Finds the channels that a network needs; the others can be removed without any change.

    Args:
      widths: the number of channels of each tensor, >= 1.
      operations: the operations, each after those whose outputs it reads.
      drop_constants: whether to take every constant channel for zero, which changes the outputs.

    Example: of two units the second has no weight to the output, and the first reads one input.
      >>> from lth_keras.graph.operations import Linear, Opaque
      >>> def dense(source, target, kernel):
      ...     kernel = np.asarray(kernel, float)[None]
      ...     return Linear(source, target, kernel, np.zeros(kernel.shape[-1]), lambda x: x, False)
      >>> found = analyse([2, 2, 1], [Opaque((), (0,)), dense(0, 1, [[1, 1], [0, 1]]),
      ...                             dense(1, 2, [[1], [0]]), Opaque((2,), ())])
      >>> [kept.tolist() for kept in found.kept]
      [[True, True], [True, False], [True]]
    """
    values = _constants(widths, operations, drop_constants)
    groups = tied_channels(widths, operations)
    # Constants go forwards, needs go backwards. `live` is indexed by groups of channels that can
    # only be removed together; a group's number is that of its first channel.
    live = np.zeros(sum(widths), bool)
    for operation in operations:
        if isinstance(operation, Opaque):
            for tensor in (*operation.sources, *operation.targets):
                live[groups[tensor]] = True
    linears = [operation for operation in reversed(operations) if isinstance(operation, Linear)]
    for operation in linears:
        if operation.activation is None:
            live[groups[operation.target]] = True
    # Repeated until nothing changes: through an addition, a need can reach an earlier layer whose
    # other outputs were already visited.
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
    """Returns which input channels a linear operation needs when constants are in its bias.

    A constant channel that is zero-padded cannot be added to a bias, since its contribution is
    another at the border.  But one such channel can replace all of them, with their weights added.

    Args:
      operation: the linear operation.
      constants: the constants of its input, shape (inputs,).
      live: which of its outputs are needed, shape (outputs,).
    """
    needed = operation.reads[:, live].any(axis=1) & ~foldable(operation, constants)
    bordered = needed & ~np.isnan(constants)
    if operation.merges and bordered.any():
        needed &= ~bordered
        needed[_representative(constants)] = True
    return needed


def foldable(operation: Linear, constants: Floats) -> Flags:
    """Returns which input channels can be added to the bias: those constant at the border too.

    Example:
      >>> dense = Linear(0, 1, np.ones((1, 2, 1)), np.zeros(1), None, padded=False)
      >>> foldable(dense, np.array([3.0, np.nan])).tolist()
      [True, False]
    """
    if not operation.folds:
        return np.zeros(len(constants), bool)
    return constants == 0 if operation.padded else ~np.isnan(constants)


def folded(operation: Linear, constants: Floats, live: Flags) -> tuple[npt.NDArray[Any], Floats]:
    """Returns the kernel and bias of a linear operation in float64, with constants in the bias.

    Weights of outputs that are not needed are zero.  The arguments are those of `inputs`.

    Example:
      >>> dense = Linear(0, 1, np.ones((1, 2, 1)), np.zeros(1), None, padded=False)
      >>> kernel, bias = folded(dense, np.array([3.0, np.nan]), np.array([True]))
      >>> kernel.ravel().tolist(), bias.tolist()
      ([0.0, 1.0], [3.0])
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
    # What the chosen constant inputs add to each output, where the kernel is inside the border.
    total = operation.kernel[:, chosen].sum(axis=0, dtype=np.float64)
    return np.asarray(constants[chosen] @ total, np.float64)


def _representative(constants: Floats) -> int:
    # The largest in magnitude, since the others are divided by it.
    return int(np.nanargmax(np.abs(constants)))


def _constants(widths: Sequence[int], operations: Sequence[Operation],
               drop: bool) -> list[Floats]:
    # A constant that is not finite, such as exp of a large bias, is left to vary: NaN marks that.
    values = [np.full(width, np.nan) for width in widths]
    for operation in operations:
        if isinstance(operation, Linear):
            found = _constant_outputs(operation, values[operation.source])
        elif isinstance(operation, Channelwise):
            found = operation.constants([values[source] for source in operation.sources])
        else:
            continue
        values[operation.target] = np.where(np.isfinite(found), 0.0 if drop else found, np.nan)
    return values


def _constant_outputs(operation: Linear, constants: Floats) -> Floats:
    found = np.full(len(operation.bias), np.nan)
    if operation.activation is None:
        return found
    known = foldable(operation, constants)
    # An output is constant if all inputs that it reads are.
    still = ~operation.reads[~known].any(axis=0)
    if still.any():
        total = operation.bias + _value(operation, constants, known)
        found[still] = operation.activation(total[still])
    return found
