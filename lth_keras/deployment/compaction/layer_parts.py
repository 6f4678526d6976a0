"""Makes the smaller layers of a compaction, with constants in their biases."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.deployment.compaction import channels
from lth_keras.deployment.compaction.channels import Analysis
from lth_keras.deployment.models.kinds import kind_of
from lth_keras.graph import rebuild
from lth_keras.graph.operations import Flags, Linear, Operation
from lth_keras.graph.rebuild import Part

_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")


def part(layer: Any, operations: Sequence[Operation], found: Analysis,
         taken: "Collection[str] | None" = None) -> Part:
    """Makes the replacement of a layer.

    Args:
      layer: a layer of the model that was analysed.
      operations: the layer's operations on channels.
      found: the analysis.
      taken: the names of the model's layers, if inputs may be gathered before it; else None.
    """
    first = operations[0]
    if len(operations) == 1 and isinstance(first, Linear) and first.folds:
        return _folded(layer, first, found, taken)
    return rebuild.part(layer, operations, found.kept)


def positions(operation: Linear, found: Analysis) -> "Array | None":
    """The places, among the inputs that stay, of those that it reads; None if it reads all."""
    there, rows = found.kept[operation.source], read_inputs(operation, found)
    return None if (rows == there).all() else np.flatnonzero(rows[there])


def unread(operation: Linear, found: Analysis) -> Flags:
    """Returns which input channels a linear operation does not read, with constants in its bias."""
    return ~channels.inputs(operation, found.constants[operation.source],
                            found.live[operation.target])


def read_inputs(operation: Linear, found: Analysis) -> Flags:
    """Which of its input channels a linear operation reads, if they are gathered; at least one."""
    there = found.kept[operation.source]
    rows = there & ~unread(operation, found)
    if not rows.any():
        rows[np.flatnonzero(there)[0]] = True
    return rows


def _folded(layer: Any, operation: Linear, found: Analysis,
            taken: "Collection[str] | None") -> Part:
    rows = found.kept[operation.source] if taken is None else read_inputs(operation, found)
    weights = _linear_weights(layer, operation, found, rows)
    changes = {**rebuild.resized(layer, [operation], found.kept), "use_bias": "bias" in weights}
    if kind_of(layer).known_as(layer) == "EinsumDense":
        del changes["use_bias"]
        if "bias" in weights and layer.bias_axes is None:
            changes["bias_axes"] = layer.equation[-1]
    new = rebuild.again(layer, **changes)
    return Part(new, weights, None if taken is None else _gather(new, operation, found, taken))


def _gather(new: Any, operation: Linear, found: Analysis,
            taken: Collection[str]) -> "Callable[[Any], Any] | None":
    places = positions(operation, found)
    if places is None:
        return None
    kind, name = kind_of(new), _free_name(new.name, taken)
    layer: Callable[[Any], Any] | None = kind.gather_layer(places.tolist(), name, new)
    return layer or functools.partial(kind.gather, positions=places.tolist(), name=name, like=new)


def _linear_weights(layer: Any, operation: Linear, found: Analysis,
                    rows: Flags) -> dict[str, Array]:
    columns = found.kept[operation.target]
    constants, live = found.constants[operation.source], found.live[operation.target]
    kernel, bias = channels.folded(operation, constants, live)
    weights: dict[str, Array] = {}
    kind = kind_of(layer)
    if kind.known_as(layer) in _SEPARABLE:
        # Its kernel is a product of two weights, so the folded kernel cannot be stored; zeros can.
        depthwise = np.array(kind.weight(layer, "depthwise_kernel"))
        depthwise[..., unread(operation, found), :] = 0
        pointwise = np.array(kind.weight(layer, "pointwise_kernel"))
        pointwise[..., ~live] = 0
        weights["depthwise_kernel"] = depthwise[..., rows, :]
        weights["pointwise_kernel"] = \
            pointwise[..., np.repeat(rows, layer.depth_multiplier), :][..., columns]
    else:
        kernel = kernel[:, rows][:, :, columns]
        if kind.known_as(layer).endswith("Transpose"):
            kernel = np.swapaxes(kernel, 1, 2)
        weights["kernel"] = kernel.reshape(*getattr(layer, "kernel_size", ()), *kernel.shape[1:])
    # A layer without a bias gets one if constants were added to it.
    if kind.weight(layer, "bias") is not None or bias[columns].any():
        weights["bias"] = bias[columns]
    return weights


def _free_name(layer: str, taken: Collection[str]) -> str:
    # Names of layers must be unique: underscores are added until the name is free.
    name = f"{layer}_inputs"
    while name in taken:
        name += "_"
    return name
