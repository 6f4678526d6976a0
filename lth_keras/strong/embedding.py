"""`lth.strong.embed`: a trained model as a ticket of a random model, which nobody trains."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from lth_keras.arguments import check_choice, check_number, check_whole
from lth_keras.core import seeding
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.files import provenance
from lth_keras.files.ticket import Ticket
from lth_keras.graph.kinds import kind_of
from lth_keras.graph.rebuild import again
from lth_keras.strong.choices import CHOICES
from lth_keras.strong.random_layers import approximate, RandomLayers
from lth_keras.strong.subset_sums import Floats, MOST_COEFFICIENTS
from lth_keras.strong.target import ACTIVATIONS, CONVOLUTIONS, read, Step

MOST_WEIGHTS = 2**30  # Of a random model.


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """A random model, and the subnetwork of it that computes a target.

    Attributes:
      model: the random model, as it was drawn: float32, not pruned, not compiled.
      ticket: its weights, and the masks of the subnetwork. `ticket.apply(model)` gives the
        subnetwork; it may also be applied to any model built like this one.
      errors: a row for each layer of the target, by its name: its `type`; `weights`, their number,
        biases included; `neurons`, the random ones between its input and its output; `scale`, the
        largest size of the random out-weights; `weight_error` and `median_error`, of its weights,
        the largest and the median; `kept` and `size`, the random weights kept and in all; and
        `output_error`, how far its outputs can be from the target's at most, for inputs in
        [-largest_input, largest_input], in exact arithmetic. Rounding to float32 adds to that.
      kept: how many of the random weights the subnetwork has.
      size: how many random weights there are.
      bound: how far the outputs of the model can be from the target's, `output_error` at the end.
    """

    model: Any
    ticket: Ticket
    errors: pd.DataFrame
    kept: int
    size: int
    bound: float


def embed(model: Any, factor: int = 16, seed: int = 0, *, method: str = "subset_sum",
          nonnegative_inputs: bool = False, largest_input: float = 1.0) -> Embedding:
    """Finds a trained model's function in a random model of twice the depth, without training.

    Each Dense layer and convolution NAME becomes two: NAME_in, with ReLU and with `factor` neurons
    for each input, and for each bias; and NAME_out, with the target's activation and no bias. Its
    inputs count twice if they may be negative. In-weights are from U[-1, 1], out-weights from
    U[-s, s] with s twice the layer's largest weight; each target weight has `factor` products of
    them for coefficients, of U[-s, s] nearly if the layer is wide.  Batch normalization is folded
    into the layer before it.

    The random model is dense: of each layer it has factor * inputs * (inputs + outputs * kernel
    size) weights of 4 bytes, in all 71 MB for a target of 784-500-10 with a factor of 14.  A few
    times as much is needed while it is made.

    Args:
      model: a built model of tf_keras or Keras 3, a chain of Dense layers, convolutions, batch
        normalizations, poolings and the like, with ReLU or another of `target.ACTIVATIONS`. It is
        not changed.
      factor: n, the number of neurons for each path into a layer; at most 40 for subset sums. Of
        397,000 weights of a network, in [-0.73, 0.64], 16 coefficients brought all but 147 within
        0.01, 21 all but 4, and 24 all; the median was off by 2e-5, 6e-7 and 8e-8.
      seed: of the random model.
      method: "subset_sum" keeps any of the neurons, "product" the best one alone, and "malach" the
        one that has both weights right (see `choices`).
      nonnegative_inputs: whether the model's inputs are never negative, as pixels in [0, 1]; its
        first layer then needs half of the neurons.
      largest_input: how large the model's inputs are at most; for `errors` alone.

    Returns:
      An `Embedding`: the random model, and the ticket that prunes it.

    Raises:
      LotteryError: if the model has a layer or option that this cannot compute, which it names; if
        the random model had more than 2^30 weights; or a number is outside its range.

    Example:
      >>> import tf_keras as keras
      >>> target = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, "relu"),
      ...                            keras.layers.Dense(3, name="logits")])
      >>> found = embed(target, factor=18, seed=0)
      >>> [layer.name for layer in found.model.layers][2:], found.bound < 0.05
      (['logits_in', 'logits_out'], True)
      >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 4))
      >>> pruned = found.ticket.apply(found.model)
      >>> bool(abs(pruned.predict(x, verbose=0) - target.predict(x, verbose=0)).max() < found.bound)
      True

    Reference: Malach et al. 2020, arXiv:2002.00585; Pensia et al. 2020, arXiv:2006.07990; da Cunha
    et al. 2022 (convolutions).
    """
    check_choice("method", method, CHOICES)
    check_whole("seed", seed)
    if check_whole("factor", factor, least=1) > MOST_COEFFICIENTS and method == "subset_sum":
        raise LotteryError(f"factor must be at most {MOST_COEFFICIENTS} for subset sums. Received: "
                           f"{factor}. 30 come within 1e-6 of nearly every weight.")
    if not 0 < check_number("largest_input", largest_input) < np.inf:
        raise LotteryError("largest_input must be above 0 and finite. Received: "
                           f"{largest_input!r}.")
    steps = read(model)
    signs = _signs(steps, nonnegative_inputs)
    _check_size(steps, signs, factor)
    layers = {step.layer.name: approximate(step.kernel, step.bias, factor, signed, method=method,
                                           rng=seeding.generator(seed, f"strong/{index}"))
              for index, (step, signed) in enumerate(zip(steps, signs, strict=True))
              if step.kernel is not None}
    settings = {"strong": method, "factor": factor, "seed": seed,
                "nonnegative_inputs": nonnegative_inputs}
    package = kind_of(model).keras.__name__.replace("_", "-")
    weights, masks = ({name: array for step in steps if step.kernel is not None
                       for name, array in _named(step, getattr(layers[step.layer.name], part))}
                      for part in ("weights", "masks"))
    ticket = Ticket(weights, masks, 1, {
        "versions": provenance.versions(("scipy", package)), "settings": settings,
        "fingerprint": provenance.fingerprint(settings)})
    rows = _rows(model, steps, layers, largest_input)
    return Embedding(_built(model, steps, weights), ticket, rows, int(rows["kept"].sum()),
                     int(rows["size"].sum()), float(rows["output_error"].iloc[-1]))


def _signs(steps: list[Step], nonnegative_inputs: bool) -> list[bool]:
    # Whether the input of each step may be negative.
    signs = [not nonnegative_inputs]
    for step in steps:
        nonnegative = ACTIVATIONS[step.activation].nonnegative
        # A layer without weights gives what it is given, or means of it.
        signs.append(not nonnegative if step.kernel is not None else signs[-1] and not nonnegative)
    return signs[:-1]


def _check_size(steps: list[Step], signs: list[bool], factor: int) -> None:
    sizes = {}
    for step, signed in zip(steps, signs, strict=True):
        if step.kernel is not None:
            inputs, biased = step.kernel.shape[-2], step.bias is not None
            neurons = factor * ((1 + signed) * inputs + biased)
            sizes[step.layer.name] = neurons * (inputs + biased + step.kernel[..., 0, :].size)
    if sum(sizes.values()) > MOST_WEIGHTS:
        largest = max(sizes, key=lambda name: sizes[name])
        raise LotteryError(
            f"A random model may have at most {MOST_WEIGHTS:,} weights, which are 4 GiB. Received: "
            f"{sum(sizes.values()):,}, of which layer {largest!r} takes {sizes[largest]:,}. Take a "
            "smaller factor, or a target with fewer inputs into this layer, on whose square they "
            "depend.")


def _named(step: Step, arrays: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    # By the names that the engines give the weights of the random model, in their shapes.
    assert step.kernel is not None
    for key, array in arrays.items():
        one = (1,) * (step.kernel.ndim - 2) if key == "in_kernel" else ()
        yield f"{step.layer.name}_{key.replace('_', '/')}", array.reshape(*one, *array.shape)


def _built(model: Any, steps: list[Step], weights: Mapping[str, Array]) -> Any:
    kind = kind_of(model)
    layers = kind.keras.layers
    new = kind.keras.Sequential([layers.Input(tuple(model.inputs[0].shape[1:]))],
                                name=f"{model.name}_random")
    for step in steps:
        if step.kernel is not None:
            for layer in _pair(step, weights[f"{step.layer.name}_in/kernel"].shape[-1], layers):
                new.add(layer)
        else:
            new.add(again(step.layer))
            if step.activation != "linear":
                new.add(layers.Activation(step.activation))
    for layer in new.layers:
        for weight in ("kernel", "bias"):
            if f"{layer.name}/{weight}" in weights:
                kind.assign(kind.variable(layer, weight), weights[f"{layer.name}/{weight}"])
    return new


def _pair(step: Step, neurons: int, layers: Any) -> tuple[Any, Any]:
    # The two random layers of a step; zeros until they get their weights, which is quick.
    layer, kind = step.layer, type(step.layer).__name__
    common = {"kernel_initializer": "zeros", "dtype": "float32"}
    first = {**common, "activation": "relu", "use_bias": step.bias is not None,
             "name": f"{layer.name}_in"}
    second = {**common, "activation": step.activation, "use_bias": False,
              "name": f"{layer.name}_out"}
    if kind not in CONVOLUTIONS:
        return layers.Dense(neurons, **first), layers.Dense(step.size, **second)
    make = getattr(layers, kind)
    return make(neurons, 1, **first), make(
        step.size, layer.kernel_size, strides=layer.strides, padding=layer.padding,
        dilation_rate=layer.dilation_rate, **second)


def _rows(model: Any, steps: list[Step], layers: Mapping[str, RandomLayers],
          largest_input: float) -> pd.DataFrame:
    # With how large each channel may be, and how wrong, through the layers.
    sizes = np.full(int(model.inputs[0].shape[-1]), largest_input)
    wrong = np.zeros(len(sizes))
    rows = []
    for step in steps:
        if step.kernel is None:  # Flatten has every channel once for each place.
            sizes, wrong = (np.resize(array, step.size) for array in (sizes, wrong))
        else:
            pair = layers[step.layer.name]
            bias = np.zeros(step.size) if step.bias is None else np.abs(step.bias)
            weights, errors = (_summed(array) for array in (step.kernel, pair.errors))
            wrong = wrong @ (weights + errors) + sizes @ errors + pair.bias_errors
            sizes = sizes @ weights + bias
            rows.append({"layer": step.layer.name, **_row(step, pair),
                         "output_error": float(wrong.max())})
        activation = ACTIVATIONS[step.activation]
        sizes = activation.largest(sizes)
        if activation.mixes:
            wrong = np.full_like(wrong, wrong.max())
    return pd.DataFrame(rows).set_index("layer")


def _summed(kernel: Floats) -> Floats:
    # The sizes of a kernel's weights, summed over its places: (inputs, outputs).
    summed: Floats = np.abs(kernel).reshape(-1, *kernel.shape[-2:]).sum(axis=0)
    return summed


def _row(step: Step, pair: RandomLayers) -> dict[str, Any]:
    errors = pair.errors.ravel()
    if step.bias is not None:
        errors = np.append(errors, pair.bias_errors)
    return {"type": type(step.layer).__name__, "weights": errors.size,
            "neurons": pair.weights["in_kernel"].shape[1], "scale": pair.scale,
            "weight_error": float(errors.max()), "median_error": float(np.median(errors)),
            "kept": pair.kept, "size": pair.size}
