"""What scores at initialisation need of a model, whichever Keras it is of.

Each engine has a class like this: `keras2.initial`, `keras3.initial`.  It is found by the model's
class, through `providers`.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from lth_keras import providers
from lth_keras.core.masks import Array, Arrays
from lth_keras.errors import LotteryError
from lth_keras.graph.kinds import package_of

PathGradient = Callable[[Arrays], dict[str, Array]]
TEMPERATURE = 200.0  # Of logits in GraSP's code.
CROSSENTROPIES = {
    **dict.fromkeys(("categorical_crossentropy", "sparse_categorical_crossentropy",
                     "categorical_focal_crossentropy"), "softmax"),
    **dict.fromkeys(("binary_crossentropy", "binary_focal_crossentropy"), "sigmoid")}


class ScoredModel(Protocol):
    """A dense model whose weights are scored; nothing of it changes.

    Attributes:
      shapes: weight name -> shape, for every prunable weight, in the order of the model.
      packages: the packages whose versions decide what is computed.
    """

    shapes: Mapping[str, tuple[int, ...]]
    packages: Sequence[str]

    def weights(self) -> dict[str, Array]:
        """Copies of all weights by name."""

    def batches(self, data: Any) -> Iterable[Any]:
        """Batches of data, which can be iterated over any number of times."""

    def flat(self, batch: Any) -> Iterable[Any]:
        """The arrays of a batch, examples first."""

    def gradient(self, batches: Iterable[Any]) -> dict[str, Array]:
        """The mean gradient g of the loss over the data, for each prunable weight."""

    def hessian_gradient(self, batches: Iterable[Any]) -> dict[str, Array]:
        """H g, the product of the mean loss's second derivatives and its gradient.

        Both are of the loss with the outputs at `temperature`.
        """

    def path_gradient(self) -> PathGradient:
        """A function from sizes of the prunable weights to SynFlow's gradient for each.

        It is the gradient of the sum of the outputs of the linear network; see `linear_network`.
        """


def scored(model: Any, include: Any = (), exclude: Any = (), loss: Any = None,
           temperature: float = TEMPERATURE) -> ScoredModel:
    """A model as `ScoredModel`, by the engine of its Keras.

    Args:
      model: a built model.
      include: as for `lth.prune_low_magnitude`.
      exclude: as for `lth.prune_low_magnitude`.
      loss: in place of the compiled one, or None.
      temperature: see `lth.prune_at_init`.

    Raises:
      LotteryError: if it is not built, is pruned already, or has nothing to prune.
    """
    found: ScoredModel = providers.provider(providers.SCORED[package_of(model)])(
        model, include=include, exclude=exclude, loss=loss, temperature=temperature)
    return found


def check_dense(name: str, masks: Arrays, structures: Iterable[str]) -> None:
    """Checks that nothing of a model has been pruned, and that single weights may be.

    Args:
      name: the model's name.
      masks: weight name -> 0/1 array.
      structures: the words of the structures that its weights are pruned in.

    Raises:
      LotteryError: if not.

    Example:
      >>> check_dense("model", {"w": np.ones(2)}, [""])
    """
    pruned = [weight for weight, mask in masks.items() if not np.all(mask)]
    if pruned:
        raise LotteryError("A model is pruned at initialisation from all of its weights. Received: "
                           f"{name!r}, in which {', '.join(pruned[:3])} is pruned already. Build "
                           "the model anew.")
    kinds = sorted({*structures} - {""})
    if kinds:
        raise LotteryError("Scores at initialisation prune single weights. Received: "
                           f"{name!r}, of which weights are pruned in the structure "
                           f"{', '.join(kinds)}. Leave structure= out.")


def check_compiled(name: str, compiled: bool) -> None:
    """Raises LotteryError if a model that is to give the loss is not compiled."""
    if not compiled:
        raise LotteryError("The gradient of a loss needs one. Received: "
                           f"{name!r}, which is not compiled. Compile it, or give loss=\"mse\" or "
                           "another.")


def along_gradient(gradient: Arrays, product: Callable[[Arrays], Arrays]) -> dict[str, Array]:
    """The product of a matrix and a gradient, whose numbers may be as small as float32 has them.

    Args:
      gradient: weight name -> array.
      product: from a vector to its product with the matrix, in lower precision.

    Example:
      >>> along_gradient({"w": np.array([0.0, 1e-30])}, lambda vector: {"w": 2 * vector["w"]})
      {'w': array([0.e+00, 2.e-30])}
    """
    size = max(float(np.abs(value).max(initial=0)) for value in gradient.values()) or 1.0
    found = product({name: np.divide(value, size) for name, value in gradient.items()})
    return {name: np.multiply(value, size) for name, value in found.items()}


def without_second(error: Exception) -> Exception:
    """The same error; or one that says that an operation has no second derivative.

    Backends say so each in its own way.

    Example:
      >>> without_second(LookupError("gradient registry has no entry for: ResizeGrad"))
      LotteryError('GraSP needs second derivatives of every operation of the model. Received: \
gradient registry has no entry for: ResizeGrad. Use another method, such as "snip".')
    """
    line = str(error).strip().rpartition("\n")[2].strip()
    if any(said in line for said in ("no entry for", "No gradient defined", "not implemented")):
        return LotteryError("GraSP needs second derivatives of every operation of the model. "
                            f"Received: {line}. Use another method, such as \"snip\".")
    return error


def softened(loss: Any, known: Any) -> "tuple[str, bool] | None":
    """How the outputs of a classifier become logits, from its loss; None for other losses.

    Args:
      loss: a loss as `compile` takes it: a word, a function or an object.
      known: the losses of the same Keras, `keras.losses`.

    Returns:
      "softmax" or "sigmoid", what makes the outputs of logits; and whether they are logits yet.

    Example:
      >>> import keras
      >>> softened("sparse_categorical_crossentropy", keras.losses)
      ('softmax', False)
      >>> softened(keras.losses.BinaryCrossentropy(from_logits=True), keras.losses)
      ('sigmoid', True)
      >>> softened("mse", keras.losses)
    """
    if isinstance(loss, str):
        loss = known.get(loss)  # It has other words too, such as "bce".
    for word, made_by in CROSSENTROPIES.items():
        kind = "".join(part.capitalize() for part in word.split("_"))
        if loss is getattr(known, word):
            return made_by, False
        if isinstance(loss, getattr(known, kind)):
            return made_by, bool(loss.get_config().get("from_logits", False))
    return None


def at_temperature(outputs: Any, loss: Any, names: "Sequence[str] | None",
                   soften: Callable[[Any, Any], Any]) -> Any:
    """The outputs of a model, each softened as its own loss says.

    Args:
      outputs: a tensor; or several in a list, a tuple or a dict.
      loss: one for all outputs, or a list or dict of them, as `compile` takes it.
      names: the names of the outputs, by which a dict of losses names them.
      soften: from an output and its loss to the softened output.

    Raises:
      LotteryError: if it is not clear which loss is of which output.

    Example:
      >>> at_temperature([4, 6], {"a": "mse", "b": None}, ["a", "b"], lambda *both: both)
      [(4, 'mse'), (6, None)]
    """
    keys = sorted(outputs) if isinstance(outputs, Mapping) else names or ()
    each = [*outputs.values()] if isinstance(outputs, Mapping) else outputs \
        if isinstance(outputs, (list, tuple)) else [outputs]
    if isinstance(loss, Mapping):
        losses = [loss.get(key) for key in keys]
    else:
        losses = [*loss] if isinstance(loss, (list, tuple)) else [loss] * len(each)
    if len(losses) != len(each) or any(isinstance(one, (list, tuple, Mapping))
                                       for one in (*losses, *each)):
        raise LotteryError("GraSP's temperature needs one loss for each output, in a list or dict "
                           f"without others in it. Received: {loss!r:.200} for {len(each)} "
                           "outputs. Give temperature=1.")
    if isinstance(outputs, Mapping):
        return {key: soften(outputs[key], one) for key, one in zip(keys, losses, strict=True)}
    found = [soften(value, one) for value, one in zip(each, losses, strict=True)]
    return found if isinstance(outputs, (list, tuple)) else found[0]


def describe(batches: Iterable[Any], flatten: Callable[[Any], Iterable[Any]]) -> dict[str, Any]:
    """The number of examples in data, and the digits that identify them, for a provenance.

    Args:
      batches: batches (x, y) or (x, y, sample_weight).
      flatten: from a batch to its arrays.

    Example:
      >>> describe([(np.zeros((3, 2)), np.zeros(3))], list)["examples"]
      3
    """
    digest, examples = hashlib.sha256(), 0
    for batch in batches:
        arrays = [np.ascontiguousarray(value) for value in flatten(batch) if value is not None]
        examples += len(arrays[0])
        for array in arrays:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
    return {"examples": examples, "sha256": digest.hexdigest()[:16]}
