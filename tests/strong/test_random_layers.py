import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_keras.strong.choices import CHOICES
from lth_keras.strong.random_layers import approximate


def computed(layers, x):
    ours = {name: value.astype(np.float64) * layers.masks[name]
            for name, value in layers.weights.items()}
    return np.maximum(x @ ours["in_kernel"] + ours.get("in_bias", 0), 0) @ ours["out_kernel"]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6)),
       st.booleans(), st.booleans(), st.sampled_from(sorted(CHOICES)))
def test_the_subnetwork_is_within_the_errors_that_are_told(seed, sizes, signed, biased, method):
    rng, (inputs, outputs, factor) = np.random.default_rng(seed), sizes
    kernel = rng.normal(size=(inputs, outputs)) * (rng.random((inputs, outputs)) < 0.8)
    bias = rng.normal(size=outputs) if biased else None
    found = approximate(kernel, bias, factor, signed, rng=rng, method=method)
    x = rng.uniform(-3 if signed else 0, 3, (20, inputs))
    wrong = abs(computed(found, x) - (x @ kernel + (bias if biased else 0)))
    assert (wrong <= abs(x) @ found.errors + found.bias_errors + 1e-9).all()
    # The errors told are reached, by the inputs one at a time.
    reached = np.max([abs(computed(found, sign * np.eye(inputs)) - computed(
        found, np.zeros((1, inputs))) - sign * kernel) for sign in ((1, -1) if signed else (1,))],
        axis=0)
    np.testing.assert_allclose(reached, found.errors, atol=1e-9)
    constant = computed(found, np.zeros((1, inputs)))[0] - (bias if biased else 0)
    np.testing.assert_allclose(abs(constant), found.bias_errors, atol=1e-9)


@pytest.mark.parametrize(("signed", "biased"), itertools.product([False, True], repeat=2))
def test_shapes_and_counts(signed, biased):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 4))
    found = approximate(kernel, kernel[0] if biased else None, 6, signed, rng=rng)
    hidden = 6 * (5 * (1 + signed) + biased)
    shapes = {"in_kernel": (5, hidden), "in_bias": (hidden,), "out_kernel": (hidden, 4)}
    if not biased:
        del shapes["in_bias"]
    for arrays in (found.weights, found.masks):
        assert {name: value.shape for name, value in arrays.items()} == shapes
    assert {value.dtype.name for value in found.weights.values()} == {"float32"}
    assert {value.dtype.name for value in found.masks.values()} == {"uint8"}
    assert found.size == sum(np.prod(shape) for shape in shapes.values())
    assert found.kept == sum(value.sum(dtype=int) for value in found.masks.values())
    # A hidden neuron keeps one in-weight, or is not kept at all.
    rows = np.concatenate([found.masks["in_kernel"], found.masks["in_bias"][None]]) if biased \
        else found.masks["in_kernel"]
    assert set(rows.sum(axis=0)) <= {0, 1}
    np.testing.assert_array_equal(rows.any(axis=0), found.masks["out_kernel"].any(axis=1))
    assert abs(found.weights["in_kernel"]).max() <= 1
    assert abs(found.weights["out_kernel"]).max() <= found.scale == 2 * abs(kernel).max()


def test_a_convolution_is_one_dense_layer_for_each_place_of_its_kernel():
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=5)
    found = approximate(kernel, bias, 12, True, rng=rng)
    assert found.weights["in_kernel"].shape == (4, 12 * 9)
    assert found.weights["out_kernel"].shape == (3, 2, 12 * 9, 5)
    assert found.errors.shape == kernel.shape and found.errors.max() < 0.2
    ours = {name: value.astype(np.float64) * found.masks[name]
            for name, value in found.weights.items()}
    for tap in np.ndindex(3, 2):
        x = rng.uniform(-1, 1, (10, 4))
        hidden = np.maximum(x @ ours["in_kernel"] + ours["in_bias"], 0)
        wrong = abs(hidden @ ours["out_kernel"][tap] - x @ kernel[tap]
                    - (bias if tap == (1, 0) else 0))
        assert (wrong <= abs(x) @ found.errors[tap] + found.bias_errors + 1e-9).all()


def test_nothing_is_kept_for_zeros():
    found = approximate(np.zeros((3, 2)), np.zeros(2), 4, False, rng=np.random.default_rng(0))
    assert found.kept == 0 and found.errors.max() == 0 and found.scale == 1


def test_the_same_generator_gives_the_same_layers():
    kernel = np.random.default_rng(0).normal(size=(3, 2))
    one, other, third = (approximate(kernel, None, 8, True, rng=np.random.default_rng(seed))
                         for seed in (1, 1, 2))
    for name, value in one.weights.items():
        np.testing.assert_array_equal(value, other.weights[name])
        np.testing.assert_array_equal(one.masks[name], other.masks[name])
    assert (one.weights["out_kernel"] != third.weights["out_kernel"]).any()


def deep(kernels, x, layers=None):
    for index, kernel in enumerate(kernels):
        x = x @ kernel if layers is None else computed(layers[index], x)
        if index < len(kernels) - 1:
            x = np.maximum(x, 0)
    return x


@pytest.mark.parametrize("depth", [2, 3])
def test_ten_random_targets_are_computed_to_a_hundredth_in_the_unit_ball(depth):
    # Claim B4: networks as in Malach et al.'s theorem 2.1, d = 8 and n = 16.
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sizes = [8, *[16] * (depth - 1), 1]
        kernels = [rng.uniform(-1, 1, pair) / np.sqrt(pair[0])
                   for pair in itertools.pairwise(sizes)]
        kernels = [kernel / max(1, np.linalg.norm(kernel, 2)) for kernel in kernels]
        worst = {}
        for factor in ((16,) if seed else (4, 16)):
            layers = [approximate(kernel, None, factor, index == 0, rng=rng)
                      for index, kernel in enumerate(kernels)]
            x = rng.normal(size=(1000, 8))
            x *= rng.random((1000, 1))**(1 / 8) / np.linalg.norm(x, axis=1, keepdims=True)
            x[:500] /= np.linalg.norm(x[:500], axis=1, keepdims=True)
            worst[factor] = abs(deep(kernels, x, layers) - deep(kernels, x)).max()
            weights = sum(kernel.size for kernel in kernels) + kernels[0].size
            assert sum(each.kept for each in layers) <= weights * factor * 0.75
        assert worst[16] < 0.01 and worst[16] < worst.get(4, 1)


def test_neurons_serve_where_their_weights_are_large():
    kernel = np.random.default_rng(0).normal(size=(60, 2))
    served = {}
    for method in ("subset_sum", "malach"):
        found = approximate(kernel, None, 3, True, rng=np.random.default_rng(0), method=method)
        served[method] = abs(found.weights["in_kernel"][found.masks["in_kernel"] == 1])
    assert served["subset_sum"].mean() > 0.95
    assert served["malach"].mean() < 0.75
