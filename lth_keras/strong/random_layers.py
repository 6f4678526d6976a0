"""A layer of a trained network, computed by a subnetwork of two random layers.

A target y = W x + b becomes two random layers, the first with ReLU, without a bias after it:

    h = relu(A x + a),  y = B h       A, a ~ U[-1, 1],  B ~ U[-s, s],  s = 2 max(|W|, |b|)

Each neuron of h serves one path into the layer: (input, +), and (input, -) too if the input may be
negative, since x = relu(x) - relu(-x); and one more for the bias, whose neurons keep nothing but
their own bias, a constant.  A path has `factor` neurons, so h has factor * paths.  Of a neuron's
in-weights only that of its path is kept; which neuron serves which path is chosen so that these
are large (an assignment; in "malach" it is as they are drawn).  Where there are few paths, not all
of them find enough neurons with the right sign: of a single one it is half.
Then each weight of W and b has `factor` coefficients of its own, the products of an in-weight and
an out-weight, and `choices` says which to keep: a mask of B.

With s as above, targets lie in the half of the coefficients' range for which Lueker's theorem, and
so Pensia's, is stated.

A convolution is the same: A is a 1 x 1 convolution, and B has the target's kernel size; each weight
at each position of the kernel has coefficients of its own (da Cunha et al. 2022).  The constant is
read at the kernel's centre, where padding never reaches.
"""

import dataclasses
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import optimize

from lth_keras.core.masks import Array
from lth_keras.strong.choices import CHOICES
from lth_keras.strong.subset_sums import Flags, Floats

_ASSIGNED_AT_ONCE = 500  # Neurons, or one for each path if paths are more.
_Kind = TypeVar("_Kind", bound=np.generic)


@dataclasses.dataclass(frozen=True, eq=False)
class RandomLayers:
    """Two random layers and the masks under which they compute a target.

    Attributes:
      weights: "in_kernel" (inputs, hidden), "in_bias" (hidden,) if the target has a bias, and
        "out_kernel" (*taps, hidden, outputs); float32. Taps are the kernel size of a convolution.
      masks: a 0/1 array for each of them, uint8.
      errors: of each target weight, the largest of its paths', shape (*taps, inputs, outputs).
      bias_errors: of each target bias, shape (outputs,); zeros without a bias.
      scale: s, the out-weights' largest size.
    """

    weights: dict[str, npt.NDArray[np.float32]]
    masks: dict[str, npt.NDArray[np.uint8]]
    errors: Floats
    bias_errors: Floats
    scale: float

    @property
    def kept(self) -> int:
        """How many of the random weights are kept."""
        return sum(int(np.count_nonzero(mask)) for mask in self.masks.values())

    @property
    def size(self) -> int:
        """How many random weights there are."""
        return sum(mask.size for mask in self.masks.values())


def approximate(kernel: Array, bias: "Array | None", factor: int, signed: bool, *,
                rng: np.random.Generator, method: str = "subset_sum") -> RandomLayers:
    """Draws two random layers, and chooses the subnetwork of them that is nearest to a target.

    Args:
      kernel: the target's weights, shape (*taps, inputs, outputs): of a dense layer without taps.
      bias: the target's biases, shape (outputs,), or None.
      factor: the number of neurons for each path, >= 1.
      signed: whether inputs may be negative.
      rng: the generator that the layers are drawn from.
      method: one of `choices.CHOICES`.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> kernel = rng.uniform(-1, 1, (3, 2))
      >>> found = approximate(kernel, None, 16, signed=False, rng=rng)
      >>> bool(found.errors.max() < 1e-2), found.weights["in_kernel"].shape
      (True, (3, 48))
      >>> ours = {name: found.weights[name] * found.masks[name] for name in found.masks}
      >>> x = np.array([[0.2, 1.0, 0.5]])
      >>> y = np.maximum(x @ ours["in_kernel"], 0) @ ours["out_kernel"]
      >>> bool(np.abs(y - x @ kernel).max() <= (x @ found.errors).max() + 1e-6)
      True
    """
    *taps, inputs, outputs = kernel.shape
    flat = np.asarray(kernel, np.float64).reshape(-1, inputs, outputs)
    paths = _paths(flat, bias, signed, _centre(taps))
    scale = 2 * float(np.abs(paths.targets).max(initial=0)) or 1.0
    hidden = factor * len(paths.sources)
    rows = rng.uniform(-1, 1, (inputs + (bias is not None), hidden)).astype(np.float32)
    out = rng.uniform(-scale, scale, (len(flat), hidden, outputs)).astype(np.float32)

    neurons = _neurons(rows, paths, factor, method)
    places = paths.sources[:, None], neurons
    in_weights = (rows[places] * paths.signs[:, None]).astype(np.float64)
    kept, errors = _chosen(paths.targets / scale, in_weights,
                           out[:, neurons].astype(np.float64) / scale, method)
    row_masks, out_masks = np.zeros(rows.shape, np.uint8), np.zeros(out.shape, np.uint8)
    row_masks[places], out_masks[:, neurons] = kept.any(axis=(0, 3)), kept

    errors = errors * scale
    at_inputs = errors[:, :inputs * (1 + signed)].reshape(len(flat), -1, inputs, outputs)
    at_constant = errors[:, inputs * (1 + signed):]
    return RandomLayers(
        _named(rows, out, inputs, taps), _named(row_masks, out_masks, inputs, taps),
        at_inputs.max(axis=1).reshape(kernel.shape), at_constant.max(axis=(0, 1), initial=0), scale)


@dataclasses.dataclass(frozen=True, eq=False)
class _Paths:
    """The ways into a layer: which input each reads, with what sign, and the weights wanted."""

    sources: "npt.NDArray[np.intp]"  # The constant is an input after the others.
    signs: "npt.NDArray[np.intp]"
    targets: Floats  # (taps, paths, outputs).


def _paths(kernel: Floats, bias: "Array | None", signed: bool, centre: int) -> _Paths:
    count = kernel.shape[1]
    sources, signs = np.tile(np.arange(count), 1 + signed), np.ones(count * (1 + signed), int)
    signs[count:] = -1
    targets = kernel[:, sources] * signs[:, None]
    if bias is not None:
        constant = np.zeros((len(kernel), 1, kernel.shape[2]))
        constant[centre] = bias
        sources, signs = np.append(sources, count), np.append(signs, 1)
        targets = np.concatenate([targets, constant], axis=1)
    return _Paths(sources, signs, targets)


def _centre(taps: "list[int]") -> int:
    # The position of the middle of a kernel among its taps.
    return int(np.ravel_multi_index([(size - 1) // 2 for size in taps], taps)) if taps else 0


def _named(rows: "npt.NDArray[_Kind]", out: "npt.NDArray[_Kind]", inputs: int,
           taps: "list[int]") -> "dict[str, npt.NDArray[_Kind]]":
    bias = {"in_bias": rows[inputs]} if len(rows) > inputs else {}
    return {"in_kernel": rows[:inputs], **bias, "out_kernel": out.reshape(*taps, *out.shape[1:])}


def _neurons(rows: "npt.NDArray[np.float32]", paths: _Paths, factor: int,
             method: str) -> "npt.NDArray[np.intp]":
    # The neurons that serve each path, (paths, factor).
    count = len(paths.sources)
    if method == "malach":  # Which needs in-weights of every size, not large ones.
        return np.arange(count * factor).reshape(count, factor)
    # By blocks, since an assignment among all neurons of a wide layer would take minutes.
    found, each = np.empty((count, 0), np.intp), max(1, _ASSIGNED_AT_ONCE // count)
    for start in range(0, factor, each):
        block = np.arange(count * start, count * min(start + each, factor))
        values = rows[paths.sources[:, None], block] * paths.signs[:, None]
        copies = len(block) // count
        _, chosen = optimize.linear_sum_assignment(np.repeat(values, copies, axis=0), maximize=True)
        found = np.append(found, block[chosen].reshape(count, copies), axis=1)
    return found


def _chosen(targets: Floats, in_weights: Floats, out: Floats,
            method: str) -> tuple[Flags, Floats]:
    # Masks (taps, paths, factor, outputs) and errors (taps, paths, outputs).
    masks, errors = np.zeros(out.shape, bool), np.zeros(targets.shape)
    for tap, path in np.ndindex(targets.shape[:2]):
        wanted = targets[tap, path]
        if wanted.any():  # Nothing is kept for a zero, such as the constant beside the centre.
            first = np.broadcast_to(in_weights[path], (len(wanted), len(in_weights[path])))
            chosen, errors[tap, path] = CHOICES[method](wanted, first, out[tap, path].T)
            masks[tap, path] = chosen.T
    return masks, errors
