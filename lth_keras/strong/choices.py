"""Three ways to choose, among k random neurons, those that together compute one weight.

A neuron with in-weight u and out-weight v gives v * relu(u * x), which is u * v * x for x >= 0 if u
is positive, and else 0.  So neurons compute w * x if the products u * v of those that are kept sum
to w.  The ways differ in how many neurons they need for a given error:

    malach      one neuron with u near |w| and v near the sign of w    error ~ k^(-1/2)
    product     one neuron with u * v near w                           error ~ 1 / k
    subset_sum  any neurons, whose products sum to nearly w            error ~ 2^(-k)

Each is a function of targets of shape (n,), in [-1, 1], and of in-weights and out-weights of shape
(n, k): it gives masks (bool, of shape (n, k)) and errors (float64, of shape (n,)), as
`subset_sums.subset_sum` does.
"""

from collections.abc import Callable

import numpy as np

from lth_keras.arguments import check_choice, check_whole
from lth_keras.strong.subset_sums import Flags, Floats, subset_sum

Choose = Callable[[Floats, Floats, Floats], tuple[Flags, Floats]]


def malach(targets: Floats, in_weights: Floats, out_weights: Floats) -> tuple[Flags, Floats]:
    """Chooses the neuron whose in-weight is near |target| and whose out-weight is near its sign.

    Example:
      >>> weights = np.array([[0.4, 0.9]]), np.array([[-1.0, -0.6]])
      >>> masks, errors = malach(np.array([-0.5]), *weights)
      >>> masks.tolist(), errors.round(2).tolist()
      ([[True, False]], [0.1])

    Reference: Malach et al. 2020, arXiv:2002.00585, the proof of theorem 2.1.
    """
    distance = np.maximum(np.abs(in_weights - np.abs(targets)[:, None]),
                          np.abs(out_weights - np.where(targets < 0, -1, 1)[:, None]))
    return _one(distance, targets, in_weights, out_weights)


def product(targets: Floats, in_weights: Floats, out_weights: Floats) -> tuple[Flags, Floats]:
    """Chooses the neuron whose in-weight times its out-weight is nearest to the target.

    Example:
      >>> weights = np.array([[0.4, 0.9]]), np.array([[-1.0, -0.6]])
      >>> masks, errors = product(np.array([-0.5]), *weights)
      >>> masks.tolist(), errors.round(2).tolist()
      ([[False, True]], [0.04])
    """
    distance = np.abs(_products(in_weights, out_weights) - targets[:, None])
    return _one(distance, targets, in_weights, out_weights)


def subsets(targets: Floats, in_weights: Floats, out_weights: Floats) -> tuple[Flags, Floats]:
    """Chooses the neurons whose products of in-weight and out-weight sum to nearly the target.

    Example:
      >>> weights = np.array([[0.4, 0.9]]), np.array([[-1.0, -0.6]])
      >>> masks, errors = subsets(np.array([-0.9]), *weights)
      >>> masks.tolist(), errors.round(2).tolist()
      ([[True, True]], [0.04])

    Reference: Pensia et al. 2020, arXiv:2006.07990.
    """
    products = _products(in_weights, out_weights)
    masks, errors = subset_sum(targets, products)
    return masks & (products != 0), errors  # What adds nothing is not kept.


CHOICES: dict[str, Choose] = {"subset_sum": subsets, "malach": malach, "product": product}


def errors_at_width(method: str, width: int, draws: int, rng: np.random.Generator) -> Floats:
    """Draws targets from U[-1/2, 1/2] and neurons for each from U[-1, 1], and chooses among them.

    Half of the neurons have a negative in-weight, and so give nothing.

    Args:
      method: one of CHOICES.
      width: the number of neurons for each target, >= 1; at most 40 for "subset_sum".
      draws: the number of targets, >= 1.
      rng: the generator that they are drawn from.

    Returns:
      The error of each target, shape (draws,).

    Raises:
      LotteryError: if the method is unknown, or a number is too small or too large.

    Example:
      >>> rng = np.random.default_rng(0)
      >>> [float(np.median(errors_at_width(method, 16, 500, rng)).round(4)) for method in CHOICES]
      [0.003, 0.1105, 0.0484]
    """
    check_choice("method", method, CHOICES)
    check_whole("width", width, least=1)
    check_whole("draws", draws, least=1)
    targets = rng.uniform(-0.5, 0.5, draws)
    in_weights, out_weights = rng.uniform(-1, 1, (2, draws, width))
    return CHOICES[method](targets, in_weights, out_weights)[1]


def _products(in_weights: Floats, out_weights: Floats) -> Floats:
    products: Floats = np.maximum(in_weights, 0) * out_weights
    return products


def _one(distance: Floats, targets: Floats, in_weights: Floats,
         out_weights: Floats) -> tuple[Flags, Floats]:
    # The neuron at the least distance; none if it, too, is further from the target than 0 is.
    chosen = distance.argmin(axis=1)[:, None]
    value = np.take_along_axis(_products(in_weights, out_weights), chosen, 1)[:, 0]
    useful = np.abs(value - targets) < np.abs(targets)
    masks = np.arange(distance.shape[1]) == chosen
    return masks & useful[:, None], np.where(useful, np.abs(value - targets), np.abs(targets))
