"""How well outputs fit targets: a measure for each output, chosen by the model's compiled loss.

    loss                                            measure              100 points are
    (sparse) categorical crossentropy, focal, hinge accuracy             all examples
    binary crossentropy, focal                      accuracy             all labels
    mean squared error                              mean squared error   the targets' variance
    mean absolute error                             mean absolute error  the targets' deviation
    any other                                       the loss itself      what shuffled outputs add

What a file may lose against Keras is a number of points, the same for all measures.  A point of
squared error is a hundredth of the targets' variance, which is the error of their mean: so it is a
point of R^2, and one of accuracy's kind.  A point of absolute error is a hundredth of the error of
their median.  Of a loss that may be anything, 100 points are by how much it rises when each example
is given another's output.

To measure another loss in another way, write a function from (settings, targets, outputs) to a
`Measure` and decorate it with `register("the_loss")`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lth_keras.arguments import one_line
from lth_keras.core.masks import Array
from lth_keras.deployment.models import kinds
from lth_keras.deployment.models.model_kind import ModelKind
from lth_keras.errors import LotteryError

_BATCH = 256  # Examples in a call of a user's loss.
IGNORED = -2  # A class that is not counted; -1 is predicted where an output is not finite.


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """How well outputs fit targets.

    Attributes:
      name: such as "accuracy".
      unit: what the points are that a file loses, as in "points of accuracy".
      form: how a value is printed.
      value: computes the measure from (outputs, Keras' outputs).
      scale: how much of the measure 100 points are; 0 if that is not known.
      sign: 1 if larger values are better, otherwise -1.
    """

    name: str
    unit: str
    form: str
    value: Callable[[Array, Array], float]
    scale: float = 1.0
    sign: int = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Expected:
    """What a file must compute for one output.

    Attributes:
      name: the output's name.
      outputs: Keras' outputs for the examples.
      measure: how well outputs fit the targets; None if outputs are only compared with Keras'.
      note: why there is no measure, or "".
    """

    name: str
    outputs: Array
    measure: "Measure | None" = None
    note: str = ""

    @functools.cached_property
    def value(self) -> "float | None":
        """The measure of Keras' own outputs."""
        return self.measured(self.outputs)

    @property
    def bounded(self) -> bool:
        """Whether the measure says how much a file may lose."""
        return self.measure is not None and self.measure.scale > 0

    def measured(self, outputs: Array) -> "float | None":
        """Returns the measure of a file's outputs; None if there is none, or it is not finite."""
        value = self.measure.value(outputs, self.outputs) if self.measure else None
        return value if value is not None and np.isfinite(value) else None

    def lost(self, value: "float | None") -> "float | None":
        """Returns by how many points a value is worse than Keras'."""
        if value is None or self.value is None or not self.bounded:
            return None
        assert self.measure is not None  # It is bounded.
        points = self.measure.sign * 100 * (self.value - value) / self.measure.scale
        return points + 0.0  # Never -0.0, which would be printed so.


# From a loss' settings, the targets and Keras' outputs to a measure. It raises a LotteryError if
# the targets do not fit the outputs.
Maker = Callable[[dict[str, Any], Array, Array], "Measure | None"]
MEASURES: dict[str, Maker] = {}  # By the name of Keras' loss function.


def register(*losses: str) -> Callable[[Maker], Maker]:
    """Registers a function that makes the measure of losses.

    Args:
      *losses: the names of Keras' loss functions, such as "mean_squared_error".
    """
    def add(maker: Maker) -> Maker:
        MEASURES.update(dict.fromkeys(losses, maker))
        return maker
    return add


def expected(name: str, outputs: Array, targets: "Array | None", loss: Any,
             kind: "ModelKind | None" = None) -> Expected:
    """Returns what a file must compute for an output, with the measure that fits its loss.

    Args:
      name: the output's name.
      outputs: Keras' outputs for the examples.
      targets: their targets, or None.
      loss: the loss that the output was trained with: a name, function or object as `compile`
        takes it; None if it is not known.
      kind: what knows the Keras of the loss; without it, that is tf_keras.

    Raises:
      LotteryError: if the targets do not fit the outputs; the message says which shapes do.

    Example:
      >>> found = expected("y", np.array([[1.0], [3.0]]), np.array([1.0, 5.0]), "mse")
      >>> found.measure.name, found.value, found.lost(4.0)
      ('mean squared error', 2.0, 50.0)
    """
    if targets is None:
        return Expected(name, outputs, note="no targets were given")
    try:
        measure = _without_loss(targets, outputs) if loss is None else _of_loss(
            loss, targets, outputs, kind or kinds.named("tf_keras"))
    except LotteryError as error:
        raise LotteryError(f"{error} It is the output {name!r}.") from None
    note = "" if measure else "the model is not compiled with a loss for it"
    return Expected(name, outputs, measure, note)


def losses(model: Any, names: tuple[str, ...]) -> list[Any]:
    """Returns the loss that each output of a model was compiled with, or None.

    Args:
      model: a model, compiled or not.
      names: the names of its outputs.

    Example:
      >>> import tf_keras as keras
      >>> model = keras.Sequential([keras.layers.Dense(1)])
      >>> model.compile(loss="mse")
      >>> losses(model, ("dense",)), losses(keras.Sequential(), ("dense",))
      (['mse'], [None])
    """
    given = getattr(model, "loss", None)
    if isinstance(given, dict):
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        return list(given) if len(given) == len(names) else [None] * len(names)
    return [given] * len(names)


def _of_loss(loss: Any, targets: Array, outputs: Array, kind: ModelKind) -> "Measure | None":
    loss = kind.keras.losses.get(loss) if isinstance(loss, str) else loss
    name, settings = _keras_own(loss)
    maker = MEASURES.get(name)
    made = maker(settings, targets, outputs) if maker else None
    return made or _loss_itself(loss, targets, outputs, kind)


def _keras_own(loss: Any) -> tuple[str, dict[str, Any]]:
    # The name and settings of a loss that Keras itself defines; ("", {}) for a user's own.
    function = getattr(loss, "fn", loss)
    makers = [function] if function is loss else [function, type(loss)]
    if all(getattr(part, "__module__", "").startswith(("tf_keras.", "keras.")) for part in makers):
        return getattr(function, "__name__", ""), dict(getattr(loss, "_fn_kwargs", {}))
    return "", {}


@register("sparse_categorical_crossentropy", "categorical_crossentropy",
          "categorical_focal_crossentropy", "categorical_hinge")
def _of_classes(settings: dict[str, Any], targets: Array, outputs: Array) -> Measure:
    classes = _classes(targets, outputs, settings.get("ignore_class"))
    return _accuracy(classes, predictions)


@register("binary_crossentropy", "binary_focal_crossentropy")
def _of_labels(settings: dict[str, Any], targets: Array, outputs: Array) -> "Measure | None":
    labels = _like(targets, outputs, "labels")
    if not np.isin(labels, (0, 1)).all():
        return None  # Shares, such as the grey of a pixel: the loss itself says how well they fit.
    threshold = 0.0 if settings.get("from_logits") else 0.5
    return _accuracy(labels, lambda values, reference: _above(values, threshold),
                     _examples(labels))


@register("mean_squared_error")
def _squared(settings: dict[str, Any], targets: Array, outputs: Array) -> Measure:
    wanted: Any = _like(targets, outputs, "numbers").astype(np.float64)
    return Measure("mean squared error", "points of the targets' variance", ".4g",
                   lambda values, _: float(np.square(values - wanted).mean()),
                   float(np.square(wanted - wanted.mean(axis=_examples(wanted))).mean()))


@register("mean_absolute_error")
def _absolute(settings: dict[str, Any], targets: Array, outputs: Array) -> Measure:
    wanted: Any = _like(targets, outputs, "numbers").astype(np.float64)
    return Measure("mean absolute error", "points of the targets' deviation", ".4g",
                   lambda values, _: float(np.abs(values - wanted).mean()),
                   float(np.abs(wanted - np.median(wanted, axis=_examples(wanted))).mean()))


def _examples(targets: Array) -> tuple[int, ...]:
    # All axes but the last: a mean is taken for each feature.
    return tuple(range(max(1, targets.ndim - 1)))


def _loss_itself(loss: Any, targets: Array, outputs: Array, kind: ModelKind) -> Measure:
    name = str(getattr(loss, "name", None) or getattr(loss, "__name__", type(loss).__name__))
    if targets.ndim == 1 and outputs.ndim == 2:
        targets = targets[:, None]  # As fit does.

    def value(values: Array, _: Array) -> float:
        total = 0.0
        for start in range(0, len(values), _BATCH):
            part = slice(start, start + _BATCH)
            try:
                losses_ = kind.loss(loss, targets[part], values[part])
            except Exception as error:  # A user's code may raise anything.
                raise LotteryError(
                    f"The loss {name} must take the targets in data. Received: targets of shape "
                    f"{targets.shape} for outputs of shape {outputs.shape}, on which it raised "
                    f"{type(error).__name__}: {one_line(error)}. Give the targets that the model "
                    "was trained with, or None.") from None
            total += float(losses_.mean()) * len(values[part])
        return total / len(values)
    # A loss may be of any size, and 0 for a perfect network: what it says is the difference
    # between the right outputs and others.
    order = np.random.default_rng(0).permutation(len(outputs))
    scale = abs(value(outputs[order], outputs) - value(outputs, outputs))
    return Measure(name, f"percent of the {name} that shuffled outputs add", ".4g", value,
                   scale if np.isfinite(scale) else 0.0)


def _without_loss(targets: Array, outputs: Array) -> "Measure | None":
    # Targets that can only be classes are, as no loss says what else they may be.
    width = outputs.shape[-1] if outputs.ndim > 1 else 1
    if width == 1:
        labels = _like(targets, outputs, "numbers")
        return _accuracy(labels, lambda values, reference: _above(
            values, 0.5 if np.all(np.clip(reference, 0, 1) == reference) else 0.0)) \
            if np.isin(labels, (0, 1)).all() else None
    if targets.shape == outputs.shape and not _one_hot(targets):
        return None
    return _of_classes({}, targets, outputs)


def _accuracy(targets: Array, predicted: Callable[[Array, Array], Array],
              axes: "tuple[int, ...] | None" = None) -> Measure:
    # Of targets that do not vary over the axes, a file that always says the same loses nothing.
    counted = targets != IGNORED
    varied = np.ma.array(targets, mask=~counted).ptp(axis=axes)

    def value(values: Array, reference: Array) -> float:
        right = (predicted(values, reference) == targets)[counted]
        return float(right.mean()) if right.size else np.nan
    return Measure("accuracy", "points of accuracy", ".2%", value,
                   float(np.ma.filled(varied, 0).any()), sign=1)


def _classes(targets: Array, outputs: Array, ignored: "int | None") -> Array:
    # Returns the classes as whole numbers, shape (examples, ...), whatever way they are given in.
    shape, width = outputs.shape[:-1], outputs.shape[-1]
    if not shape:
        raise LotteryError("A network that is trained on classes must have an output for each "
                           f"class. Received: outputs of shape {outputs.shape}.")
    if targets.shape == (*shape, 1):
        targets = targets[..., 0]
    elif targets.shape == outputs.shape:
        return np.asarray(targets.argmax(axis=-1))
    elif targets.shape != shape:
        raise LotteryError(
            f"data must hold one class for each of {_shaped(shape)}, as whole numbers of shape "
            f"{shape} or {(*shape, 1)}, or one-hot of shape {outputs.shape}. Received: targets of "
            f"shape {targets.shape}.")
    skipped = targets == ignored if ignored is not None else np.zeros(shape, bool)
    counted = targets[~skipped]
    if not (np.issubdtype(targets.dtype, np.number) and (counted == np.rint(counted)).all()
            and ((counted >= 0) & (counted < width)).all()):
        raise LotteryError(f"Classes must be whole numbers from 0 to {width - 1}, since there are "
                           f"{width} outputs. Received: {_range(counted)}.")
    return np.where(skipped, IGNORED, targets).astype(np.int64)


def _like(targets: Array, outputs: Array, what: str) -> Array:
    # Returns targets in the shape of the outputs; a last axis of 1 may be left out of either.
    for shape in (targets.shape, (*targets.shape, 1), targets.shape[:-1]):
        if shape == outputs.shape and np.prod(shape) == targets.size:
            return targets.reshape(shape)
    raise LotteryError(f"data must hold {what} of the outputs' shape, {outputs.shape}. "
                       f"Received: targets of shape {targets.shape}.")


def _shaped(shape: tuple[int, ...]) -> str:
    return f"its {shape[0]} examples" if len(shape) == 1 else \
        f"{' x '.join(map(str, shape))} places"


def _range(values: Array) -> str:
    if not np.issubdtype(values.dtype, np.number):
        return f"an array of {values.dtype}"
    return f"values from {values.min():g} to {values.max():g}" if values.size else "none"


def _one_hot(targets: Array) -> bool:
    return bool(np.isin(targets, (0, 1)).all() and (targets.sum(axis=-1) == 1).all())


def _above(outputs: Array, threshold: float) -> Array:
    return np.where(np.isfinite(outputs), np.greater(outputs, threshold).astype(int), -1)


def predictions(outputs: Array, reference: Array) -> Array:
    """Returns the predicted classes; -1 where an output is NaN or infinite.

    Args:
      outputs: shape (..., classes).
      reference: Keras' outputs. With one class, they decide whether outputs are probabilities
        (threshold 0.5) or logits (threshold 0).

    Example:
      >>> predictions(np.array([[0.1, 0.9], [2.0, -1.0], [np.nan, 0.0]]), np.zeros((3, 2)))
      array([ 1,  0, -1])
    """
    finite = np.isfinite(outputs).all(axis=-1)
    if outputs.shape[-1] == 1:
        threshold = 0.5 if np.all(np.clip(reference, 0, 1) == reference) else 0.0
        classes = np.greater(outputs[..., 0], threshold).astype(int)
    else:
        classes = np.where(np.isnan(outputs), -np.inf, outputs).argmax(axis=-1)
    return np.where(finite, classes, -1)
