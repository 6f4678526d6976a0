"""The linear network that SynFlow scores: a model of the sizes of weights, without data.

SynFlow (Tanaka et al. 2020, arXiv:2006.05467) sums, over all paths from an input to an output, the
product of the sizes of a path's weights.  That is the sum of the outputs, for an input of ones, of
a network with |w| in the place of each weight w in which all else is the identity.  So this module
builds a model again

- in float64, since the sum of a deep network is beyond float32;
- with the sizes of its kernels, pruned or not;
- without biases, activations, dropout and normalisations.  ReLU is the identity for numbers that
  are not negative, and a new batch normalization nearly is.  Trained statistics, scales, shifts and
  biases do not count: they are no part of a path from an input;
- without what is added, subtracted, multiplied and compared with numbers, as in x / 127.5 - 1, and
  without negation and clipping; an array that a layer is multiplied with counts by its sizes.

Poolings, paddings, reshapes and sums of layers stay as they are.  Differences and products of
layers count as sums: every path counts once, also one through a gate, such as that of
squeeze-and-excitation.  (As a product, R would grow doubly exponentially with the depth.)  A layer
of another kind, or of the user's own, computes with the sizes of its weights.
"""

import dataclasses
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lth_keras.errors import LotteryError
from lth_keras.graph import model_graph
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.layer_kind import LayerKind, Node
from lth_keras.graph.rebuild import Part, rebuilt

# Layers whose outputs are products of their inputs and kernels.
_LINEAR = frozenset({"Dense", "EinsumDense", "Embedding", *(
    f"{name}{rank}D" for rank in (1, 2, 3)
    for name in ("Conv", "DepthwiseConv", "SeparableConv", "LocallyConnected")), *(
    f"Conv{rank}DTranspose" for rank in (1, 2, 3))})
_SUMS = frozenset({"Subtract", "Multiply", "ops.Subtract", "ops.Multiply"})
_WITH_ONE = frozenset({*(f"ops.{name}" for name in (
    "Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Maximum", "Minimum"))})
_PRODUCTS = frozenset({"ops.Multiply", "ops.TrueDivide", "ops.Divide"})
_MEAN = "GlobalAveragePooling"
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
_IDENTITIES = frozenset({
    "Masking",
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "ThresholdedReLU", "Softmax",
    "ActivityRegularization", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
    "BatchNormalization", "SyncBatchNormalization", "LayerNormalization", "GroupNormalization",
    "RMSNormalization", "UnitNormalization", "Normalization", "Rescaling",
    *(f"ops.{name}" for name in (
        "Relu", "Relu6", "LeakyRelu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Elu", "Selu",
        "Gelu", "Silu", "HardSigmoid", "HardSilu", "HardTanh", "Softmax", "LogSoftmax", "Celu",
        "Exp", "Squareplus", "LogSigmoid", "SoftShrink", "HardShrink", "TanhShrink", "SparsePlus",
        "SparseSigmoid", "Negative", "Clip", "BiasAdd"))})


def linear(model: Any, names: Mapping[int, str]) -> tuple[Any, dict[str, Any], list[Any]]:
    """Builds the linear network of a model.

    Args:
      model: a built Sequential or functional model; it is not changed.
      names: the id of each prunable weight of the model -> its name.

    Returns:
      The linear network, in inference; the variable of each prunable weight in it, by name; and
      its inputs, arrays of ones of one example.

    Raises:
      LotteryError: if the model is no graph of layers, an input has no fixed shape, or a layer
        with prunable weights is not linear in them.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([
      ...     keras.layers.Input((2,)), keras.layers.Dense(3, "tanh", name="fc"),
      ...     keras.layers.BatchNormalization(), keras.layers.Softmax()])
      >>> new, variables, inputs = linear(model, {id(model.layers[0].kernel): "fc/kernel"})
      >>> sizes = np.abs(model.layers[0].kernel.numpy().astype(np.float64))
      >>> bool(np.allclose(new(inputs[0]), sizes.sum(axis=0))), variables["fc/kernel"].dtype.name
      (True, 'float64')
    """
    kind = kind_of(model)
    if not getattr(model, "built", False) or not kind.is_graph(model) or kind.has_own_call(model):
        raise LotteryError(
            "SynFlow builds a linear network of the model's layers, so it needs a Sequential or "
            f"functional model that is built. Received: {model.name!r} of "
            f"{type(model).__qualname__}. Use another method, such as \"snip\".")
    graph = model_graph.read(model)
    graph = dataclasses.replace(graph, nodes=[_called(kind, node) for node in graph.nodes])
    drawn = random.getstate()  # Keras draws the seeds of a new layer.
    try:
        made: dict[int, Part] = {}
        for node in graph.nodes:
            once = sum(other.layer is node.layer for other in graph.nodes) == 1
            if node.is_input:
                made[id(node.layer)] = Part(_input(kind, node, [
                    other for other in graph.nodes if any(
                        graph.places[id(tensor)] == graph.places[id(node.outputs[0])]
                        for tensor in other.inputs)]))
            made.setdefault(id(node.layer), _part(kind, node, once))
        new = rebuilt(model, graph, [made[id(node.layer)] for node in graph.nodes])
    finally:
        random.setstate(drawn)
    variables: dict[str, Any] = {}
    for node in graph.nodes:
        if kind.known_as(node.layer) not in _LINEAR:
            _copy_sizes(kind, node.layer, made[id(node.layer)].layer)
            continue
        for kernel in _KERNELS:
            old = kind.variable(node.layer, kernel)
            if old is not None:
                variable = kind.variable(made[id(node.layer)].layer, kernel)
                kind.assign(variable, np.abs(kind.array(old).astype(np.float64)))
                if id(old) in names:
                    variables[names[id(old)]] = variable
    _check_reached(model, names, variables)
    inputs = [_ones(node) for node in graph.nodes if node.is_input]
    return new, variables, inputs


def _called(kind: LayerKind, node: Node) -> Node:
    # What takes the place of a layer takes no mask or mode.
    name = kind.known_as(node.layer)
    if _is_identity(name, node) or name.startswith(_MEAN):
        return dataclasses.replace(node, args=(node.inputs[0],), kwargs={})
    if _is_sum(name, node):
        return dataclasses.replace(node, args=(list(node.inputs),), kwargs={})
    if _is_of_one(name, node):
        def size(value: Any) -> Any:
            plain = value is None or isinstance(value, str) or value is node.inputs[0]
            return value if plain else np.abs(_array(kind, value))
        return dataclasses.replace(node, args=tuple(map(size, node.args)), kwargs={
            key: size(value) for key, value in node.kwargs.items()})
    return node


def _is_sum(name: str, node: Node) -> bool:
    return name in _SUMS and len(node.inputs) > 1


def _is_of_one(name: str, node: Node) -> bool:
    # Whether an operation on two is on a tensor and a constant.
    return name in _WITH_ONE and len(node.inputs) == 1


def _is_identity(name: str, node: Node) -> bool:
    if name == "ops.Cast":
        return "float" in str(node.outputs[0].dtype)
    if not _is_of_one(name, node):
        return name in _IDENTITIES
    first = next(iter((*node.args, *node.kwargs.values()))) is node.inputs[0]
    constants = [value for value in (*node.args, *node.kwargs.values())
                 if value is not node.inputs[0] and not isinstance(value, (str, type(None)))]
    if name in _PRODUCTS and (first or name == "ops.Multiply") and any(map(np.ndim, constants)):
        return False
    if tuple(node.outputs[0].shape) != tuple(node.inputs[0].shape):
        raise LotteryError(
            "SynFlow leaves out what is added to a layer, if that makes it no larger. Received: "
            f"{name.removeprefix('ops.')} of a constant and a tensor of shape "
            f"{tuple(node.inputs[0].shape)} that makes {tuple(node.outputs[0].shape)}. Repeat the "
            'tensor before, or use another method, such as "snip".')
    return True


def _array(kind: LayerKind, value: Any) -> Any:
    plain = isinstance(value, (int, float, list, tuple, np.ndarray, np.generic))
    return np.asarray(value if plain else kind.array(value), np.float64)


def _copy_sizes(kind: LayerKind, old: Any, new: Any) -> None:
    # Of a layer that is not known to be linear, but stays what it is: all that it computes with.
    if new is old or type(new) is not type(old):
        return
    for variable, made in zip(getattr(old, "weights", ()), getattr(new, "weights", ()),
                              strict=True):
        value = kind.array(variable)
        if value.dtype.kind in "fV":  # V is bfloat16.
            kind.assign(made, np.abs(value.astype(np.float64)))


def _part(kind: LayerKind, node: Node, once: bool) -> Part:
    name, layer = kind.known_as(node.layer), node.layer
    if name.startswith(_MEAN) and once:
        # On JAX, Keras takes means in float32; an average pooling of all places is in float64.
        shape, made = tuple(node.inputs[0].shape)[1:], tuple(node.outputs[0].shape)[1:]
        if None not in shape and layer.data_format == "channels_last":
            pooling = getattr(kind.keras.layers, name.removeprefix("Global"))
            return Part(kind.keras.layers.Reshape(made, dtype="float64", name=layer.name), before=
                        pooling(shape[:-1], dtype="float64", name=f"{layer.name}_of_places"))
    return Part(_layer(kind, node))


def _input(kind: LayerKind, node: Node, readers: Iterable[Node]) -> Any:
    # Of float64 too, unless whole numbers are looked up, or read by something unknown.
    config, layer = node.layer.get_config(), node.layer
    known = all(_is_identity(name := kind.known_as(reader.layer), reader) or name in _LINEAR
                or _is_sum(name, reader) for reader in readers)
    dtype = np.dtype(getattr(node.outputs[0].dtype, "name", node.outputs[0].dtype))
    floating = dtype.kind in "fV" or (dtype.kind in "iub" and known)
    return type(layer).from_config({**config, **({"dtype": "float64"} if floating else {})})


def _layer(kind: LayerKind, node: Node) -> Any:
    # What takes the place of a layer; it draws nothing.
    layer, name = node.layer, kind.known_as(node.layer)
    if _is_sum(name, node):
        return kind.keras.layers.Add(dtype="float64", name=layer.name)
    if _is_identity(name, node):
        return kind.keras.layers.Activation("linear", dtype="float64", name=layer.name)
    if name.startswith("ops.") or not isinstance(layer, kind.keras.layers.Layer):
        return layer  # An operation.
    config = kind.config(layer)
    changes: dict[str, Any] = {key: "zeros" for key in config if key.endswith("_initializer")}
    changes |= {key: None for key in config if key.endswith(("_regularizer", "_constraint"))}
    if name in _LINEAR:
        changes |= {"activation": "linear", "use_bias": False, "bias_axes": None,
                    "mask_zero": False}
    changes = {key: value for key, value in changes.items() if key in config}
    if "int" not in str(config.get("dtype")):  # A lookup makes whole numbers.
        changes["dtype"] = "float64"
    return type(layer).from_config({**config, **changes})


def _ones(node: Node) -> Any:
    shape = tuple(node.outputs[0].shape)[1:]
    if None in shape:
        raise LotteryError("SynFlow needs inputs of a fixed shape. Received: the input "
                           f"{node.layer.name!r} of shape {shape}. Build the model with the shape "
                           "of an example, and give it the weights of this one.")
    return np.ones((1, *shape))


def _check_reached(model: Any, names: Mapping[int, str], variables: Mapping[str, Any]) -> None:
    missing = [name for name in names.values() if name not in variables]
    if missing:
        raise LotteryError(
            "SynFlow scores the kernels of dense layers, convolutions and embeddings. Received: "
            f"{', '.join(missing[:3])} of {model.name!r}, which is in another kind of layer, or in "
            "a model that is called more than once. Leave it dense by exclude=, or use another "
            'method, such as "snip".')
