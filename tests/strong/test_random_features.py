import numpy as np
import pytest

from lth_keras.errors import LotteryError
from lth_keras.strong.random_features import choose_neurons, METHODS, relu_neuron_errors


def case(seed=0, examples=60, neurons=12):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(examples, neurons)), rng.normal(size=examples)


def left(features, targets, factors):
    return np.sum((features @ factors - targets)**2)


def test_greedy_keeps_neurons_as_they_are_times_one_constant():
    factors = choose_neurons(*case())
    assert len(set(factors) - {0.0}) == 1


def test_greedy_adds_the_neuron_that_helps_most():
    features, targets = case()
    kept, best = [], np.sum(targets**2)
    while True:
        options = {}
        for neuron in set(range(12)) - set(kept):
            total = features[:, [*kept, neuron]].sum(axis=1)
            options[neuron] = np.sum((total * (total @ targets / (total @ total)) - targets)**2)
        neuron = min(options, key=options.get, default=None)
        if neuron is None or options[neuron] >= best:
            break
        kept, best = [*kept, neuron], options[neuron]
    factors = choose_neurons(features, targets)
    assert sorted(np.flatnonzero(factors)) == sorted(kept)
    assert left(features, targets, factors) == pytest.approx(best)


def test_non_negative_least_squares_is_optimal():
    features, targets = case()
    factors = choose_neurons(features, targets, "nnls")
    gradient = features.T @ (features @ factors - targets)
    assert (factors >= 0).all() and (factors == 0).any()
    assert (gradient >= -1e-4).all() and abs(gradient * factors).max() < 1e-4


def test_ridge_is_least_squares_nearly():
    features, targets = case()
    np.testing.assert_allclose(choose_neurons(features, targets, "ridge"),
                               np.linalg.lstsq(features, targets, rcond=None)[0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_features_of_nothing_get_nothing(method):
    assert not choose_neurons(np.zeros((5, 3)), np.ones(5), method).any()


@pytest.mark.parametrize(("features", "targets", "method", "says"), [
    (np.ones((3, 2)), np.ones(2), "ridge", r"Received: \(3, 2\) and \(2,\)"),
    (np.ones(3), np.ones(3), "ridge", "features must have shape"),
    (np.ones((3, 2)), np.ones(3), "lasso", "method must be one of ridge, nnls, greedy"),
])
def test_what_cannot_be_fitted_is_refused(features, targets, method, says):
    with pytest.raises(LotteryError, match=says):
        choose_neurons(features, targets, method)


def test_two_neurons_are_needed_for_each_input():
    with pytest.raises(LotteryError, match="width must be a whole number >= 8"):
        relu_neuron_errors(4, 7, np.random.default_rng(0))


def test_choosing_neurons_gets_as_good_as_random_features_with_more_of_them():
    # Claim B5 (a), for two inputs.
    def beyond_ridge(width):
        found = np.mean([[*relu_neuron_errors(2, width, np.random.default_rng(seed), METHODS,
                                              400).values()] for seed in range(4)], axis=0)
        return found[1:] - found[0]
    assert (beyond_ridge(64) < beyond_ridge(8) / 5).all()


def test_with_more_inputs_neurons_get_worse_and_weights_do_not():
    # Claim B5 (b).
    check_against_inputs((4, 8, 16), 512, ("ridge",), 1000)


@pytest.mark.thorough
def test_with_up_to_32_inputs_too():
    check_against_inputs((4, 8, 16, 32), 1024, ("ridge", "nnls", "greedy"), 2000)


def check_against_inputs(inputs, width, methods, examples):
    found = [relu_neuron_errors(each, width, np.random.default_rng(0), (*methods, "weights"),
                                examples) for each in inputs]
    for method in methods:
        errors = [each[method] for each in found]
        assert errors == sorted(errors) and errors[-1] > 3 * errors[0]
    assert max(each["weights"] for each in found) < 0.002
