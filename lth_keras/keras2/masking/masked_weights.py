"""Masked weights: a pruned weight and its gradient are zero, and stay so after a step.

A mask is read as bools: XLA turns it into them once a loop and then reads a quarter of the
bytes; and a selection, unlike a product, keeps zero what is not finite, with sign and all.
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
    """The weight, zero where it is pruned."""
    return tf.where(_kept(mask), weight, tf.zeros((), weight.dtype))


def _kept(mask: tf.Variable) -> tf.Tensor:
    # A tensor can be used in the graph that it belongs to, and in those within that one.
    if _fixed:
        graphs = list(_graphs())
        for fixed in reversed(_fixed):
            if id(mask) in fixed.kept and any(fixed.graph is graph for graph in graphs):
                return fixed.kept[id(mask)]
    return tf.cast(mask, tf.bool)


@dataclasses.dataclass(eq=False)  # So that each takes away itself, not an equal one.
class _FixedMasks:
    """Masks as bools, by the mask's id, and the graph in which they were read."""

    graph: Any
    kept: dict[int, tf.Tensor]


# Of all threads: a distribution strategy traces a replica in a thread of its own, in the same
# graph.  Graphs tell apart what is traced at the same time.
_fixed: list[_FixedMasks] = []


@contextlib.contextmanager
def fixed_masks(masks: Iterable[tf.Variable]) -> Iterator[None]:
    """What is traced within reads each mask once, here, and not anew at every step of a loop.

    Only in the graph that is being traced, so it may be nested, and used by several threads.
    Nothing changes for what runs eagerly, which may outlive the values that masks have here.
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
    """The graph that is being traced, and those around it: loops and branches have their own."""
    graph: Any = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def gradient_masked(weight: tf.Tensor, mask: tf.Variable,
                    reached: Callable[[], None] = lambda: None) -> tf.Tensor:
    """The weight as it is, with a gradient that is zero where it is pruned.

    Args:
      weight: the weight's value.
      mask: 1 where it is kept.
      reached: called when a gradient reaches it: eagerly at every step, else as it is traced.
    """
    def back(gradient: tf.Tensor) -> tf.Tensor:
        reached()
        return masked(gradient, mask)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def lend(weight: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(weight), back
    return lend(weight)


class LentVariable(AutoCastVariable):
    """Stands for a pruned weight in its layer's call: whoever reads it reads it masked.

    It is a variable like the weight itself, so that code of a layer's own may call its methods, and
    it is masked where it is read and not before, so that a function of the layer's own with a
    gradient of its own (tf.recompute_grad, tf.custom_gradient) sees the weight.  Only a loop or a
    branch in a graph is given what was masked before it: a loop would keep the mask of every turn.

    Args:
      constraint: the constraint of the weight.
      training: whether it is read to be trained: then as it is, with its gradient masked.
    """

    def __init__(self, weight: Any, constraint: "ZeroConstraint", training: bool):
        self._variable = weight  # Which casts itself, where it is one of mixed precision.
        self._op = "delegate"
        self._lent_by, self._to_train = constraint, training
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
            return masked(value, self._lent_by.mask)
        return gradient_masked(value, self._lent_by.mask, self._lent_by.note_gradient)

    def _apply_assign_update(self, update_fn: Any, value: Any, use_locking: Any = None,
                             name: Any = None, read_value: bool = True) -> Any:
        # A layer that writes into its weight in its call leaves pruned places at zero.
        value = masked(tf.convert_to_tensor(value, self._variable.dtype), self._lent_by.mask)
        return super()._apply_assign_update(update_fn, value, use_locking, name, read_value)

    def _apply_update(self, update_fn: Any, *args: Any, **kwargs: Any) -> Any:
        raise LotteryError(
            "A layer must not scatter values into a weight that is pruned, since they need not be "
            f"zero there. Received: {update_fn.__name__} of {self._variable.name!r}. Assign the "
            "whole weight, or leave its layer dense with exclude=.")


tf.register_tensor_conversion_function(
    LentVariable, lambda value, dtype=None, name=None, as_ref=False:
    value._dense_var_to_tensor(dtype, name, as_ref))


class ZeroConstraint:
    """A constraint that sets a weight's pruned places to zero after every optimizer step.

    The gradient is zero there already, but a constraint of the user's need not keep zero, and an
    optimizer may add noise; a constraint is what every Keras optimizer applies after its step.
    The weight is shared with the model that was wrapped, so the mask applies only to steps whose
    forward pass went through the wrapper.

    Args:
      weight: gets this as its constraint, which calls the one that it had.
      mask: 1 where the weight is kept.

    Attributes:
      read_to_train: whether the weight was read in a call to train it.
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
        """Becomes the weight's constraint."""
        stored_in(self.weight)._constraint = self

    def detach(self) -> None:
        """Gives the weight the constraint back that it had."""
        if stored_in(self.weight)._constraint is self:
            stored_in(self.weight)._constraint = self._own

    def use(self) -> None:
        """Notes that the weight is used, masked, in the program being traced or run."""
        self._used_in = _program()

    def note_gradient(self) -> None:
        """Notes that a gradient reaches the weight."""
        self.has_gradient = True

    def _in_use(self) -> bool:
        # Not in a step of the model that shares the weight and was not wrapped.
        return self._used_in is not None and self._used_in() is _program()()

    def lend(self) -> tf.Tensor:
        """The weight; where it is used masked, with its gradient masked."""
        return gradient_masked(tf.convert_to_tensor(self.weight), self.mask) \
            if self._in_use() else self.weight

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        value = self._own(value) if self._own else value
        return masked(value, self.mask) if self._in_use() else value


def mask_penalties(layer: Any, constraints: Mapping[int, ZeroConstraint]) -> None:
    """Masks the gradients of a layer's regularizers too; done twice it is done once.

    An optimizer that clips gradients by their norm would count those of pruned weights otherwise.

    Args:
      layer: its regularizers, and those of layers inside it, are replaced.
      constraints: the constraint of each pruned weight, by the weight's id.
    """
    for part in layer._flatten_layers():
        part._callable_losses = [_masked_penalty(loss, constraints) for loss
                                 in part._callable_losses]


def unmask_penalties(layer: Any) -> None:
    """Gives a layer its regularizers back."""
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
    # Keras holds a regularizer's loss as partial(tag, partial(penalty, weight)).
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
    return penalty(constraint.lend())


def _program() -> Any:
    # The outermost function's graph, as a reference that does not keep it alive: the forward pass
    # may lie in a branch or loop of its own.  All eager steps are one program.
    program: Any = _EAGER
    for graph in _graphs():
        if program is _EAGER or getattr(graph, "building_function", False):
            program = graph
    return weakref.ref(program)


class _Eager:
    """Stands for eager execution where a graph would stand."""


_EAGER = _Eager()
