"""Zero: how a pruned weight is masked, its gradient too, and held at zero after a step."""

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

# A mask is read as bools: XLA turns it into them once a loop and then reads a quarter of the
# bytes; and a selection, unlike a product, keeps zero what is not finite, with sign and all.

def masked(weight: tf.Tensor, mask: tf.Variable) -> tf.Tensor:
    """The weight, zero where it is pruned."""
    kept = _fixed[id(mask)] if id(mask) in _fixed else tf.cast(mask, tf.bool)
    return tf.where(kept, weight, tf.zeros((), weight.dtype))


_fixed: dict[int, tf.Tensor] = {}


@contextlib.contextmanager
def fixed_masks(masks: Iterable[tf.Variable]) -> Iterator[None]:
    """What is traced within reads each mask once, here, and not anew at every step of a loop."""
    _fixed.update((id(mask), tf.cast(mask, tf.bool)) for mask in masks)
    try:
        yield
    finally:
        _fixed.clear()


def gradient_masked(weight: tf.Tensor, mask: tf.Variable) -> tf.Tensor:
    """The weight as it is, with a gradient that is zero where it is pruned."""
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def lend(weight: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(weight), lambda gradient: masked(gradient, mask)
    return lend(weight)


class ZeroConstraint:
    """What holds a pruned weight at zero, whatever moved it: a constraint on the weight.

    Its gradient is zero already, but a constraint of the user's need not keep zero, an
    optimizer may add noise; and a constraint is what every Keras optimizer applies after its
    step.  The weight is shared with the model that was wrapped, so the mask holds only for
    steps whose forward pass went through the wrapper.
    """

    def __init__(self, weight: tf.Variable, mask: tf.Variable):
        before = weight.constraint
        self._own: Any = before._own if isinstance(before, ZeroConstraint) else before
        self.weight = weight
        self.mask = mask
        self._used_in: Any = None
        stored = getattr(weight, "_variable", weight) if hasattr(weight, "true_dtype") else weight
        stored._constraint = self

    def use(self) -> None:
        """Notes that the weight is used, masked, in the program being traced or run."""
        self._used_in = _program()

    def _in_use(self) -> bool:
        return self._used_in is not None and self._used_in() is _program()()

    def lend(self) -> tf.Tensor:
        """The weight; where it is used masked, with its gradient masked."""
        return gradient_masked(tf.convert_to_tensor(self.weight), self.mask) \
            if self._in_use() else self.weight

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        value = self._own(value) if self._own else value
        return masked(value, self.mask) if self._in_use() else value


def mask_penalties(layer: Any, keepers: Mapping[int, ZeroConstraint]) -> None:
    """Lends regularizers the weights as they are lent to the layer, with masked gradients.

    The gradients that an optimizer clips would else include those of pruned weights.

    Args:
      layer: the layer whose regularizers, and those of layers inside it, are meant.
      keepers: what keeps each weight's pruned places zero, by the weight's id.
    """
    for part in layer._flatten_layers():
        part._callable_losses = [_masked_penalty(loss, keepers) for loss in part._callable_losses]


def _masked_penalty(loss: Any, keepers: Mapping[int, ZeroConstraint]) -> Any:
    # Keras holds a regularizer's loss as partial(tag, partial(penalty, weight)).
    if not isinstance(loss, functools.partial) or not loss.args:
        return loss
    *before, last = loss.args
    if isinstance(last, functools.partial):
        return functools.partial(loss.func, *before, _masked_penalty(last, keepers))
    keeper = keepers.get(id(last.weight if isinstance(last, ZeroConstraint) else last))
    if keeper is None:
        return loss
    return functools.partial(_penalty, before[0] if loss.func is _penalty else loss.func, keeper)


def _penalty(penalty: Callable[[Any], tf.Tensor], keeper: ZeroConstraint) -> tf.Tensor:
    return penalty(keeper.lend())


def _program() -> Any:
    # The outermost graph, as a reference that does not keep it; all eager steps are one.
    graph: Any = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while getattr(getattr(graph, "outer_graph", None), "building_function", False):
        graph = graph.outer_graph
    return weakref.ref(_EAGER if graph is None else graph)


class _Eager:
    """Stands for eager execution where a graph would stand."""


_EAGER = _Eager()
