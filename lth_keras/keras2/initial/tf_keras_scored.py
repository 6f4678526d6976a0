"""A tf_keras model whose weights `lth.prune_at_init` scores."""

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from lth_keras.core.masks import Array, Arrays
from lth_keras.core.structures.single_weights import NONE
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.initial.linear_network import linear
from lth_keras.initial.scored_model import (
    along_gradient,
    at_temperature,
    check_compiled,
    check_dense,
    PathGradient,
    ScoredModel,
    softened,
    without_second,
)
from lth_keras.keras2 import loss_gradient, rewinding
from lth_keras.keras2.inspection.model_calls import undisturbed
from lth_keras.keras2.masking.weight_names import (
    check_keras2,
    masked,
    named_weights,
    TREE,
    wrappers,
)
from lth_keras.keras2.masking.wrap_weights import check_built
from lth_keras.search.layer_selection import Selection


class TfKerasScored(ScoredModel):
    """A tf_keras model, wrapped or not, as `initial.scored_model.ScoredModel`.

    Args:
      model: a built model.
      include, exclude, loss, temperature: as `lth.prune_at_init` takes them.
    """

    def __init__(self, model: Any, include: Any, exclude: Any, loss: Any, temperature: float):
        check_keras2(model)
        if not isinstance(model, keras.Model):
            raise LotteryError("A model of tf_keras is needed. Received: the layer "
                               f"{model.name!r}. Put it into a model.")
        check_built(model)
        self._model, self._loss, self._temperature = model, loss, temperature
        self._weights = _of_wrapped(model, include, exclude) if wrappers(model) \
            else selected(model, include, exclude)
        self.packages = provenance.TF_KERAS
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(variable.shape) for name, variable in self._weights.items()}

    def weights(self) -> dict[str, Array]:
        return rewinding.read(named_weights(self._model))

    def batches(self, data: Any) -> Iterable[Any]:
        batches: Iterable[Any] = loss_gradient.batches(data)
        return batches

    def flat(self, batch: Any) -> Iterable[Any]:
        arrays: list[Any] = tf.nest.flatten(batch)
        return arrays

    def gradient(self, batches: Iterable[Any]) -> dict[str, Array]:
        with undisturbed(self._model):
            return _Derivatives(self._model, self._weights, self._loss, 1.0).mean(batches)

    def hessian_gradient(self, batches: Iterable[Any]) -> dict[str, Array]:
        with undisturbed(self._model):
            found = _Derivatives(self._model, self._weights, self._loss, self._temperature)
            gradient = found.mean(batches)
            try:
                return along_gradient(gradient, lambda vector: found.along(vector).mean(batches))
            except Exception as error:
                raise without_second(error) from error

    def path_gradient(self) -> PathGradient:
        model, variables, inputs = linear(self._model, {
            id(variable): name for name, variable in self._weights.items()})

        @tf.function  # type: ignore[untyped-decorator]
        def gradient() -> dict[str, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch([*variables.values()])
                total = tf.add_n([tf.reduce_sum(tf.cast(output, tf.float64)) for output
                                  in tf.nest.flatten(model(given, training=False))])
            return {name: tf.convert_to_tensor(value) for name, value in tape.gradient(
                total, variables, unconnected_gradients="zero").items()}
        given = tf.nest.pack_sequence_as(model._nested_inputs, [
            tf.constant(value, spec.dtype) for value, spec
            in zip(inputs, tf.nest.flatten(model._nested_inputs), strict=True)])

        def of_sizes(sizes: Arrays) -> dict[str, Array]:
            for name, value in sizes.items():
                variables[name].assign(value)
            return {name: value.numpy() for name, value in gradient().items()}
        return of_sizes


def _of_wrapped(model: Any, include: Any, exclude: Any) -> dict[str, tf.Variable]:
    if _given(include) or _given(exclude):
        raise LotteryError("A wrapped model has been told what to prune, by "
                           "lth.prune_low_magnitude(model, include=, exclude=). Received: "
                           "include or exclude for a wrapped model. Leave them out.")
    found = masked(model)
    check_dense(model.name, rewinding.read_masks(model),
                ["" if item.structure == NONE else str(item.structure)
                 for item in found.values()])
    return {name: item.weight for name, item in found.items()}


def _given(selectors: Any) -> bool:
    return not (isinstance(selectors, (list, tuple)) and not selectors)


def selected(model: Any, include: Any, exclude: Any) -> dict[str, tf.Variable]:
    """The prunable weights of a model that is not wrapped, by name, in the order of the model.

    Raises:
      LotteryError: if there are none, or an entry matches no layer.
    """
    selection = Selection(TREE, include, exclude)
    chosen = selection.weights(model)
    selection.check_used(model)
    found = {name: variable for name, variable in named_weights(model).items()
             if id(variable) in chosen}
    if not found:
        raise LotteryError("Nothing in the model is prunable. Received:\n  "
                           + "\n  ".join(selection.reasons) + "\nOnly trained kernels of rank 2 "
                           "or more are pruned by default; include= adds layers.")
    return found


class _Derivatives(loss_gradient.LossGradient):
    """The gradient of a loss at a temperature; or, along a vector, its second derivatives."""

    def __init__(self, model: Any, weights: Mapping[str, tf.Variable], loss: Any,
                 temperature: float):
        super().__init__(model, weights)
        if loss is None:
            check_compiled(model.name, model._is_compiled)
        with model.distribute_strategy.scope():
            self._given = None if loss is None else keras.src.engine.compile_utils.LossesContainer(
                loss, output_names=model.output_names)
        self._used = self._used if loss is None else loss
        self._temperature = temperature
        self._vector: dict[str, tf.Tensor] | None = None

    def along(self, vector: Arrays) -> "_Derivatives":
        """Turns `mean` into the product of the mean second derivatives with a vector."""
        self._vector = {name: tf.constant(value, self._weights[name].dtype)
                        for name, value in vector.items()}
        self._of = self._of_batch if self._model.run_eagerly else \
            tf.function(self._of_batch, reduce_retracing=True)
        return self

    def _of_replica(self, x: Any, y: Any, sample_weight: Any,
                    scale: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as outer:
            outer.watch([*self._weights.values()])
            with tf.GradientTape() as inner:
                inner.watch([*self._weights.values()])
                loss = self._loss(x, y, sample_weight, scale)
            found = {name: tf.convert_to_tensor(value) for name, value
                     in inner.gradient(loss, self._weights).items() if value is not None}
            along = [] if self._vector is None else [
                tf.reduce_sum(value * self._vector[name]) for name, value in found.items()]
            total = tf.add_n(along) if along else None
        if total is None:
            return found
        second = outer.gradient(total, self._weights, unconnected_gradients="zero")
        return {name: tf.convert_to_tensor(second[name]) for name in found}

    def _loss(self, x: Any, y: Any, sample_weight: Any, scale: tf.Tensor) -> tf.Tensor:
        model = self._model
        outputs = model(x, training=False)
        if self._temperature != 1:
            outputs = at_temperature(outputs, self._used, model.output_names, self._soften)
        if self._given is None:
            loss = model.compute_loss(x, y, outputs, sample_weight)
        else:
            loss = self._given(y, outputs, sample_weight, regularization_losses=model.losses)
        return tf.zeros(()) if loss is None else tf.cast(loss, tf.float32) * scale

    def _soften(self, outputs: Any, loss: Any) -> Any:
        found = softened(loss, keras.losses)
        if found is None:
            return outputs
        made_by, logits = found
        outputs = tf.cast(outputs, tf.float32)
        if logits:
            return outputs / self._temperature
        inside = tf.maximum(outputs, 1e-30)
        if made_by == "softmax":
            return tf.nn.softmax(tf.math.log(inside) / self._temperature)
        odds = tf.math.log(inside) - tf.math.log(tf.maximum(1 - outputs, 1e-30))
        return tf.sigmoid(odds / self._temperature)
