"""The multiply-adds of attention: its products of activations; its kernels are its parts'.

Attention multiplies queries with keys, and the result with values.  Where all weights that make a
feature of a head are pruned, or all that read it, the feature is left out of the kept products.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lth_keras.core.masks import Array
from lth_keras.costs.layer_calls import LayerCall, Shape

KeptOf = Callable[[Any], Array]  # From a variable to which of its weights are kept, bool.


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel, and how often a call uses each of its weights.

    Attributes:
      variable: the kernel.
      uses: multiply-adds for each of its weights.
    """

    variable: Any
    uses: float


@dataclasses.dataclass(eq=False)
class Cost:
    """The multiply-adds of a call.

    Attributes:
      kernels: the kernels that it multiplies with.
      products: multiply-adds of two activations.
      kept_products: those of them that are left, from which weights are kept; None for all.
      notes: what there is to say about the count.
    """

    kernels: list[Kernel] = dataclasses.field(default_factory=list)
    products: int = 0
    kept_products: "Callable[[KeptOf], int] | None" = None
    notes: list[str] = dataclasses.field(default_factory=list)


def kernel(layer: Any, name: str = "kernel") -> Any:
    """The variable of a kernel: in Keras 3 `kernel` may be computed from it, as with LoRA."""
    private = getattr(layer, f"_{name}", None)
    return getattr(layer, name) if private is None else private


def multi_head(call: LayerCall, tree: Any) -> Cost:
    """The two products of a MultiHeadAttention, over as many axes as it attends over."""
    layer = call.layer
    query, value = call.arguments["query"], call.arguments["value"]
    axes = getattr(layer, "_attention_axes", None) or (1,)
    return _attention(layer, query, value, axes, layer._num_heads)


def grouped_query(call: LayerCall, tree: Any) -> Cost:
    """The two products of a GroupQueryAttention, whose heads share keys and values."""
    return _attention(call.layer, call.arguments["query"], call.arguments["value"], (1,),
                      call.layer.num_query_heads)


def _attention(layer: Any, query: Shape, value: Shape, axes: Sequence[int], heads: int) -> Cost:
    asked, read = (math.prod(shape[axis] for axis in axes) for shape in (query, value))
    beside = math.prod(query[:-1]) // asked  # The batch, and axes that are not attended over.
    scored, summed = (kernel(part).shape[-1] for part in (layer._key_dense, layer._value_dense))

    def kept(kept_of: KeptOf) -> int:
        def made(name: str) -> Array:  # Which features of each head: (heads, features).
            flags = np.any(kept_of(kernel(getattr(layer, f"_{name}_dense"))), axis=0)
            return np.repeat(flags, heads // len(flags), axis=0)
        read_by = kept_of(kernel(layer._output_dense))  # (heads, features, ...)
        wanted = np.any(read_by.reshape(*read_by.shape[:2], -1), axis=-1)
        scores = np.count_nonzero(np.logical_and(made("query"), made("key")))
        sums = np.count_nonzero(np.logical_and(made("value"), wanted))
        return beside * asked * read * int(scores + sums)
    return Cost(products=beside * asked * read * heads * (scored + summed), kept_products=kept)


def of_given(call: LayerCall, tree: Any) -> Cost:
    """The products of an Attention or AdditiveAttention: of queries and keys, scores and values.

    The scores of the latter are sums weighted by its scale, as many multiply-adds.
    """
    query, value, *key = call.inputs
    scored = (key[0] if key else value)[-1]
    return Cost(products=math.prod(query[:-1]) * value[-2] * (scored + value[-1]))
