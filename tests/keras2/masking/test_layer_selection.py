import pytest
import tensorflow_model_optimization as tfmot
import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.weight_names import TREE
from lth_keras.search.layer_selection import (
    check_selectors,
    matches,
    Selection,
    units,
    weights_of,
)

layers = keras.layers


def built(layer, shape=(None, 6)):
    layer.build(shape)
    return layer


@pytest.mark.parametrize("layer, shape, paths", [
    (layers.Dense(2), (None, 6), ["kernel"]),
    (layers.Conv2D(2, 3), (None, 5, 5, 3), ["kernel"]),
    (layers.SeparableConv2D(2, 3), (None, 5, 5, 3), ["depthwise_kernel", "pointwise_kernel"]),
    (layers.LSTM(2), (None, 4, 6), ["cell/kernel", "cell/recurrent_kernel"]),
    (layers.BatchNormalization(), (None, 6), []),
    (layers.PReLU(), (None, 6), []),
    (layers.Embedding(6, 2), (None, 3), []),
])
def test_kernels_of_trained_layers_are_prunable(layer, shape, paths):
    chosen, reasons = weights_of(built(layer, shape), TREE)
    assert [slot.path for slot in chosen] == paths
    assert len(chosen) + len(reasons) == len(layer.weights)


@pytest.mark.parametrize("layer, shape, reason", [
    (layers.Dense(2), (None, 6), "bias is of rank 1"),
    (layers.GRU(2), (None, 4, 6), "cell/bias is no kernel"),
    (layers.Embedding(6, 2), (None, 3), "embeddings is an embedding, off by default: name it in "
                                        "include"),
    (layers.Dense(2, trainable=False), (None, 6), "kernel is not trained: name its layer in "
                                                  "include to prune it all the same"),
])
def test_the_reason_why_a_weight_is_not(layer, shape, reason):
    assert reason in weights_of(built(layer, shape), TREE)[1]


@pytest.mark.parametrize("layer, shape, path", [
    (layers.Embedding(6, 2), (None, 3), "embeddings"),
    (layers.Dense(2, trainable=False), (None, 6), "kernel")])
def test_what_is_off_by_default_is_prunable_if_asked_for(layer, shape, path):
    assert [slot.path for slot in weights_of(built(layer, shape), TREE, included=True)[0]] == [path]


def test_a_layer_that_writes_into_its_kernel_itself_is_left_out():
    layer = built(layers.SpectralNormalization(layers.Dense(2)), (1, 6))
    assert weights_of(layer, TREE, included=True)[0] == []


@pytest.mark.parametrize("selector, found", [
    ("mine", True), ("Dense", True), (layers.Dense, True), (layers.Layer, True),
    (lambda layer: layer.units == 2, True), ("dense", False), (layers.Conv2D, False),
    (lambda layer: False, False)])
def test_a_selector_is_a_name_a_type_or_a_function(selector, found):
    assert matches(layers.Dense(2, name="mine"), [selector]) == [selector] * found


@pytest.mark.parametrize("value", ["dense", layers.Dense, len])
def test_a_single_selector_is_a_sequence_of_one(value):
    assert check_selectors(value, "include", TREE) == [value]


@pytest.mark.parametrize("value", [None, 3, 0.5, [3], ["dense", None], dict])
def test_what_is_no_selector_is_refused_by_the_arguments_name(value):
    with pytest.raises(LotteryError, match=r"exclude takes .*Received: "):
        check_selectors(value, "exclude", TREE)


def model():
    return keras.Sequential([
        layers.Input((6,)), layers.Dense(5, name="first"),
        keras.Sequential([layers.Input((5,)), layers.Dense(4, name="inside")], name="block"),
        layers.Dense(3, name="last", trainable=False)], name="outer")


def selected(network, **options):
    selection = Selection(TREE, **{"include": (), "exclude": (), **options})
    chosen = selection.weights(network)
    return [weight.name for weight in network.weights if id(weight) in chosen], selection


@pytest.mark.parametrize("options, names", [
    ({}, ["first", "inside"]),
    ({"include": "last"}, ["first", "inside", "last"]),
    ({"exclude": "first"}, ["inside"]),
    ({"exclude": "block"}, ["first"]),
    ({"include": "last", "exclude": layers.Dense}, []),
])
def test_exclude_outdoes_include_which_outdoes_the_default(options, names):
    assert selected(model(), **options)[0] == [f"{name}/kernel:0" for name in names]


def test_a_weight_that_is_excluded_in_one_layer_is_pruned_in_none():
    first, second = layers.Dense(6, name="a"), layers.Dense(6, name="b")
    network = keras.Sequential([layers.Input((6,)), first, second])
    second.kernel = first.kernel
    assert selected(network)[0] == ["a/kernel:0"]
    assert selected(network, exclude="b")[0] == []


def test_a_policy_says_which_layers_are_pruned():
    network = keras.Sequential([layers.Input((5, 5, 3)), layers.Conv2D(2, 1, name="small"),
                                layers.Conv2D(2, 3, name="wide")])
    names, selection = selected(
        network, policy=tfmot.sparsity.keras.PruneForLatencyOnXNNPack())
    assert names == ["small/kernel:0"]
    assert selection.reasons == ["wide (Conv2D): not allowed by PruneForLatencyOnXNNPack"]


@pytest.mark.parametrize("policy", [3, tfmot.sparsity.keras.PruneForLatencyOnXNNPack])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(LotteryError, match="must be a tfmot PruningPolicy"):
        Selection(TREE, (), (), policy)


def test_a_selector_that_means_no_layer_is_refused():
    network = model()
    _, selection = selected(network, include="nothing", exclude="first")
    with pytest.raises(LotteryError, match=r"Received: \['nothing'\]. Layers: first \(Dense\), "
                                           r"block \(Sequential\), block/inside"):
        selection.check_used(network)


@pytest.mark.parametrize("options, paths", [
    ({}, ["first", "block/inside", "last"]),
    ({"deep": False}, ["first", "block", "last"]),
    ({"nested": True}, ["first", "block", "block/inside", "last"]),
    ({"prefix": "x/"}, ["x/first", "x/block/inside", "x/last"])])
def test_the_layers_of_a_model_that_are_wrapped_as_a_whole(options, paths):
    assert [path for _, path in units(model(), TREE, **options)] == paths
