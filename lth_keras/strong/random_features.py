"""What can be had by choosing whole neurons of a random network, and by choosing single weights.

A neuron that is kept keeps all its in-weights.  So a subnetwork of neurons is a sum of random
features, f(x) = c * the sum of v_j relu(w_j . x) over those that are kept, and no better than the
best such sum.  Random features cannot compute even one ReLU neuron unless there are exponentially
many of them in the number of inputs (Yehudai & Shamir 2019, arXiv:1904.00687), while a subnetwork
of weights can.  That is the second half of Malach et al. 2020 (arXiv:2002.00585).
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from lth_keras.arguments import check_choice, check_whole
from lth_keras.errors import LotteryError
from lth_keras.strong.random_layers import approximate
from lth_keras.strong.subset_sums import Floats

METHODS = ("ridge", "nnls", "greedy")
_PENALTY = 1e-6  # On squared factors, relative to the features' mean square.
_MOST_COEFFICIENTS = 20  # Of a weight in the subnetwork of weights; more only take longer.


def choose_neurons(features: Floats, targets: Floats, method: str = "greedy") -> Floats:
    """Fits targets by a sum of features, and says how much of each is in it.

    Args:
      features: what each neuron gives for each example, times its out-weight: shape (examples,
        neurons).
      targets: what is wanted for each example, shape (examples,).
      method: "greedy" keeps neurons as they are, times one constant for all: it adds the one that
        helps most until none does.  "nnls" gives each a factor >= 0 of its own, what keeping many
        copies of it comes to (Lawson & Hanson's non-negative least squares).  "ridge" gives each
        any factor: no subnetwork, the best there is to reach.  Both have the same small penalty.

    Returns:
      The factor of each neuron, float64 of shape (neurons,); 0 for those that are left out.

    Raises:
      LotteryError: if the method is unknown, or the shapes are others.

    Example:
      >>> features = np.array([[1.0, 0, 2], [0, 1, 1], [1, 1, -3]])
      >>> choose_neurons(features, np.array([0.5, 0.5, 1.0])).tolist()
      [0.5, 0.5, 0.0]
    """
    check_choice("method", method, METHODS)
    features, targets = (np.asarray(array, np.float64) for array in (features, targets))
    if features.ndim != 2 or targets.shape != features.shape[:1]:
        raise LotteryError("features must have shape (examples, neurons), and targets (examples,). "
                           f"Received: {features.shape} and {targets.shape}.")
    products, wanted = features.T @ features, features.T @ targets
    if method == "greedy":
        return _greedy(products, wanted)
    penalty = _PENALTY * max(float(np.mean(np.diag(products))), np.finfo(float).tiny)
    products = products + penalty * np.eye(len(products))
    if method == "ridge":
        return np.asarray(np.linalg.solve(products, wanted))
    # The same least squares in triangular form.  Without the penalty nnls may go round in circles
    # among features that are nearly dependent.
    upper = np.linalg.cholesky(products).T
    return np.asarray(optimize.nnls(upper, np.linalg.solve(upper.T, wanted),
                                    maxiter=30 * len(upper))[0])


def relu_neuron_errors(inputs: int, width: int, rng: np.random.Generator,
                       methods: Sequence[str] = (*METHODS, "weights"),
                       examples: int = 4000) -> dict[str, float]:
    """Computes one ReLU neuron by subnetworks of a random network with one hidden layer.

    The target is relu(w . x) with w of length 1, x is Gaussian, the network's in-weights are
    Gaussian and its out-weights are from U[-1, 1]; it has no biases.  For "weights", the
    network is that of `random_layers`, with as many hidden neurons or less.

    Args:
      inputs: d, the number of inputs, >= 1.
      width: the number of hidden neurons, at least 2 * inputs, since each weight needs neurons for
        positive and for negative inputs.
      rng: the generator that everything is drawn from.
      methods: of `choose_neurons`; or "weights": a subnetwork of weights, not of neurons.
      examples: how many x neurons are chosen by, and how many others errors are measured on.

    Returns:
      Method -> root mean square error on the other examples, relative to the target's root mean
      square: 0 is exact, 1 as bad as no network.

    Raises:
      LotteryError: if a method is unknown or a number too small.

    Example:
      >>> errors = relu_neuron_errors(8, 256, np.random.default_rng(0), examples=1000)
      >>> [(method, round(error, 2)) for method, error in errors.items()]
      [('ridge', 0.13), ('nnls', 0.14), ('greedy', 0.24), ('weights', 0.0)]
    """
    check_whole("inputs", inputs, least=1)
    check_whole("width", width, least=2 * inputs)
    check_whole("examples", examples, least=1)
    for method in methods:
        check_choice("method", method, (*METHODS, "weights"))
    neuron = rng.normal(size=inputs)
    neuron /= np.linalg.norm(neuron)
    x, other = rng.normal(size=(2, examples, inputs))
    in_weights, out_weights = rng.normal(size=(inputs, width)), rng.uniform(-1, 1, width)
    targets, wanted = np.maximum(x @ neuron, 0), np.maximum(other @ neuron, 0)
    features = np.maximum(x @ in_weights, 0) * out_weights

    def found(method: str) -> Floats:
        if method == "weights":
            return _by_weights(neuron, width, other, rng)
        return np.asarray(np.maximum(other @ in_weights, 0)
                          @ (out_weights * choose_neurons(features, targets, method)))
    return {method: float(np.sqrt(np.mean((found(method) - wanted)**2) / np.mean(wanted**2)))
            for method in methods}


def _greedy(products: Floats, wanted: Floats) -> Floats:
    # Of a set of neurons with sum s, the best constant leaves |y|^2 - (s . y)^2 / |s|^2 of the
    # error: one that has most of what is subtracted is added, until it would not grow.
    kept = np.zeros(len(wanted), bool)
    along, square, with_all = 0.0, 0.0, np.zeros(len(wanted))
    gained = 0.0
    for _ in range(len(wanted)):
        squares = square + 2 * with_all + np.diag(products)
        gains = np.where(kept | (squares <= 0), -np.inf,
                         (along + wanted)**2 / np.where(squares > 0, squares, 1))
        best = int(gains.argmax())
        if gains[best] <= gained * (1 + 1e-12):
            break
        along, square, gained = along + wanted[best], squares[best], gains[best]
        with_all, kept[best] = with_all + products[best], True
    return kept * (along / square if square else 0.0)


def _by_weights(neuron: Floats, width: int, x: Floats, rng: np.random.Generator) -> Floats:
    # What a subnetwork of weights gives for x instead of the neuron.
    factor = min(width // (2 * len(neuron)), _MOST_COEFFICIENTS)
    layers = approximate(neuron[:, None], None, factor, True, rng=rng)
    ours = {name: value.astype(np.float64) * layers.masks[name]
            for name, value in layers.weights.items()}
    hidden = np.maximum(x @ ours["in_kernel"], 0)
    found: Floats = np.maximum(hidden @ ours["out_kernel"][:, 0], 0)
    return found
