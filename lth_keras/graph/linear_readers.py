"""Describes each kind of layer whose outputs are weighted sums of channels."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.graph.call import Call
from lth_keras.graph.operations import (
    Channelwise,
    Floats,
    Held,
    Linear,
    Opaque,
    Operation,
    Places,
    Tied,
)
from lth_keras.graph.readers import reaches_beyond

Read = Operation | Sequence[Operation] | str

_ADAPTED = "its kernel is not a weight of floating-point numbers alone"  # LoRA, or quantised.


def dense(call: Call) -> Read:
    """A dense layer."""
    return _plain(call, call.kind.weight(call.layer, "kernel"))


def einsum(call: Call) -> Read:
    """An EinsumDense layer that sums over its last axis alone, as a dense layer does."""
    layer = call.layer
    form = re.fullmatch(r"(\.\.\.|[a-z]*)([a-z]),\2([a-z])->\1\3", layer.equation.replace(" ", ""))
    if form is None or (layer.bias_axes or form[3]) != form[3]:
        return f"its equation {layer.equation} is not that of a dense layer"
    return _plain(call, call.kind.weight(layer, "kernel"))


def convolution(call: Call) -> Read:
    """A convolution, of all channels or of groups of them."""
    kernel = call.kind.weight(call.layer, "kernel")
    if kernel is None:
        return _ADAPTED
    if call.layer.groups > 1:
        return _grouped(call, kernel)
    return _plain(call, kernel, reaches_beyond(call.layer))


def transposed(call: Call) -> Read:
    """A transposed convolution, whose kernel has its outputs before its inputs."""
    kernel = call.kind.weight(call.layer, "kernel")
    if kernel is None:
        return _ADAPTED
    last = kernel.ndim - 1
    return Linear(call.sources[0], call.target,
                  np.swapaxes(kernel.reshape(-1, *kernel.shape[-2:]), 1, 2),
                  call.bias(kernel.shape[-2]), call.activation(),
                  # Its outputs at the border are sums of fewer products, like those of a
                  # convolution that is padded.
                  padded=True, holds=(call.inputs("kernel", last), call.outputs("kernel", last - 1),
                                      call.outputs("bias", 0)))


def separable(call: Call) -> Read:
    """A depthwise and a pointwise convolution: one whose kernel is the product of theirs."""
    whole = call.weight("depthwise_kernel")
    depthwise = whole.reshape(-1, *whole.shape[-2:])
    _, channels, multiplier = depthwise.shape
    pointwise = call.weight("pointwise_kernel").reshape(channels, multiplier, -1)
    kernel = np.einsum("pim,imo->pio", depthwise, pointwise)
    rank = whole.ndim
    return Linear(call.sources[0], call.target, kernel, call.bias(kernel.shape[-1]),
                  call.activation(), padded=reaches_beyond(call.layer), merges=False, holds=(
                      call.inputs("depthwise_kernel", rank - 2),
                      call.inputs("pointwise_kernel", rank - 2,
                                  np.arange(channels * multiplier) // multiplier),
                      call.outputs("pointwise_kernel", rank - 1), call.outputs("bias", 0)))


def recurrent(gates: int) -> Any:
    """The reader of a recurrent layer with so many gates: its channels are its units."""
    def reader(call: Call) -> Read:
        layer, units = call.layer, call.shape[1]
        if layer.stateful or getattr(layer, "return_state", False):
            return "its state is kept or returned"
        if not (hasattr(layer, "cell") and layer.activation is not None):
            return "it is of an unknown kind"
        inner, every = call.weight("cell.kernel"), np.tile(np.arange(units), gates)
        among = call.weight("cell.recurrent_kernel")
        bias = call.weight("cell.bias")

        def linear(source: int, kernel: Array, holds: tuple[Held, ...]) -> Linear:
            # A unit varies even if it reads nothing: it reads itself.
            return Linear(source, call.target, _by_gate(kernel, gates), np.zeros(units), _varying,
                          padded=True, merges=False, folds=False, holds=holds)
        biases = () if bias is None else (call.outputs("cell.bias", bias.ndim - 1, every),)
        return (linear(call.sources[0], inner, (
                    call.inputs("cell.kernel", 0), call.outputs("cell.kernel", 1, every),
                    *biases)),
                linear(call.target, among, (
                    call.outputs("cell.recurrent_kernel", 0),
                    call.outputs("cell.recurrent_kernel", 1, every))))
    return reader


def attention(call: Call) -> Read:
    """Multi-head attention: its heads are channels of tensors within it."""
    layer = call.layer
    if layer._output_shape is not None and len(np.atleast_1d(layer._output_shape)) > 1:
        return "its output has several axes"
    kernels = {part: call.weight(f"_{part}_dense.kernel")
               for part in ("query", "key", "value", "output")}
    if any(kernel is None for kernel in kernels.values()):
        return _ADAPTED
    heads = kernels["query"].shape[-2]
    # Called on (query, value) or (query, value, key).
    query, value, key = (*call.sources[:2], call.sources[-1])
    operations: list[Operation] = []
    tensors = []
    parts = [("query", query), ("key", key), ("value", value)]
    gate = call.weight("_gate_dense.kernel")
    if gate is not None:  # What each head gives is multiplied by it.
        kernels["gate"] = gate
        parts.append(("gate", query))
    for part, source in parts:
        tensor = call.more(heads)
        tensors.append(tensor)
        weight = f"_{part}_dense"
        operations.append(Linear(
            source, tensor, np.moveaxis(kernels[part], -1, 0), np.zeros(heads), _varying,
            padded=True, merges=False, folds=False, holds=(
                Held(f"{weight}.kernel", 0, source), Held(f"{weight}.kernel", 1, tensor),
                Held(f"{weight}.bias", 0, tensor))))
    joined = call.more(heads)
    same = np.arange(heads)
    operations.append(Channelwise(tuple(tensors), joined, (same,) * len(parts),
                                  lambda values: np.full(heads, np.nan)))
    # The outputs' kernel is of (heads, numbers of a head, outputs).
    operations.append(Linear(
        joined, call.target, np.moveaxis(kernels["output"], 1, 0), np.zeros(call.shape[1]),
        _varying, padded=True, merges=False, folds=False, holds=(
            Held("_output_dense.kernel", 0, joined), call.outputs("_output_dense.kernel", 2),
            call.outputs("_output_dense.bias", 0))))
    return operations


def embedding(call: Call) -> Read:
    """An embedding: its channels are the columns of its table, of which each token reads a row."""
    table = call.kind.weight(call.layer, "embeddings")
    if table is None:
        return _ADAPTED
    rows = call.more(len(table))
    return (Opaque(call.sources, (rows,)),
            Linear(rows, call.target, table[None], np.zeros(table.shape[1]), _varying,
                   padded=True, merges=False, folds=False,
                   holds=(call.outputs("embeddings", 1),)))


def _plain(call: Call, kernel: "Array | None", padded: bool = False) -> Read:
    # A kernel whose last two axes are its inputs and outputs.
    if kernel is None:
        return _ADAPTED
    last = kernel.ndim - 1
    return Linear(call.sources[0], call.target, kernel.reshape(-1, *kernel.shape[-2:]),
                  call.bias(kernel.shape[-1]), call.activation(), padded, holds=(
                      call.inputs("kernel", last - 1), call.outputs("kernel", last),
                      call.outputs("bias", 0)))


def _grouped(call: Call, kernel: Array) -> Read:
    # An output reads the channels of its group only.  All groups have as many filters and inputs,
    # so that the first filters of all groups go together, and the second ones, and so on.
    groups, last = call.layer.groups, kernel.ndim - 1
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups
    whole = np.zeros((int(np.prod(kernel.shape[:-2])), groups * inputs, groups * outputs),
                     kernel.dtype)
    flat = kernel.reshape(-1, *kernel.shape[-2:])
    for group in range(groups):
        rows, columns = (slice(group * size, (group + 1) * size) for size in (inputs, outputs))
        whole[:, rows, columns] = flat[:, :, columns]
    linear = Linear(call.sources[0], call.target, whole, call.bias(kernel.shape[-1]),
                    call.activation(), reaches_beyond(call.layer), merges=False, folds=False,
                    holds=(call.inputs("kernel", last - 1, np.arange(inputs)),
                           call.outputs("kernel", last), call.outputs("bias", 0)))
    return (linear, _tied_groups(call.sources[0], groups, inputs),
            _tied_groups(call.target, groups, outputs))


def _tied_groups(tensor: int, groups: int, size: int) -> Tied:
    channels: Places = np.arange(groups * size)
    return Tied((tensor, tensor), (channels % size, channels))


def _by_gate(kernel: Array, gates: int) -> Array:
    # (inputs, gates x units) as (gates, inputs, units).
    return np.moveaxis(kernel.reshape(len(kernel), gates, -1), 1, 0)


def _varying(values: Floats) -> Floats:
    return np.full(values.shape, np.nan)
