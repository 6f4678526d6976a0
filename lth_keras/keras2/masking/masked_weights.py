"""Masked weights: pruned weights and their gradients are zero, also after an optimizer step.

Masks are applied as `tf.where` of bools, not as a product.  Inside a compiled loop XLA converts the
mask to bools once and then reads a quarter of the bytes; and a selection gives exactly +0.0 even
where the weight is negative, NaN or infinite.
"""

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from tf_keras.src.mixed_precision.autocast_variable import AutoCastVariable

from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import stored_in


def masked(weight: tf.Tensor, mask: tf.Variable) -> tf.Tensor:
    """Returns the weight with zeros in pruned places.

    Example:
      >>> masked(tf.constant([-2.0, 3.0]), tf.Variable([0.0, 1.0])).numpy()
      array([0., 3.], dtype=float32)
    """
    return tf.where(_kept(mask), weight, tf.zeros((), weight.dtype))


def _kept(mask: tf.Variable) -> tf.Tensor:
    # A tensor can only be used in the graph that it was made in, and in graphs nested in it.
    if _fixed:
        graphs = list(_graphs())
        for fixed in reversed(_fixed):
            if id(mask) in fixed.kept and any(fixed.graph is graph for graph in graphs):
                return fixed.kept[id(mask)]
    return tf.cast(mask, tf.bool)


@dataclasses.dataclass(eq=False)  # `_fixed.remove` must remove this object, not an equal one.
class _FixedMasks:
    """Masks as bools, by the mask's id, and the graph in which they were read."""

    graph: Any
    kept: dict[int, tf.Tensor]


# Shared by all threads, because a distribution strategy traces each replica in its own thread but
# in the same graph.  What is traced at the same time is told apart by its graph.
_fixed: list[_FixedMasks] = []


@contextlib.contextmanager
def fixed_masks(masks: Iterable[tf.Variable]) -> Iterator[None]:
    """A context in which each mask is read once, here, instead of at every step of a traced loop.

    It has an effect only on the graph that is being traced, so it may be nested and used by several
    threads.  It has none in eager execution, where masks may change before the context ends.

    Args:
      masks: the mask variables.
    """
    if tf.executing_eagerly():
        yield
        return
    fixed = _FixedMasks(tf.compat.v1.get_default_graph(),
                        {id(mask): tf.cast(mask, tf.bool) for mask in masks})
    _fixed.append(fixed)
    try:
        yield
    finally:
        _fixed.remove(fixed)


def _graphs() -> Iterator[Any]:
    """Yields the graph being traced, then those around it: loops and branches have their own."""
    graph: Any = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def gradient_masked(weight: tf.Tensor, mask: tf.Variable,
                    reached: Callable[[], None] = lambda: None) -> tf.Tensor:
    """Returns a weight unchanged, but with a gradient that is zero in pruned places.

    Args:
      weight: the weight's value.
      mask: 1 in kept places, 0 in pruned places.
      reached: called when a gradient reaches the weight: at every step in eager execution,
        otherwise when the backward pass is traced.

    Example:
      >>> weight, mask = tf.Variable([1.0, 2.0]), tf.Variable([0.0, 1.0])
      >>> with tf.GradientTape() as tape:
      ...     loss = tf.reduce_sum(gradient_masked(tf.convert_to_tensor(weight), mask) ** 2)
      >>> tape.gradient(loss, weight).numpy()
      array([0., 4.], dtype=float32)
    """
    def back(gradient: tf.Tensor) -> tf.Tensor:
        reached()
        return masked(gradient, mask)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def identity(weight: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(weight), back
    return identity(weight)


class MaskedVariable(AutoCastVariable):
    """Takes the place of a pruned weight during its layer's call; reading it gives masked values.

    It is a variable, so that the code of a layer may call a variable's methods on it.  It is masked
    when it is read, not before, so that functions with their own gradient (tf.recompute_grad,
    tf.custom_gradient) see the weight itself.  Only loops and branches in a graph get values that
    were masked before them; otherwise a loop would keep a mask for every iteration.

    Args:
      weight: the weight.
      constraint: the constraint of the weight, which has its mask.
      training: whether it is read for training.  It is then read unmasked, since pruned places are
        zero already, and its gradient is masked.
    """

    def __init__(self, weight: Any, constraint: "ZeroConstraint", training: bool):
        self._variable = weight  # Under mixed precision, a variable that casts itself when read.
        self._op = "delegate"
        self._masked_by, self._to_train = constraint, training
        if training and weight.trainable:
            constraint.read_to_train = True
        self._graph = next(_graphs(), None)
        self._before = None if self._graph is None else \
            self._masked(tf.convert_to_tensor(stored_in(weight)))

    @property
    def dtype(self) -> Any:
        return self._variable.dtype

    @property
    def _cast_dtype(self) -> Any:
        return self._variable.dtype

    def _should_cast(self) -> bool:
        return False

    def value(self) -> tf.Tensor:
        if next(_graphs(), None) is self._graph or self._before is None:
            return self._masked(self._variable.value())
        return tf.cast(self._before, self._variable.dtype)

    def read_value(self) -> tf.Tensor:
        return self.value()

    def sparse_read(self, indices: Any, name: str | None = None) -> tf.Tensor:
        return tf.gather(self.value(), indices, name=name)

    def gather_nd(self, indices: Any, name: str | None = None) -> tf.Tensor:
        return tf.gather_nd(self.value(), indices, name=name)

    def _dense_var_to_tensor(self, dtype: Any = None, name: str | None = None,
                             as_ref: bool = False) -> tf.Tensor:
        return tf.convert_to_tensor(self.value(), dtype, name=name)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        return self._dense_var_to_tensor(dtype, name)

    def _masked(self, value: tf.Tensor) -> tf.Tensor:
        if not self._to_train:
            return masked(value, self._masked_by.mask)
        return gradient_masked(value, self._masked_by.mask, self._masked_by.note_gradient)

    def _apply_assign_update(self, update_fn: Any, value: Any, use_locking: Any = None,
                             name: Any = None, read_value: bool = True) -> Any:
        # Called by assign and assign_add. A layer may write into its weight, but pruned places stay
        # zero.
        value = masked(tf.convert_to_tensor(value, self._variable.dtype), self._masked_by.mask)
        return super()._apply_assign_update(update_fn, value, use_locking, name, read_value)

    def _apply_update(self, update_fn: Any, *args: Any, **kwargs: Any) -> Any:
        raise LotteryError(
            "A layer must not scatter values into a weight that is pruned, since they need not be "
            f"zero there. Received: {update_fn.__name__} of {self._variable.name!r}. Assign the "
            "whole weight, or leave its layer dense with exclude=.")


tf.register_tensor_conversion_function(
    MaskedVariable, lambda value, dtype=None, name=None, as_ref=False:
    value._dense_var_to_tensor(dtype, name, as_ref))


class ZeroConstraint:
    """A weight constraint that sets pruned places to zero after every optimizer step.

    Their gradient is zero already, but a constraint of the user need not keep zeros, and an
    optimizer may add noise.  Constraints are applied by every Keras optimizer after its step.  The
    weight is shared with the model that was not wrapped; so the mask is applied only in steps whose
    forward pass went through the wrapper.

    Args:
      weight: the weight that gets this constraint.  The constraint that it had before is applied
        too, before the mask.
      mask: 1 in kept places, 0 in pruned places.

    Attributes:
      read_to_train: whether the weight was read in a call for training.
      has_gradient: whether a gradient has reached it since.
    """

    def __init__(self, weight: tf.Variable, mask: tf.Variable):
        before = weight.constraint
        self._own: Any = before._own if isinstance(before, ZeroConstraint) else before
        self.weight = weight
        self.mask = mask
        self.read_to_train = self.has_gradient = False
        self._used_in: Any = None
        self.attach()

    def attach(self) -> None:
        """Makes this the constraint of the weight."""
        stored_in(self.weight)._constraint = self

    def detach(self) -> None:
        """Restores the constraint that the weight had before."""
        if stored_in(self.weight)._constraint is self:
            stored_in(self.weight)._constraint = self._own

    def use(self) -> None:
        """Notes that the weight is used masked in the program that is being traced or run."""
        self._used_in = _program()

    def note_gradient(self) -> None:
        """Notes that a gradient has reached the weight."""
        self.has_gradient = True

    def _in_use(self) -> bool:
        # False in a training step of the model without wrappers, which shares the weight.
        return self._used_in is not None and self._used_in() is _program()()

    def read(self) -> tf.Tensor:
        """Reads the weight; its gradient is masked if the weight is used masked in this program."""
        return gradient_masked(tf.convert_to_tensor(self.weight), self.mask) \
            if self._in_use() else self.weight

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        value = self._own(value) if self._own else value
        return masked(value, self.mask) if self._in_use() else value


def own_constraint(weight: Any) -> Any:
    """The constraint that a weight has beside this package's, or None."""
    found = weight.constraint
    return found._own if isinstance(found, ZeroConstraint) else found


def mask_penalties(layer: Any, constraints: Mapping[int, ZeroConstraint]) -> None:
    """Masks the gradients of a layer's regularizers.  May be called again without further effect.

    Otherwise an optimizer that clips gradients by their norm would count those of pruned weights.

    Args:
      layer: the layer whose regularizers, and those of layers inside it, are replaced.
      constraints: the constraint of each pruned weight, by the weight's id.
    """
    for part in layer._flatten_layers():
        part._callable_losses = [_masked_penalty(loss, constraints) for loss
                                 in part._callable_losses]


def unmask_penalties(layer: Any) -> None:
    """Restores the regularizers that `mask_penalties` replaced."""
    for part in layer._flatten_layers():
        part._callable_losses = [_own_penalty(loss) for loss in part._callable_losses]


def _own_penalty(loss: Any) -> Any:
    if not isinstance(loss, functools.partial) or not loss.args:
        return loss
    if loss.func is _penalty:
        penalty, constraint = loss.args
        return functools.partial(penalty, constraint.weight)
    *before, last = loss.args
    return functools.partial(loss.func, *before, _own_penalty(last))


def _masked_penalty(loss: Any, constraints: Mapping[int, ZeroConstraint]) -> Any:
    # Keras stores a regularizer's loss as partial(tag, partial(penalty, weight)).
    if not isinstance(loss, functools.partial) or not loss.args:
        return loss
    *before, last = loss.args
    if isinstance(last, functools.partial):
        return functools.partial(loss.func, *before, _masked_penalty(last, constraints))
    constraint = constraints.get(id(last.weight if isinstance(last, ZeroConstraint) else last))
    if constraint is None:
        return loss
    return functools.partial(_penalty, before[0] if loss.func is _penalty else loss.func,
                             constraint)


def _penalty(penalty: Callable[[Any], tf.Tensor], constraint: ZeroConstraint) -> tf.Tensor:
    return penalty(constraint.read())


def _program() -> Any:
    # The graph of the outermost function, because the forward pass may be inside a branch or loop
    # with its own graph while the optimizer step is outside.  A weak reference, so that a graph
    # that is not used any more can be freed.  All eager steps count as one program.
    program: Any = _EAGER
    for graph in _graphs():
        if program is _EAGER or getattr(graph, "building_function", False):
            program = graph
    return weakref.ref(program)


class _Eager:
    """Takes the place of a graph in eager execution; weak references need an object of a class."""


_EAGER = _Eager()
