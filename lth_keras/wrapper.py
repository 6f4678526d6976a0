"""The wrapper: tfmot's PruneLowMagnitude, masking out of place.

tfmot assigns weight <- weight * mask in the forward pass, so that between an
optimizer's step and the next forward pass pruned weights are not zero, and their
gradients are not either.  Here the wrapped layer is lent weight * mask for the time of
its call and the weight itself is left alone.  The gradient of a pruned weight is then
exactly zero, so a weight that is zero, with its optimizer's slots at zero, stays
exactly zero after every step of any optimizer.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

from lth_keras import prunable
from lth_keras.errors import LotteryError
from lth_keras.schedule import LotteryTicketSchedule
from lth_keras.weights import Slot, slots, Wrapper


@keras.utils.register_keras_serializable(package="lth_keras")
class MaskedLayer(Wrapper):
    """A layer whose pruned weights take no part in it, and get no gradient.

    `lth.prune_low_magnitude` makes these; wrap by hand only inside models of your own.

    Args:
      layer: the layer to prune.
      weights_pruned: paths of the weights to prune, such as ["kernel"]; by default those
        that `lth_keras.prunable` finds once the layer is built.

    Raises:
      LotteryError: when built, if the layer has no such weight.
    """

    def __init__(self, layer: Any, weights_pruned: Sequence[str] | None = None, **kwargs: Any):
        self._lend_prunable_protocol(layer)
        kwargs.setdefault("dtype", layer.dtype_policy)
        # tfmot's callbacks and summaries look for a schedule; this one never fires by itself.
        super().__init__(layer, LotteryTicketSchedule(rounds=0, steps_per_round=1), **kwargs)
        self.weights_pruned = None if weights_pruned is None else list(weights_pruned)
        self.supports_masking = layer.supports_masking

    @staticmethod
    def _lend_prunable_protocol(layer: Any) -> None:
        # tfmot refuses layers that it does not know, unless they have this method.
        if isinstance(layer, keras.layers.Layer) and not hasattr(layer, "get_prunable_weights"):
            layer.get_prunable_weights = list

    def build(self, input_shape: Any) -> None:
        keras.layers.Wrapper.build(self, input_shape)
        self.pruning_step = self.add_weight(
            "pruning_step", shape=[], dtype=tf.int64, trainable=False,
            initializer=keras.initializers.Constant(0))
        if self.layer.weights:  # Some layers make theirs in their first call only.
            self._make_masks()

    def _make_masks(self) -> None:
        if self.weights_pruned is None:
            chosen, reasons = prunable.weights_of(self.layer)
            if not chosen:
                raise LotteryError(f"Layer {self.layer.name!r} has no weight to prune: "
                                   f"{'; '.join(reasons) or 'it has no weights'}.")
            self.weights_pruned = [slot.path for slot in chosen]
        self.pruning_vars = [self._variables_for(slot) for slot in self._slots()]
        self.prunable_weights = [weight for weight, _, _ in self.pruning_vars]
        self.pruning_obj = pruning_impl.Pruning(
            training_step_fn=lambda: self.pruning_step, pruning_vars=self.pruning_vars,
            pruning_schedule=self.pruning_schedule, block_size=self.block_size,
            block_pooling_type=self.block_pooling_type)

    def _variables_for(self, slot: Slot) -> tuple[tf.Variable, tf.Variable, tf.Variable]:
        # Under mixed precision a weight reports the type it is cast to.
        dtype = getattr(slot.variable, "true_dtype", slot.variable.dtype)
        name = slot.path.replace("/", "_")
        options = {"dtype": dtype, "trainable": False,
                   "aggregation": tf.VariableAggregation.MEAN}
        mask = self.add_weight(f"{name}_mask", shape=slot.variable.shape,
                               initializer="ones", **options)
        threshold = self.add_weight(f"{name}_threshold", shape=[], initializer="zeros", **options)
        return slot.variable, mask, threshold

    def _slots(self) -> list[Slot]:
        known = {slot.path: slot for slot in slots(self.layer)}
        missing = [path for path in self.weights_pruned or () if path not in known]
        if missing:
            raise LotteryError(f"Layer {self.layer.name!r} must have the weights it is to prune. "
                               f"Received: {missing}; it has {sorted(known)}.")
        return [known[path] for path in self.weights_pruned or ()]

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # `training` reaches the layer through Keras' call context.
        kwargs.pop("training", None)
        if not self.layer._expects_mask_arg:
            kwargs.pop("mask", None)
        if not self.pruning_vars:
            self.layer(inputs, *args, **kwargs)
            self._make_masks()
        with self._lent():
            return self.layer(inputs, *args, **kwargs)

    @contextlib.contextmanager
    def _lent(self) -> Iterator[None]:
        lent = self._slots()
        try:
            for slot, (weight, mask, _) in zip(lent, self.pruning_vars, strict=True):
                value = weight * mask
                dtype = tf.as_dtype(slot.owner.compute_dtype or value.dtype)
                vars(slot.owner)[slot.attribute] = tf.cast(value, dtype)
            yield
        finally:
            for slot in lent:
                vars(slot.owner)[slot.attribute] = slot.variable

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, mask)

    def get_config(self) -> dict[str, Any]:
        return {**keras.layers.Wrapper.get_config(self), "weights_pruned": self.weights_pruned}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedLayer":
        config = dict(config)
        return cls(keras.layers.deserialize(config.pop("layer")), **config)
