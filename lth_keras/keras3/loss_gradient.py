"""Computes the mean gradient of a Keras 3 model's loss, for criteria such as "taylor".

It is the gradient of the compiled loss with regularisation, averaged over given examples.  Layers
run in inference mode, and in a StatelessScope: no dropout is drawn, and no weight, statistic,
metric, state or seed changes.

Keras has no gradients of its own, so this module imports the backend that Keras runs on.
"""

import contextlib
import importlib
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.search import scoring

_WANTED = ("scoring_data must be (x, y), (x, y, sample_weight), a tf.data.Dataset, a "
           "keras.utils.PyDataset or a torch DataLoader. Received: ")


def is_data_set(data: Any) -> bool:
    """Whether data come as batches: a tf.data.Dataset, PyDataset or torch DataLoader."""
    return isinstance(data, keras.utils.PyDataset) or _is_a(data, "tensorflow", "data.Dataset") \
        or _is_a(data, "torch", "utils.data.DataLoader")


def scoring_batches(scoring_data: Any) -> Any:
    """Returns batches of scoring data, which can be iterated over any number of times.

    Args:
      scoring_data: a tuple (x, y) or (x, y, sample_weight) of arrays, or of structures of arrays,
        as `fit` takes them; or a finite tf.data.Dataset, keras.utils.PyDataset or torch DataLoader
        of batches of such tuples.

    Raises:
      LotteryError: for anything else.

    Example:
      >>> [len(x) for x, y in scoring_batches((np.zeros((300, 2)), np.zeros(300)))]
      [256, 44]
    """
    if isinstance(scoring_data, keras.utils.PyDataset):
        scoring.check_finite(scoring_data.num_batches is None)
    elif _is_a(scoring_data, "tensorflow", "data.Dataset"):
        scoring.check_finite(int(scoring_data.cardinality()) == -1)
        if keras.backend.backend() != "tensorflow":
            return _Again(scoring_data.as_numpy_iterator)
    elif not is_data_set(scoring_data):
        if not isinstance(scoring_data, tuple) or len(scoring_data) not in (2, 3):
            raise LotteryError(f"{_WANTED}{type(scoring_data).__name__}.")
        return batches(scoring_data, scoring.TOGETHER)
    return scoring_data


def batches(structure: Any, size: int) -> list[Any]:
    """Cuts a structure of arrays into batches of examples.

    Args:
      structure: arrays of one length, in tuples, lists and dicts.
      size: the number of examples in a batch; the last may have fewer.

    Raises:
      LotteryError: if the arrays differ in length.
    """
    arrays = keras.tree.map_structure(_array, structure)
    shapes = [array.shape for array in keras.tree.flatten(arrays)]
    sizes = {shape[0] if shape else 0 for shape in shapes}
    if len(sizes) != 1:
        raise LotteryError("The arrays of data must have the same length. Received: shapes "
                           f"{shapes}.")
    parts = [slice(start, start + size) for start in range(0, sizes.pop(), size)]
    return [keras.tree.map_structure(operator.itemgetter(part), arrays) for part in parts]


class LossGradient:
    """Computes the mean gradient of a compiled model's loss for some of its weights.

    Args:
      model: a built and compiled model.
      weights: name -> variable, trainable weights of the model.

    Example:
      >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
      >>> model.compile("sgd", "mse")
      >>> model.set_weights([np.full((1, 1), 3.0)])
      >>> gradient = LossGradient(model, {"kernel": model.layers[0].kernel})
      >>> gradient.mean([(np.ones((2, 1)), np.ones((2, 1)))])["kernel"].tolist()
      [[4.0]]
    """

    def __init__(self, model: Any, weights: Mapping[str, Any]):
        self._model, self._used = model, getattr(model, "loss", None)
        self._weights = dict(weights)
        self._others: list[Any] | None = None  # The model's other variables, once all are there.
        half = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
        self._scales = scoring.HALF_PRECISION_SCALES if half else (1.0,)
        self._gradients = gradient_of(self._loss, bool(model.run_eagerly))

    def mean(self, data: Iterable[Any]) -> dict[str, Array]:
        """Returns the mean gradient at the model's current weights.

        It is the dense network's: also of weights that are zero since they are pruned.

        Args:
          data: batches (x, y) or (x, y, sample_weight).

        Returns:
          Weight name -> array of the weight's shape, float64.

        Raises:
          LotteryError: if the loss does not depend on a weight, or there are no examples.
        """
        with torch_draws_kept():
            return scoring.mean_gradient(self._weights, map(self._counted, data), self._scales)

    def _counted(self, batch: Any) -> tuple[int, Callable[[float], Arrays]]:
        # What a batch counts, and its gradient for a loss scale.
        batch = _unpacked(batch)
        count = next(value.shape[0] for value in keras.tree.flatten(batch) if value is not None)

        def gradient(scale: float) -> Arrays:
            state = self._state(batch)
            found = self._gradients(*state, batch, keras.ops.convert_to_tensor(scale, "float32"))
            return {name: keras.ops.convert_to_numpy(value)
                    for name, value in zip(self._weights, found, strict=True) if value is not None}
        return scoring.weight_of(int(count), keras.tree.flatten(self._used)), gradient

    def _state(self, batch: Any) -> tuple[list[Any], list[Any]]:
        """The values of the weights, and of the model's other variables."""
        def values(variables: Iterable[Any]) -> list[Any]:
            return [keras.ops.convert_to_tensor(variable.value) for variable in variables]

        def others() -> list[Any]:
            known = {id(variable) for variable in self._weights.values()}
            every = {id(variable): variable for variable
                     in (*self._model.variables, *self._model.metrics_variables)}
            return [variable for key, variable in every.items() if key not in known]
        if self._others is None:
            # A loss of several outputs makes metrics when it is first computed, which it may not do
            # within a compiled function.
            self._others = others()
            self._loss(values(self._weights.values()), values(self._others), batch, 1.0)
            self._others = others()
        return values(self._weights.values()), values(self._others)

    def _loss(self, weights: list[Any], others: list[Any], batch: Any, scale: Any) -> Any:
        """The scaled loss of a batch, as a function of the model's variables."""
        model = self._model
        x, y, sample_weight = batch
        given = [*zip(self._weights.values(), weights, strict=True),
                 *zip(self._others or (), others, strict=True)]
        with keras.StatelessScope(given, collect_losses=True):
            outputs = model(x, training=False) if model._call_has_training_arg else model(x)
            loss = self._loss_of(x, y, outputs, sample_weight)
            return keras.ops.zeros(()) if loss is None else keras.ops.cast(loss, "float32") * scale

    def _loss_of(self, x: Any, y: Any, outputs: Any, sample_weight: Any) -> Any:
        model = self._model
        if model.loss is None and not model.losses \
                and type(model).compute_loss is keras.Model.compute_loss:
            return None  # Keras raises an error, but not on JAX.
        return model._compute_loss(x, y, outputs, sample_weight, training=False)


def inputs_of(batch: Any) -> Any:
    """What a model is called on, of a batch (x, y) or (x, y, sample_weight)."""
    return _unpacked(batch)[0]


def _unpacked(batch: Any) -> Any:
    return keras.tree.map_structure(
        lambda value: None if value is None else keras.ops.convert_to_tensor(value),
        keras.utils.unpack_x_y_sample_weight(batch))


class _Again:
    """Calls a function that returns an iterator for every iteration."""

    def __init__(self, iterator: Callable[[], Iterator[Any]]):
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self._iterator()


def _is_a(value: Any, package: str, name: str) -> bool:
    """Whether a value is of a class of a package, which is not imported for that."""
    kind = sys.modules.get(package)
    for part in name.split("."):
        kind = getattr(kind, part, None)
    return kind is not None and isinstance(value, kind)  # type: ignore[arg-type]


def _array(value: Any) -> Array:
    # As Keras' own adapter of arrays does: floats become those of the models.
    array = keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else np.asarray(value)
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


@contextlib.contextmanager
def torch_draws_kept() -> Iterator[None]:
    """Keeps torch's own random numbers: a DataLoader draws one whenever it is iterated over."""
    torch = sys.modules.get("torch")
    with contextlib.nullcontext() if torch is None else torch.random.fork_rng(devices=[]):
        yield


def gradient_of(loss: Any, eagerly: bool = False) -> Any:
    """A function of the same arguments as a loss that returns its gradient for each of its weights.

    It is None for a weight that the loss does not depend on.

    Args:
      loss: a function (weights, others, *more) -> number, of lists of tensors.
      eagerly: whether it is not to be compiled.

    Example:
      >>> gradient = gradient_of(lambda weights, others: keras.ops.sum(weights[0] * others[0]))
      >>> ones, twos = keras.ops.ones(2), 2 * keras.ops.ones(2)
      >>> keras.ops.convert_to_numpy(gradient([ones], [twos])[0]).tolist()
      [2.0, 2.0]
    """
    return _GRADIENTS[keras.backend.backend()](loss, eagerly)


def _of_tensorflow(loss: Any, eagerly: bool) -> Any:
    tf = importlib.import_module("tensorflow")

    def gradients(weights: list[Any], *given: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            value = loss(weights, *given)
        return [found if found is None else tf.convert_to_tensor(found)
                for found in tape.gradient(value, weights)]
    return gradients if eagerly else tf.function(gradients, reduce_retracing=True)


def _of_jax(loss: Any, eagerly: bool) -> Any:
    jax = importlib.import_module("jax")
    gradient = jax.grad(loss) if eagerly else jax.jit(jax.grad(loss))
    reached: list[bool] = []  # Zeros alone do not tell: a ReLU that is never active gives them too.

    def gradients(weights: list[Any], *given: Any) -> list[Any]:
        if not reached:
            reached.extend(_reached(jax.make_jaxpr(loss)(weights, *given).jaxpr, len(weights)))
        return [found if known else None
                for found, known in zip(gradient(weights, *given), reached, strict=True)]
    return gradients


def _reached(program: Any, count: int) -> list[bool]:
    """Whether the result of a program of JAX depends on each of its first `count` inputs."""
    needed = {id(variable) for variable in program.outvars}
    for equation in reversed(program.eqns):
        if any(id(variable) in needed for variable in equation.outvars):
            needed.update(id(variable) for variable in equation.invars)
    return [id(variable) in needed for variable in program.invars[:count]]


def _of_torch(loss: Any, eagerly: bool) -> Any:
    torch = importlib.import_module("torch")

    def gradients(weights: list[Any], others: list[Any], *given: Any) -> Any:
        weights = [weight.detach().requires_grad_() for weight in weights]
        value = loss(weights, [other.detach() for other in others], *given)
        if not value.requires_grad:
            return [None] * len(weights)
        return torch.autograd.grad(value, weights, allow_unused=True)
    return gradients


_GRADIENTS = {"tensorflow": _of_tensorflow, "jax": _of_jax, "torch": _of_torch}
