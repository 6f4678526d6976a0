"""Which channels belong together, on models small enough to be read by eye."""

import keras as keras3
import numpy as np
import pytest
import tf_keras

from lth_keras.errors import LotteryError
from lth_keras.graph.coupling import couple
from lth_keras.keras2.masking import weight_names
from lth_keras.keras3 import weights


@pytest.fixture(params=["tf_keras", "keras3"])
def keras(request):
    return {"tf_keras": tf_keras, "keras3": keras3}[request.param]


def coupled(model, dense=()):
    """The coupling of a model, all of whose kernels may lose filters but those of some layers."""
    named = (weight_names if type(model).__module__.startswith("tf_keras") else weights
             ).named_weights(model)
    kept = {name for name in named if name.split("/")[0] in dense}
    return couple(model, {id(each): name for name, each in named.items()},
                  {id(each) for name, each in named.items() if name not in kept})


def units(group):
    """Weight and axis -> the unit of each index, of what is masked."""
    return {(member.weight, member.axis): member.units.tolist() for member in group.members
            if member.role != "statistic"}


def test_a_unit_has_its_column_its_bias_and_the_rows_that_read_it(keras):
    layers = keras.layers
    found = coupled(keras.Sequential([
        layers.Input((4,)), layers.Dense(2, "relu", name="a"), layers.Dense(3, name="b")]))
    group, = found.groups
    assert group.layers == ("a",)
    assert units(group) == {("a/kernel", 1): [0, 1], ("a/bias", 0): [0, 1],
                            ("b/kernel", 0): [0, 1]}
    assert found.dense == {"b": "it makes an output of the model"}


def test_what_is_added_is_pruned_together(keras):
    layers = keras.layers
    inputs = layers.Input((4,))
    x = layers.Dense(2, name="a")(inputs)
    y = layers.Dense(2, name="b")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.Dense(1, name="c")(layers.Add()([x, y])))
    group, = coupled(model).groups
    assert group.layers == ("a", "b") and group.size == 2
    assert units(group)["b/kernel", 0] == units(group)["b/kernel", 1] == [0, 1]
    # One that stays dense keeps the other.
    with pytest.raises(LotteryError, match="a: b is excluded, or not pruned by default"):
        coupled(model, dense=("b",))


def test_what_is_joined_is_read_by_its_own_rows(keras):
    layers = keras.layers
    inputs = layers.Input((4,))
    joined = layers.Concatenate()([layers.Dense(2, name="a")(inputs),
                                   layers.Dense(3, name="b")(inputs)])
    first, second = coupled(keras.Model(inputs, layers.Dense(1, name="c")(joined))).groups
    assert units(first)["c/kernel", 0] == [0, 1, -1, -1, -1]
    assert units(second)["c/kernel", 0] == [-1, -1, 0, 1, 2]


def test_a_flattened_filter_has_a_row_for_each_place(keras):
    layers = keras.layers
    group, = coupled(keras.Sequential([
        layers.Input((2, 1, 1)), layers.Conv2D(2, 1, use_bias=False, name="a"),
        layers.BatchNormalization(name="n"), layers.Flatten(), layers.Dense(1, name="b")])).groups
    assert units(group) == {("a/kernel", 3): [0, 1], ("n/gamma", 0): [0, 1], ("n/beta", 0): [0, 1],
                            ("b/kernel", 0): [0, 1, 0, 1]}
    assert [member.role for member in group.members if member.weight == "n/gamma"] == ["scale"]
    assert {member.weight for member in group.members if member.role == "statistic"} == {
        "n/moving_mean", "n/moving_variance"}


def test_the_filters_of_all_groups_of_a_convolution_go_together(keras):
    layers = keras.layers
    first, second = coupled(keras.Sequential([
        layers.Input((5, 3)), layers.Conv1D(4, 1, name="a"),
        layers.Conv1D(6, 2, groups=2, name="b"), layers.Flatten(),
        layers.Dense(1, name="c")])).groups
    assert first.size == 2 and units(first)["a/kernel", 2] == [0, 1, 0, 1]
    assert units(first)["b/kernel", 1] == [0, 1]
    assert second.size == 3 and units(second)["b/kernel", 2] == [0, 1, 2, 0, 1, 2]


def test_a_depthwise_convolution_goes_with_what_it_reads(keras):
    layers = keras.layers
    group, = coupled(keras.Sequential([
        layers.Input((4, 4, 1)), layers.Conv2D(2, 1, name="a"),
        layers.DepthwiseConv2D(2, depth_multiplier=2, name="d"), layers.Conv2D(1, 1, name="b"),
    ])).groups
    assert group.layers == ("a",)
    assert units(group)["d/depthwise_kernel", 2] == [0, 1]
    assert units(group)["d/bias", 0] == units(group)["b/kernel", 2] == [0, 0, 1, 1]


def test_a_recurrent_unit_has_its_gates_and_what_it_feeds_back(keras):
    layers = keras.layers
    group, = coupled(keras.Sequential([
        layers.Input((5, 3)), layers.LSTM(2, name="a"), layers.Dense(1, name="b")])).groups
    found = {(name.removeprefix("a/cell/"), axis): of for (name, axis), of in units(group).items()}
    every = [0, 1] * 4
    assert found == {("kernel", 1): every, ("bias", 0): every, ("recurrent_kernel", 0): [0, 1],
                     ("recurrent_kernel", 1): every, ("b/kernel", 0): [0, 1]}
    assert [member.weight for member in group.filters] == ["a/cell/kernel"]


def test_heads_of_attention_are_units(keras):
    layers = keras.layers
    inputs = layers.Input((5, 6))
    x = layers.MultiHeadAttention(2, 3, name="a")(inputs, inputs)
    found = coupled(keras.Model(inputs, layers.LayerNormalization(name="n")(x)))
    group, = found.groups
    assert group.size == 2 and {name.split("/")[1] for name, _ in units(group)} == {
        "query_dense", "key_dense", "value_dense", "output_dense"}
    assert units(group)["a/output_dense/kernel", 0] == [0, 1]


def test_a_layer_that_is_called_twice_has_one_set_of_units(keras):
    layers = keras.layers
    inputs = layers.Input((4,))
    twice = layers.Dense(2, name="twice")
    x = layers.Add()([twice(layers.Dense(3, name="a")(inputs)),
                      twice(layers.Dense(3, name="b")(inputs))])
    found = coupled(keras.Model(inputs, layers.Dense(1, name="c")(x)))
    assert {frozenset(group.layers) for group in found.groups} == {
        frozenset({"a", "b"}), frozenset({"twice"})}


def test_a_model_within_a_model_is_opened(keras):
    layers = keras.layers
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(3, name="within")], name="inner")
    model = keras.Sequential([layers.Input((2,)), layers.Dense(4, name="a"), inner,
                              layers.Dense(1, name="b")])
    assert [group.layers for group in coupled(model).groups] == [("a",), ("within",)]


@pytest.mark.parametrize(("make", "reason"), [
    (lambda layers: layers.LayerNormalization(name="n"), "n: what a LayerNormalization does"),
    (lambda layers: layers.Dense(3, "softmax", name="n"), "n: its activation is not known to work"),
])
def test_what_is_not_known_keeps_what_it_reads_and_is_named(keras, make, reason):
    layers = keras.layers
    model = keras.Sequential([layers.Input((2,)), layers.Dense(4, name="a"), make(layers),
                              layers.Dense(5, name="free"), layers.Dense(1, name="b")])
    found = coupled(model)
    assert ("free",) in [group.layers for group in found.groups]
    kept = {**found.dense}
    assert any(text.startswith(reason) for text in kept.values()), kept


def test_layers_that_share_a_kernel_keep_their_filters(keras):
    layers = keras.layers
    inputs = layers.Input((4,))
    one, other = (layers.Dense(4, name=name) for name in "ab")
    x = other(one(inputs))
    model = keras.Model(inputs, layers.Dense(1, name="c")(layers.Dense(5, name="free")(x)))
    if keras is tf_keras:
        other.kernel = one.kernel
    else:
        other._tracker.unlock()
        other._kernel = one._kernel
    found = coupled(model)
    assert [group.layers for group in found.groups] == [("free",)]
    assert "shares a weight with b" in found.dense["a"]


def test_a_subclassed_model_and_one_without_filters_are_refused(keras):
    layers = keras.layers

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs)
    own = Own()
    own(np.ones((1, 3), np.float32))
    with pytest.raises(LotteryError, match="whose graph is its code"):
        coupled(own)
    with pytest.raises(LotteryError, match="nothing is:\n  only: it makes an output"):
        coupled(keras.Sequential([layers.Input((2,)), layers.Dense(1, name="only")]))
