"""The multiply-adds of a layer's call: which of its kernels is used how often.

As in the literature, only products are counted: of dense layers, convolutions, recurrent layers and
attention.  Biases, activations, normalisation, pooling, interpolation and look-ups in an Embedding
count as none.  A kernel's multiply-adds are its weights, times the positions that each of them is
used at, so that those of the kept weights follow from its mask.

To add a type of layer, write a rule, which is a function from a `LayerCall` and the layers and
weights of its Keras to a `Cost`, and add it to RULES.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from lth_keras.costs import attention_costs, products
from lth_keras.costs.attention_costs import Cost, Kernel, kernel
from lth_keras.costs.layer_calls import kinds, LayerCall, OWN, Shape
from lth_keras.costs.products import Product
from lth_keras.search.layer_selection import NOT_KERNELS
from lth_keras.search.layer_tree import LayerTree, Slot

Rule = Callable[[LayerCall, LayerTree], Cost]

# Layers of Keras that have weights of two axes or more, none of which is multiplied with: tables,
# slopes, statistics.
_NO_PRODUCTS = frozenset({
    "Embedding", "PReLU", "Discretization", "Normalization", "BatchNormalization",
    "LayerNormalization", "GroupNormalization", "RMSNormalization", "SpectralNormalization"})
_OWN_CELLS = frozenset({"LSTMCell", "GRUCell", "SimpleRNNCell"})


def of_call(call: LayerCall, tree: LayerTree) -> Cost:
    """The multiply-adds of one call.

    Args:
      call: the call, all of whose shapes are known.
      tree: the layers and weights of its Keras.

    Example:
      >>> import keras
      >>> from lth_keras.keras3.weights import TREE
      >>> conv = keras.layers.Conv2D(8, 3)
      >>> conv.build((None, 6, 6, 2))
      >>> call = LayerCall(conv, conv, inputs=((1, 6, 6, 2),), outputs=((1, 4, 4, 8),))
      >>> [(tuple(each.variable.shape), each.uses) for each in of_call(call, TREE).kernels]
      [((3, 3, 2, 8), 16)]
    """
    names = kinds(call.layer)
    found = next((name for name in names if name in RULES), None)
    if found is None:
        return Cost() if _NO_PRODUCTS & {*names} else _of_unknown(call, tree)
    cost = RULES[found](call, tree)
    if type(call.layer).call.__module__.partition(".")[0] not in OWN:
        cost.notes.append(f"is a {type(call.layer).__name__} with a call() of its own, counted as "
                          f"the {found} that it derives from")
    return cost


def _of_unknown(call: LayerCall, tree: LayerTree) -> Cost:
    # What its code was seen to multiply, and those of its own weights that it was not.
    layer, cost = call.layer, Cost()
    for product in call.products:
        _add(product, cost)
    seen = {id(each.variable) for each in cost.kernels}
    own = [slot.variable for slot in _kernels(layer, tree)
           if slot.owner is layer and id(slot.variable) not in seen]
    if own:
        shape = call.outputs[0] if call.outputs and call.outputs[0] else (1,)
        positions = math.prod(shape[:-1])
        cost.kernels += [Kernel(variable, positions) for variable in own]
        cost.notes.append(f"is a {type(layer).__name__}, which is not known here: its weights are "
                          f"counted once for each of the {positions:,} positions of its output")
    return cost


def _add(product: Product, cost: Cost) -> None:
    variable = next((operand for operand in product.operands if hasattr(operand, "assign")), None)
    if variable is None:
        cost.products += product.macs
    else:
        cost.kernels.append(Kernel(variable, product.macs / math.prod(variable.shape)))


def _kernels(layer: Any, tree: LayerTree) -> Iterator[Slot]:
    return (slot for slot in tree.slots(layer) if len(slot.variable.shape) > 1
            and slot.attribute.lstrip("_") not in NOT_KERNELS)


def _dense(call: LayerCall, tree: LayerTree) -> Cost:
    variable = kernel(call.layer)
    return Cost([Kernel(variable, math.prod(call.inputs[0]) // variable.shape[0])])


def _einsum(call: LayerCall, tree: LayerTree) -> Cost:
    # A weight is used once for each place of the axes that the input has and the kernel has not.
    layer = call.layer
    variable = kernel(layer)
    inputs, _, rest = layer.equation.replace(" ", "").partition(",")
    labels = rest.partition("->")[0]
    shared = [size for label, size in zip(labels, variable.shape, strict=True) if label in inputs]
    return Cost([Kernel(variable, math.prod(call.inputs[0]) // math.prod(shared))])


def _convolution(call: LayerCall, tree: LayerTree) -> Cost:
    return Cost([Kernel(kernel(call.layer), math.prod(call.outputs[0]) // call.layer.filters)])


def _transposed(call: LayerCall, tree: LayerTree) -> Cost:
    # Every input is multiplied with the whole kernel.
    variable = kernel(call.layer)
    return Cost([Kernel(variable, math.prod(call.inputs[0]) // variable.shape[-1])])


def _depthwise(call: LayerCall, tree: LayerTree) -> Cost:
    layer = call.layer
    name = "depthwise_kernel" if getattr(layer, "depthwise_kernel", None) is not None else "kernel"
    variable = kernel(layer, name)
    channels, multiplier = variable.shape[-2:]
    return Cost([Kernel(variable, math.prod(call.outputs[0]) // (channels * multiplier))])


def _separable(call: LayerCall, tree: LayerTree) -> Cost:
    positions = math.prod(call.outputs[0]) // call.layer.filters
    return Cost([Kernel(kernel(call.layer, name), positions)
                 for name in ("depthwise_kernel", "pointwise_kernel")])


def _locally_connected(call: LayerCall, tree: LayerTree) -> Cost:
    # A kernel for each position; implementation 2 holds zeros between them, in a larger array.
    layer, variable = call.layer, kernel(call.layer)
    channels = call.inputs[0][1 if layer.data_format == "channels_first" else -1]
    macs = math.prod(call.outputs[0]) * math.prod(layer.kernel_size) * channels
    return Cost([Kernel(variable, macs / math.prod(variable.shape))])


def _recurrent(call: LayerCall, tree: LayerTree) -> Cost:
    # Each kernel of the cell once a step; what a cell of one's own does with it is not known.
    steps = math.prod(call.inputs[0][:2])
    slots = list(_kernels(call.layer.cell, tree))
    strange = sorted({type(slot.owner).__name__ for slot in slots
                      if not _OWN_CELLS & {*kinds(slot.owner)}})
    return Cost([Kernel(slot.variable, steps) for slot in slots], notes=[
        f"has a {' and a '.join(strange)} in its cell, which is not known here: its weights are "
        "counted once a step"] if strange else [])


def _recurrent_convolution(call: LayerCall, tree: LayerTree) -> Cost:
    layer, steps = call.layer, call.inputs[0][1]
    positions = math.prod(call.outputs[0]) // layer.cell.filters
    uses = positions if layer.return_sequences else positions * steps
    return Cost([Kernel(kernel(layer.cell, name), uses)
                 for name in ("kernel", "recurrent_kernel")])


def _reversible_embedding(call: LayerCall, tree: LayerTree) -> Cost:
    if not call.arguments.get("reverse"):
        return Cost()
    name = "embeddings" if call.layer.tie_weights else "reverse_embeddings"
    return Cost([Kernel(kernel(call.layer, name),
                        math.prod(call.inputs[0][:-1]))])


def _operation(call: LayerCall, tree: LayerTree) -> Cost:
    # Of tf_keras, a function of TensorFlow in a graph; of Keras 3, an operation.
    layer, given = call.layer, call.arguments
    name = (getattr(layer, "symbol", None) or type(layer).__name__).rpartition(".")[2].lower()
    if name not in products.NAMES:
        return Cost(notes=[f"is {name}, whose multiply-adds are not counted"] if "conv" in name
                    else [])
    equation = getattr(layer, "subscripts", None) or next(
        (value for value in given.values() if isinstance(value, str)), "")
    shapes = tuple(_shapes(list(given.values())))
    cost = Cost()
    _add(Product(name, (), shapes, call.outputs[0], equation, bool(given.get("transpose_a"))), cost)
    return cost


def _shapes(value: Any) -> Iterator[Shape]:
    if isinstance(value, tuple) and value:
        yield value
    for part in value if isinstance(value, list) else ():
        yield from _shapes(part)


def _dot(call: LayerCall, tree: LayerTree) -> Cost:
    if not hasattr(call.layer, "axes"):
        return _operation(call, tree)  # The operation, not the layer.
    axes = call.layer.axes
    summed = call.inputs[0][axes if isinstance(axes, int) else axes[0]]
    return Cost(products=math.prod(call.outputs[0]) * summed)


RULES: dict[str, Rule] = {
    "Dense": _dense, "EinsumDense": _einsum,
    **{f"Conv{rank}D": _convolution for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable for rank in (1, 2)},
    **{f"LocallyConnected{rank}D": _locally_connected for rank in (1, 2)},
    "RNN": _recurrent, **{f"ConvLSTM{rank}D": _recurrent_convolution for rank in (1, 2, 3)},
    "MultiHeadAttention": attention_costs.multi_head,
    "GroupedQueryAttention": attention_costs.grouped_query,
    "Attention": attention_costs.of_given, "AdditiveAttention": attention_costs.of_given,
    "ReversibleEmbedding": _reversible_embedding, "Dot": _dot,
    **dict.fromkeys(("TFOpLambda", "Matmul", "Einsum", "Tensordot", "Conv", "ConvTranspose",
                     "DepthwiseConv", "SeparableConv"), _operation)}
# Operations in a graph of Keras 3 that are no layers, and may multiply.
OPERATIONS = frozenset({"Matmul", "Einsum", "Tensordot", "Dot", "Conv", "ConvTranspose",
                        "DepthwiseConv", "SeparableConv"})
