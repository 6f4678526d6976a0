"""A Keras 3 model whose weights `lth.prune_at_init` scores."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array, Arrays
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
from lth_keras.keras3 import loss_gradient
from lth_keras.keras3.gradient_masks import masks_of
from lth_keras.keras3.initial.second_derivatives import in_float64, product_of
from lth_keras.keras3.model_masks import ModelMasks
from lth_keras.keras3.weights import check_keras3, named_weights, prunable_weights


class Keras3Scored(ScoredModel):
    """A Keras 3 model, on any backend, as `initial.scored_model.ScoredModel`.

    Args:
      model: a built model.
      include, exclude, loss, temperature: as `lth.prune_at_init` takes them.
    """

    def __init__(self, model: Any, include: Any, exclude: Any, loss: Any, temperature: float):
        check_keras3(model)
        if not model.built or not model.weights:
            raise LotteryError("A model must be built before its weights are scored. Received: "
                               f"{model.name!r}, which has no weights yet. Start it with "
                               "keras.Input(shape), or call it on one batch.")
        self._model, self._loss, self._temperature = model, loss, temperature
        self._variables = named_weights(model)
        masks = ModelMasks.of(model)
        check_dense(model.name, masks_of(self._variables), [(masks and masks.structure) or ""])
        self._weights = {name: self._variables[name]
                         for name in prunable_weights(model, include, exclude)}
        self.packages = provenance.KERAS.get(keras.backend.backend(), ("keras",))
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: tuple(variable.shape) for name, variable in self._weights.items()}

    def weights(self) -> dict[str, Array]:
        if hasattr(self._model, "jax_state_sync"):
            self._model.jax_state_sync()
        return {name: np.array(keras.ops.convert_to_numpy(variable.value))
                for name, variable in self._variables.items()}

    def batches(self, data: Any) -> Iterable[Any]:
        batches: Iterable[Any] = loss_gradient.scoring_batches(data)
        return batches

    def flat(self, batch: Any) -> Iterable[Any]:
        return [keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value
                for value in keras.tree.flatten(batch)]

    def gradient(self, batches: Iterable[Any]) -> dict[str, Array]:
        return _Derivatives(self._model, self._weights, self._loss, 1.0).mean(batches)

    def hessian_gradient(self, batches: Iterable[Any]) -> dict[str, Array]:
        found = _Derivatives(self._model, self._weights, self._loss, self._temperature)
        gradient = found.mean(batches)
        try:
            return along_gradient(gradient, lambda vector: found.along(vector).mean(batches))
        except Exception as error:
            raise without_second(error) from error

    def path_gradient(self) -> PathGradient:
        with in_float64():
            model, variables, inputs = linear(self._model, {
                id(variable): name for name, variable in self._weights.items()})
            given = keras.tree.pack_sequence_as(
                model._inputs_struct if not isinstance(model, keras.Sequential)
                else model._functional._inputs_struct, inputs)

        def total(weights: list[Any], others: list[Any]) -> Any:
            with keras.StatelessScope([*zip(variables.values(), weights, strict=True)]):
                outputs = keras.tree.flatten(model(given, training=False))
            return sum(keras.ops.sum(keras.ops.cast(output, "float64")) for output in outputs)
        gradient = loss_gradient.gradient_of(total)

        def of_sizes(sizes: Arrays) -> dict[str, Array]:
            with in_float64():
                found = gradient([keras.ops.convert_to_tensor(sizes[name], "float64")
                                  for name in variables], [])
                return {name: np.zeros(sizes[name].shape) if value is None
                        else keras.ops.convert_to_numpy(value)
                        for name, value in zip(variables, found, strict=True)}
        return of_sizes


class _Derivatives(loss_gradient.LossGradient):
    """The gradient of a loss at a temperature; or, along a vector, its second derivatives."""

    def __init__(self, model: Any, weights: Mapping[str, Any], loss: Any, temperature: float):
        super().__init__(model, weights)
        if loss is None:
            check_compiled(model.name, model.compiled)
        self._given = None if loss is None else keras.src.trainers.compile_utils.CompileLoss(
            loss, output_names=getattr(model, "output_names", None))
        self._used = self._used if loss is None else loss
        self._temperature = temperature

    def along(self, vector: Arrays) -> "_Derivatives":
        """Turns `mean` into the product of the mean second derivatives with a vector."""
        product = product_of(self._loss, bool(self._model.run_eagerly))
        tensors = [keras.ops.convert_to_tensor(vector[name], variable.dtype)
                   for name, variable in self._weights.items()]
        self._gradients: Callable[..., Any] = lambda *given: product(tensors, *given)
        return self

    def _loss_of(self, x: Any, y: Any, outputs: Any, sample_weight: Any) -> Any:
        if self._temperature != 1:
            outputs = at_temperature(outputs, self._used,
                                     getattr(self._model, "output_names", None), self._soften)
        if self._given is None:
            return super()._loss_of(x, y, outputs, sample_weight)
        loss = keras.ops.cast(self._given(y, outputs, sample_weight), "float32")
        return loss + sum(keras.ops.cast(each, "float32") for each in self._model.losses)

    def _soften(self, outputs: Any, loss: Any) -> Any:
        found = softened(loss, keras.losses)
        if found is None:
            return outputs
        made_by, logits = found
        ops, outputs = keras.ops, keras.ops.cast(outputs, "float32")
        if logits:
            return outputs / self._temperature
        inside = ops.log(ops.maximum(outputs, 1e-30))
        if made_by == "softmax":
            return ops.softmax(inside / self._temperature)
        odds = inside - ops.log(ops.maximum(1 - outputs, 1e-30))
        return ops.sigmoid(odds / self._temperature)
