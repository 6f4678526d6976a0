"""M:N and blocks go by inputs and outputs: kernels in another order are refused."""

import either
import pytest
from either import PACKAGES

import lth_keras as lth

OTHERS = {
    "transposed": (lambda layers: layers.Conv2DTranspose(8, 1, name="up"), "up/kernel (of a "
                   "transposed convolution: outputs, inputs)"),
    "depthwise": (lambda layers: layers.DepthwiseConv2D(1, depth_multiplier=2, name="up"),
                  "up/depthwise_kernel (depthwise: channels, outputs of each alone)"),
    "separable": (lambda layers: layers.SeparableConv2D(8, 1, name="up"),
                  "up/depthwise_kernel (depthwise: channels, outputs of each alone)"),
    "equation": (lambda layers: layers.EinsumDense("abcx,yx->abcy", (5, 5, 8), name="up"),
                 "up/kernel (of an EinsumDense: yx of abcx,yx->abcy)"),
    "inside another": (lambda layers: layers.TimeDistributed(
        layers.Conv1DTranspose(4, 1), name="up"), "up/layer/kernel (of a transposed")}


def searched(package, layer, structure, fraction=0.5, exclude=()):
    layers = either.keras_of(package).layers
    model = either.keras_of(package).Sequential([
        layers.Input((5, 5, 4)), OTHERS[layer][0](layers), layers.Conv2D(8, 1, name="conv"),
        layers.Flatten(), layers.Dense(2, name="out")])
    options = {"structure": structure, "exclude": exclude}
    if package == "tf_keras":
        model, options = lth.prune_low_magnitude(model, **options), {}
    model.compile("sgd", "mse")
    return lth.Search(model, fraction=fraction, **options)


@PACKAGES
@pytest.mark.parametrize("structure", ["2:4", "block_1x2"])
@pytest.mark.parametrize("layer", OTHERS)
def test_a_kernel_whose_last_axes_are_others_is_refused_by_name(package, structure, layer):
    with pytest.raises(lth.LotteryError) as error:
        searched(package, layer, structure)
    if (layer, structure) == ("inside another", "2:4"):
        assert str(error.value).startswith("2:4 needs weights of rank 2 or 4")
        return
    assert str(error.value).startswith(f"{structure} needs weights whose last two axes are inputs")
    assert f"Received: {OTHERS[layer][1]}" in str(error.value)
    kept = searched(package, layer, structure, exclude="up")
    kept.prune_and_rewind()
    assert {name: mask.mean() for name, mask in kept.masks.items()} == {
        "conv/kernel": 0.5, "out/kernel": 0.5}
    dense = searched(package, layer, structure, fraction={"up": 0.0, "default": 0.5})
    assert all(not dense.rule.fractions[name] for name in dense.masks if name.startswith("up"))


@PACKAGES
def test_single_weights_of_any_kernel_are_pruned(package):
    for layer in OTHERS:
        search = searched(package, layer, None)
        search.prune_and_rewind()
        assert all(mask.mean() == 0.5 for mask in search.masks.values())


@PACKAGES
def test_an_equation_that_has_them_in_this_order_is_pruned(package, monkeypatch):
    monkeypatch.setitem(OTHERS, "usual", (lambda layers: layers.EinsumDense(
        "abcx,xy->abcy", (5, 5, 8), name="up"), ""))
    assert "up/kernel" in searched(package, "usual", "2:4").masks
