"""The pruning wrapper: a subclass of tfmot's PruneLowMagnitude that keeps pruned weights at zero.

tfmot assigns weight <- weight * mask in the forward pass.  After an optimizer step, pruned weights
are therefore not zero until the next forward pass (with Adam and a target of 90%, a checkpoint
taken there had 59% zeros), and their gradients count in clipping and momentum.

Here the attribute of the wrapped layer is replaced by the masked weight during its call, and the
weight itself is never assigned.  The gradient of a pruned weight is then exactly zero.  A weight
that is zero, with optimizer slots at zero, stays exactly zero after every step of any optimizer.

In training, the attribute is replaced by the weight itself with a masked gradient: pruned weights
are already zero, and writing a masked copy of every kernel would make a step a tenth slower.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow.python.eager import record
from tf_keras.src.engine import base_layer_utils

from lth_keras.core.structures.structure import check_fits
from lth_keras.core.structures.words import of_arguments
from lth_keras.errors import LotteryError
from lth_keras.keras2.inspection.pruners import refuse_update_pruning_step
from lth_keras.keras2.inspection.tfmot_parts import pruning_impl
from lth_keras.keras2.masking.layer_view import read_masked
from lth_keras.keras2.masking.masked_weights import (
    mask_penalties,
    MaskedVariable,
    unmask_penalties,
    ZeroConstraint,
)
from lth_keras.keras2.masking.schedule import LotteryTicketSchedule
from lth_keras.keras2.masking.weight_names import slots, TREE, Wrapper, wrappers
from lth_keras.search import layer_selection


@keras.utils.register_keras_serializable(package="lth_keras")
class MaskedLayer(Wrapper):
    """Wraps a layer so that its pruned weights have no effect and get no gradient.

    `lth.prune_low_magnitude` makes these; wrap layers by hand only inside models of your own.
    Attributes that the wrapper does not have, such as `units` or `kernel`, are read from the layer,
    and all but its weights are set on it; within a model's call, and where a tape records, pruned
    weights read as masked.

    Args:
      layer: the layer to prune.
      weights_pruned: paths of the weights to prune, such as ["kernel"], or path -> shape. Defaults
        to those that `search.layer_selection` finds when the layer is built.
      asked: whether to prune weights that are left out by default, such as embeddings.
      tied: paths of weights that are shared with another layer, whose wrapper holds the mask.
      block_size, block_pooling_type, sparsity_m_by_n: the structure to prune all its weights in, by
        tfmot's arguments; see `core.structures`.
      structure: the structure by its word instead, such as "2:4".

    Raises:
      LotteryError: when built, if the layer has no such weight.

    Example:
      >>> layer = MaskedLayer(keras.layers.Dense(3))
      >>> layer(tf.ones((1, 2))).shape, layer.units, list(layer.weights_pruned)
      (TensorShape([1, 3]), 3, ['kernel'])
    """

    __module__ = "lth_keras"  # In the files that Keras writes, wherever this module lies.

    def __init__(self, layer: Any, weights_pruned: "Iterable[str] | None" = None,
                 asked: bool = False, tied: Iterable[str] = (), *,
                 block_size: tuple[int, int] = (1, 1), block_pooling_type: str = "AVG",
                 sparsity_m_by_n: tuple[int, int] | None = None, structure: "str | None" = None,
                 **kwargs: Any):
        pruned_in = of_arguments(block_size, block_pooling_type, sparsity_m_by_n, structure)
        kwargs.setdefault("dtype", layer.dtype_policy)
        name = kwargs.pop("name", getattr(layer, "name", None))
        with _known_to_tfmot(layer):
            # tfmot's callbacks and summaries need a schedule; this one never prunes.
            super().__init__(layer, LotteryTicketSchedule(rounds=0, steps_per_round=1),
                             tuple(block_size), block_pooling_type, sparsity_m_by_n, **kwargs)
        # The layer's own, so that get_layer("encoder") still finds it; tfmot puts its own before
        # it.
        self._name = name
        self.structure = pruned_in
        self.asked = asked
        self.tied = list(tied)
        self.weights_pruned = None if weights_pruned is None else list(weights_pruned)
        self._shapes = dict(weights_pruned) if isinstance(weights_pruned, Mapping) else None
        self._masks: list[tuple[tf.Variable, tf.Variable]] = []
        self._constraints: dict[int, ZeroConstraint] = {}  # By the weight's id.
        self.linked = self._attached = self.has_pruner = False
        self.supports_masking = layer.supports_masking
        self.stateful = layer.stateful

    def build(self, input_shape: Any) -> None:
        keras.layers.Wrapper.build(self, input_shape)
        self.pruning_step = self.add_weight(
            "pruning_step", shape=[], dtype=tf.int64, trainable=False,
            initializer=keras.initializers.Constant(0))
        if _has_weights(self.layer):
            self._link()
        elif self._shapes:  # Some layers create their weights only in their first call.
            self._make_masks({path: (shape, self.variable_dtype)
                              for path, shape in self._shapes.items()})

    @property
    def pruning_step(self) -> Any:
        """tfmot's count of training steps; here it stays 0, and nothing goes by it."""
        refuse_update_pruning_step()
        if "pruning_step" not in vars(self):
            raise AttributeError("pruning_step")
        return vars(self)["pruning_step"]

    @pruning_step.setter
    def pruning_step(self, variable: Any) -> None:
        self.__dict__["pruning_step"] = variable

    def _link(self) -> None:
        # Finds the weights to prune, once the layer has them, and connects each with its mask.
        if self.weights_pruned is None:
            chosen, reasons = layer_selection.weights_of(self.layer, TREE, self.asked)
            if not chosen:
                raise LotteryError(f"Layer {self.layer.name!r} has no weight to prune: "
                                   f"{'; '.join(reasons) or 'it has no weights'}.")
            self.weights_pruned = [slot.path for slot in chosen]
        weights = self._weights_at(self.weights_pruned)
        check_fits(self.structure, {f"{self.layer.name}/{path}": tuple(weight.shape)
                                    for path, weight in weights.items()})
        if not self._masks:
            # Under mixed precision a weight's dtype is the type that it is cast to.
            self._make_masks({path: (weight.shape, getattr(weight, "true_dtype", weight.dtype))
                              for path, weight in weights.items()})
        self._shapes = {path: tuple(weight.shape) for path, weight in weights.items()}
        self.pruning_vars = [(weight, *masks) for weight, masks
                             in zip(weights.values(), self._masks, strict=True)]
        self.prunable_weights = list(weights.values())
        self.pruning_obj = pruning_impl.Pruning(  # For tfmot's summaries; it prunes nothing.
            training_step_fn=lambda: self.pruning_step, pruning_vars=self.pruning_vars,
            pruning_schedule=self.pruning_schedule, block_size=(1, 1), block_pooling_type="AVG")
        self._constraints = {id(weight): ZeroConstraint(weight, mask)
                         for weight, mask, _ in self.pruning_vars}
        self._attached = False
        self.attach()
        self.linked = True

    def _make_masks(self, weights: Mapping[str, tuple[Any, Any]]) -> None:
        # Variables like tfmot's own, so that its strip_pruning, summaries and files work on them.
        # MEAN lets a replica of a strategy assign a mask that all replicas have.
        for path, (shape, dtype) in weights.items():
            name = path.replace("/", "_")
            options = {"dtype": dtype, "trainable": False,
                       "aggregation": tf.VariableAggregation.MEAN}
            mask = self.add_weight(f"{name}_mask", shape=shape, initializer="ones", **options)
            threshold = self.add_weight(f"{name}_threshold", shape=[], initializer="zeros",
                                        **options)
            self._masks.append((mask, threshold))

    def _weights_at(self, paths: Iterable[str]) -> dict[str, tf.Variable]:
        known = {slot.path: slot.variable for slot in slots(self.layer)}
        missing = [path for path in paths if path not in known]
        if missing:
            raise LotteryError(f"Layer {self.layer.name!r} must have the weights it is to prune. "
                               f"Received: {missing}; it has {sorted(known)}.")
        return {path: known[path] for path in paths}

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        # In a model's call a wrapped Dense is a Dense: its code may ask, isinstance(layer, Dense).
        layer = vars(self).get("layer")
        inside = layer is not None and vars(self).get("linked") \
            and base_layer_utils.call_context().in_call
        return type(layer) if inside else type(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A layer's first argument need not be called inputs, and may be given by its name.
        first = self.layer._call_spec.arg_names[:1]
        if not args and first and first[0] in kwargs:
            args = (kwargs.pop(first[0]),)
        return super().__call__(*args, **kwargs)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Not passed on: Keras' call context tells the layer, which may not take the argument.
        training = kwargs.pop("training", None)
        if not self.layer._expects_mask_arg:
            kwargs.pop("mask", None)
        if not self.linked:
            self.layer(inputs, *args, **kwargs)
            self._link()
        with self._with_masked_weights(training):
            return self.layer(inputs, *args, **kwargs)

    @contextlib.contextmanager
    def _with_masked_weights(self, training: Any) -> Iterator[None]:
        # Attributes are replaced, and restored even if the call fails. All attributes that hold a
        # weight are, since some layers keep a second reference to it.
        constraints = self._all_constraints()
        self.attach()
        held = {(id(slot.owner), slot.attribute): (slot.owner, vars(slot.owner)[slot.attribute])
                for slot in slots(self.layer, aliases=True) if id(slot.variable) in constraints}
        for constraint in constraints.values():
            constraint.use()
        stand_ins = {weight: MaskedVariable(constraint.weight, constraint, training is True)
                for weight, constraint in constraints.items()}
        # Keras' own list of a layer's weights too, which its code may read: self.weights[0].
        lists = {id(owner): owner._trainable_weights for owner, _ in held.values()}
        try:
            for (_, attribute), (owner, value) in held.items():
                vars(owner)[attribute] = _replaced(value, stand_ins)
            for weights in lists.values():
                weights[:] = [stand_ins.get(id(weight), weight) for weight in weights]
            yield
        finally:
            for (_, attribute), (owner, value) in held.items():
                vars(owner)[attribute] = value
            for weights in lists.values():
                weights[:] = [weight._variable if isinstance(weight, MaskedVariable) else weight
                              for weight in weights]

    @contextlib.contextmanager
    def with_masked_weights(self) -> Iterator[None]:
        """A context in which the layer holds its weights as in a call that trains them."""
        with self._with_masked_weights(True):
            yield

    def attach(self) -> None:
        """Puts the wrapper's constraints on its weights; `detach` takes them off."""
        if not self._attached:
            for constraint in self._constraints.values():
                constraint.attach()
            mask_penalties(self.layer, self._constraints)
            self._attached = True

    def detach(self) -> None:
        """Leaves the layer as it was before it was wrapped, for a model without wrappers.

        A model that is wrapped and shares it attaches itself again when it is called.
        """
        for constraint in self._constraints.values():
            constraint.detach()
        unmask_penalties(self.layer)
        self._attached = False

    def _all_constraints(self) -> "dict[int, ZeroConstraint]":
        if len(self._constraints) < len(self.pruning_vars) + len(self.tied):
            for path, weight in self._weights_at(self.tied).items():
                if isinstance(weight.constraint, ZeroConstraint):
                    self._constraints[id(weight)] = weight.constraint
                elif not _building():  # While a graph is built, the other layer may come later.
                    raise LotteryError(
                        f"{path!r} of layer {self.layer.name!r} must be shared with another layer. "
                        "Received: a weight of its own, which Keras creates when it loads a layer "
                        "whose config does not store the sharing. Build the model by its code, "
                        "wrap it, and use load_weights or apply the ticket.")
        return self._constraints

    def __getattr__(self, name: str) -> Any:
        # Called only for attributes that the wrapper itself does not have.
        layer = vars(self).get("layer")
        if layer is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        context = base_layer_utils.call_context()
        # Outside a call, in a train_step, a gradient may be taken of what is read.
        if not (vars(self).get("linked") and (context.in_call or record.could_possibly_record())):
            return getattr(layer, name)
        return read_masked(layer, name, lambda: self._with_masked_weights(context.training))

    def __setattr__(self, name: str, value: Any) -> None:
        own = vars(self)
        if not own.get("linked") or name.startswith("_") or name in own \
                or hasattr(type(self), name) or not hasattr(own["layer"], name):
            super().__setattr__(name, value)
            return
        # What is read from the layer is set on it, or it would change nothing.
        if isinstance(getattr(own["layer"], name), tf.Variable):
            raise LotteryError("A wrapped layer keeps its weights, which have masks. Received: "
                               f"another {name!r} for layer {own['layer'].name!r}. Assign a value "
                               f"to the one it has: layer.{name}.assign(...).")
        setattr(own["layer"], name, value)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def reset_states(self) -> None:
        """Resets the wrapped layer, where it is a stateful one."""
        self.layer.reset_states()

    def get_config(self) -> dict[str, Any]:
        # Shapes let a loaded wrapper create its masks before the layer has created its weights.
        shapes = self._shapes and {path: list(shape) for path, shape in self._shapes.items()}
        return {**keras.layers.Wrapper.get_config(self),
                "weights_pruned": shapes or self.weights_pruned, "asked": self.asked,
                **({"tied": self.tied} if self.tied else {}), **self.structure.options}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedLayer":
        config = dict(config)
        layer = config.pop("layer")
        # In an .h5 file Keras names the user's own layers without their package.
        registered = keras.utils.get_registered_object(layer.get("registered_name"))
        known = {layer["class_name"]: registered} if registered else None
        return cls(keras.layers.deserialize(layer, custom_objects=known), **config)


# Keras looks the layers of a nested model up under this name.
keras.utils.get_custom_objects()["MaskedLayer"] = MaskedLayer


def _has_weights(layer: Any) -> bool:
    # Keras refuses to say of a layer within which a Sequential model is built by its first call.
    try:
        return bool(layer.weights)
    except ValueError:
        return False


class MaskedLoss:
    """A loss that the user added to a model by a function, which reads pruned weights masked.

    Args:
      loss: the function.
      model: the wrapped model.
    """

    def __init__(self, loss: Any, model: Any):
        self.loss, self._model = loss, model

    def __call__(self) -> Any:
        with contextlib.ExitStack() as stack:
            for wrapper in wrappers(self._model):
                if isinstance(wrapper, MaskedLayer) and wrapper.linked:
                    stack.enter_context(wrapper.with_masked_weights())
            return self.loss()


@contextlib.contextmanager
def _known_to_tfmot(layer: Any) -> Iterator[None]:
    # tfmot refuses layers that it does not know (EinsumDense, so MultiHeadAttention, and others),
    # unless they have this method.
    added = isinstance(layer, keras.layers.Layer) and not hasattr(layer, "get_prunable_weights")
    if added:
        layer.get_prunable_weights = list
    try:
        yield
    finally:
        if added:
            del layer.get_prunable_weights


def _replaced(value: Any, stand_ins: Mapping[int, MaskedVariable]) -> Any:
    # What an attribute holds, with what stands for each weight that has a mask.
    if isinstance(value, dict):
        return {key: _replaced(item, stand_ins) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(item, stand_ins) for item in value]
    return stand_ins.get(id(value), value)


def _building() -> bool:
    # Whether Keras is calling layers on symbolic tensors, to make a functional model.
    name = getattr(tf.compat.v1.get_default_graph(), "name", "")
    return not tf.executing_eagerly() and name.endswith("_scratch_graph")
