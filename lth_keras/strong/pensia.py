"""Pensia et al.'s first experiment: each weight of a trained network as a sum of random numbers.

Each weight w has n coefficients from U[least weight, largest weight] of the network, and becomes
the sum of some of them.  They did that for a network of 784-500-10 on MNIST, with n = 21, by an
integer program for each weight, in 21.5 hours on 36 cores (arXiv:2006.07990).

Their text gives each weight coefficients of its own.  Their code draws one row of coefficients for
all weights into a neuron; `shared=True` does so too.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lth_keras.arguments import check_whole
from lth_keras.core import seeding
from lth_keras.core.masks import Array
from lth_keras.errors import LotteryError
from lth_keras.strong.subset_sums import Floats, MOST_COEFFICIENTS, subset_sum


@dataclasses.dataclass(frozen=True, eq=False)
class WeightSums:
    """The weights of a network as sums of random coefficients.

    Attributes:
      kernels: the sums, an array like each of the target's, float64.
      errors: how far each is from its target, likewise.
      kept: how many coefficients are kept in all.
      drawn: how many there are.
    """

    kernels: list[Floats]
    errors: list[Floats]
    kept: int
    drawn: int

    @property
    def largest_error(self) -> float:
        """How far the worst weight is from its target."""
        return max(float(errors.max(initial=0)) for errors in self.errors)

    @property
    def kept_per_weight(self) -> float:
        """Coefficients kept, over the number of weights."""
        return self.kept / sum(kernel.size for kernel in self.kernels)


def sums_of_weights(kernels: Sequence[Array], count: int, seed: int,
                    shared: bool = False) -> WeightSums:
    """Makes each weight of a network a sum of some of `count` random coefficients.

    Args:
      kernels: the network's kernels, each of shape (inputs, outputs).
      count: n, how many coefficients a weight has, in [1, 40]. With fewer from the same seed, the
        same come first.
      seed: of the coefficients.
      shared: whether all weights into a neuron have the same coefficients.

    Raises:
      LotteryError: if a kernel has another rank or a number is outside its range.

    Example:
      >>> kernel = np.linspace(-0.5, 0.5, 12).reshape(4, 3)
      >>> found = sums_of_weights([kernel], 16, seed=0)
      >>> found.largest_error < 0.01, found.drawn, 4 < found.kept_per_weight < 10
      (True, 192, True)
      >>> bool(np.abs(found.kernels[0] - kernel).max() == found.largest_error)
      True

    Reference: Pensia et al. 2020, arXiv:2006.07990.
    """
    sums, errors = [[np.zeros(np.shape(kernel)) for kernel in kernels] for _ in range(2)]
    kept = 0
    for layer, output, coefficients in _draws(kernels, count, seed, shared):
        targets = np.asarray(kernels[layer][:, output], np.float64)
        masks, _ = subset_sum(targets, coefficients)
        sums[layer][:, output] = np.where(masks, coefficients, 0).sum(axis=1)
        errors[layer][:, output] = np.abs(sums[layer][:, output] - targets)
        kept += int(np.count_nonzero(masks))
    return WeightSums(sums, errors, kept, count * sum(np.size(kernel) for kernel in kernels))


def least_counts(kernels: Sequence[Array], within: float, most: int, seed: int,
                 shared: bool = False) -> "list[npt.NDArray[np.int64]]":
    """Finds how many coefficients each weight needs, for a sum that is near enough.

    Args:
      kernels: the network's kernels, each of shape (inputs, outputs).
      within: the error that is allowed, > 0.
      most: how many coefficients to try, in [1, 40].
      seed: of the coefficients, which are those of `sums_of_weights`.
      shared: whether all weights into a neuron have the same coefficients.

    Returns:
      For each kernel an array like it: the least number, or most + 1 if all are not enough.

    Example:
      >>> kernel = np.linspace(-0.5, 0.5, 12).reshape(4, 3)
      >>> counts = least_counts([kernel], 0.01, 16, seed=0)[0]
      >>> worst = int(counts.max())
      >>> [sums_of_weights([kernel], n, seed=0).largest_error <= 0.01 for n in (worst - 1, worst)]
      [False, True]
    """
    if not within > 0:
        raise LotteryError(f"within must be above 0. Received: {within!r}.")
    found: list[npt.NDArray[np.int64]] = [
        np.full(np.shape(kernel), most + 1, np.int64) for kernel in kernels]
    for layer, output, coefficients in _draws(kernels, most, seed, shared):
        targets = np.asarray(kernels[layer][:, output], np.float64)
        left = np.arange(len(targets))
        # A weight that is near enough stays so: more coefficients have all subsets of fewer.
        for count in range(1, most + 1):
            rows = coefficients[:count] if shared else coefficients[left, :count]
            near = subset_sum(targets[left], rows)[1] <= within
            found[layer][left[near], output] = count
            left = left[~near]
            if not len(left):
                break
    return found


def _draws(kernels: Sequence[Array], count: int, seed: int,
           shared: bool) -> Iterator[tuple[int, int, Floats]]:
    # Layer, neuron, and the coefficients of its weights: (inputs, count), or (count,) if shared.
    check_whole("count", count, least=1)
    if count > MOST_COEFFICIENTS or any(np.ndim(kernel) != 2 for kernel in kernels):
        raise LotteryError(f"count must be at most {MOST_COEFFICIENTS}, and kernels of shape "
                           f"(inputs, outputs). Received: {count}, and kernels of "
                           f"{[np.shape(kernel) for kernel in kernels]}.")
    low = min(float(np.min(kernel)) for kernel in kernels)
    high = max(float(np.max(kernel)) for kernel in kernels)
    for layer, kernel in enumerate(kernels):
        for output in range(kernel.shape[1]):
            # A generator of each neuron's, and the counts in order: fewer are the first of more.
            rng = seeding.generator(seed, f"strong/{layer}/{output}")
            shape = (count,) if shared else (count, kernel.shape[0])
            yield layer, output, rng.uniform(low, high, shape).T
