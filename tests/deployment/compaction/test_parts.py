"""The parts of a compaction, each on a case small enough to be worked out by hand."""

import numpy as np
import pytest
import tf_keras as keras

from lth_keras.deployment.compaction import channels, layer_parts
from lth_keras.deployment.compaction.compact import compact
from lth_keras.files.ticket import Ticket
from lth_keras.graph import model_graph, registry
from lth_keras.graph.call import Call
from lth_keras.graph.operations import Channelwise, Linear, Opaque

layers = keras.layers


def model():
    """Three units: the first alone is both fed and read."""
    built = keras.Sequential([layers.Input((2,)), layers.Dense(3, "relu", name="a"),
                              layers.Dense(1, name="b")])
    built.set_weights([np.array([[1, 0, 1], [1, 0, 1.0]]), np.array([0, 2.0, 0]),
                       np.array([[3], [4], [0.0]]), np.zeros(1)])
    return built


def test_a_graph_has_a_tensor_a_node_and_needs_its_outputs():
    graph = model_graph.read(model())
    assert graph.widths == [2, 3, 1] and graph.outputs == (2,) and not graph.left
    assert [type(operation) for operation in graph.operations] == [Opaque, Linear, Linear, Opaque]
    assert [(each.source, each.target) for each in graph.operations[1:3]] == [(0, 1), (1, 2)]
    assert graph.operations[-1].sources == (2,) and graph.operations[-1].targets == ()


def test_the_layers_built_again_have_the_channels_that_are_kept():
    built = model()
    graph = model_graph.read(built)
    found = channels.analyse(graph.widths, graph.operations)
    assert [kept.tolist() for kept in found.kept] == [[True] * 2, [True, False, False], [True]]
    parts = [layer_parts.part(node.layer, operations, found)
             for node, operations in zip(graph.nodes, graph.calls, strict=True)]
    assert parts[0].layer is graph.nodes[0].layer and not parts[0].weights
    assert parts[1].layer.units == 1 and parts[1].before is None
    np.testing.assert_array_equal(parts[1].weights["kernel"], [[1], [1]])
    np.testing.assert_array_equal(parts[2].weights["kernel"], [[3]])
    np.testing.assert_array_equal(parts[2].weights["bias"], [8])  # 4 * relu(2).


@pytest.mark.parametrize(("layer", "widths", "width", "origins"), [
    (layers.Flatten(), (2,), 4, [[0, 1, 0, 1]]),
    (layers.ReLU(), (3,), 3, [[0, 1, 2]]),
    (layers.Add(), (2, 2), 2, [[0, 1], [0, 1]]),
    (layers.Concatenate(), (1, 2), 3, [[0, -1, -1], [-1, 0, 1]])])
def test_the_channels_that_an_output_channel_is_made_of(layer, widths, width, origins):
    rank = 3 if isinstance(layer, layers.Flatten) else 2
    found, = registry.read(Call(layer, tuple(range(len(widths))), 9,
                                tuple((rank, each) for each in widths), (2, width)))
    assert isinstance(found, Channelwise) and found.target == 9
    assert [each.tolist() for each in found.origins] == origins


def test_zero_times_anything_is_zero_and_padding_keeps_zeros_alone():
    pair = [np.array([0.0, 2.0, np.nan]), np.array([np.nan, 3.0, 1.0])]
    read = registry.read
    product, = read(Call(layers.Multiply(), (0, 1), 2, ((2, 3),) * 2, (2, 3)))
    np.testing.assert_array_equal(product.constants(pair), [0, 6, np.nan])
    padded, = read(Call(layers.ZeroPadding2D(), (0,), 1, ((4, 3),), (4, 3)))
    np.testing.assert_array_equal(padded.constants(pair[:1]), [0, np.nan, np.nan])


def test_a_subclass_of_a_known_layer_is_not_known():
    class Own(layers.ReLU):
        pass
    assert "what a Own does" in registry.read(Call(Own(), (0,), 1, ((2, 3),), (2, 3)))


def test_a_ticket_of_a_smaller_model_has_zeros_for_a_bias_that_was_created():
    built = keras.Sequential([layers.Input((2,)), layers.Dense(2, "sigmoid", name="a"),
                              layers.Dense(1, use_bias=False, name="b")])
    weights = {"a/kernel": np.array([[0, 1], [0, 1.0]]), "a/bias": np.zeros(2),
               "b/kernel": np.array([[2], [3.0]])}
    ticket = Ticket(weights, {"a/kernel": np.array([[0, 1], [0, 1]], np.uint8),
                              "b/kernel": np.ones((2, 1), np.uint8)}, level=1)
    built.set_weights(list(weights.values()))
    found = compact(built)
    small = found.ticket(ticket)
    assert {name: value.tolist() for name, value in small.weights.items()} == {
        "a/kernel": [[1], [1]], "a/bias": [0], "b/kernel": [[3]], "b/bias": [0]}
    assert small.masks["a/kernel"].tolist() == [[1], [1]]
    assert float(found.model.layers[-1].bias[0]) == 1.0  # 2 x sigmoid(0).
    small.apply(found.model)


def test_a_ticket_has_what_is_left_of_a_separable_kernel_whose_inputs_are_gathered():
    built = keras.Sequential([layers.Input((3, 3)), layers.SeparableConv1D(
        1, 2, depth_multiplier=2, name="a")])
    depthwise, pointwise, bias = np.ones((2, 3, 2)), np.arange(6.0).reshape(1, 6, 1), np.zeros(1)
    depthwise[:, 1] = 0
    built.set_weights([depthwise, pointwise, bias])
    names = ("a/depthwise_kernel", "a/pointwise_kernel", "a/bias")
    found = compact(built, take_inputs=True)
    assert found.inputs == {"a": (3, 2)}
    small = found.ticket(Ticket(dict(zip(names, built.get_weights(), strict=True)),
                                {names[0]: np.uint8(depthwise)}, level=1))
    assert small.weights["a/pointwise_kernel"].ravel().tolist() == [0, 1, 4, 5]
    for name, weight in zip(names, found.model.get_weights(), strict=True):
        np.testing.assert_array_equal(small.weights[name], weight)


def test_shifts_of_filters_without_weights_are_dropped_only_if_asked_and_that_is_said():
    built = keras.Sequential([
        layers.Input((4, 4, 1)), layers.Conv2D(2, 1, use_bias=False, name="a"),
        layers.BatchNormalization(name="n"), layers.ReLU(),
        layers.Conv2D(1, 3, padding="same", name="b")])
    built.get_layer("a").set_weights([np.array([[[[1.0, 0.0]]]])])
    norm = built.get_layer("n")
    norm.beta.assign([0.5, 3.0])
    exact, dropped = compact(built), compact(built, ignore_shifts=True)
    assert not exact.removed and any("border differ" in each for each in exact.left)
    assert dropped.removed == {"a": (2, 1)}
    assert dropped.left[0] == ("b: 1 constant input taken for zero, so predictions are not the "
                               "same (ignore_shifts)")
    # Li et al.'s form: the filter, its normalisation and the rows that read it are gone.
    assert [weight.shape.as_list() for weight in dropped.model.weights] == [
        [1, 1, 1, 1], [1], [1], [1], [1], [3, 3, 1, 1], [1]]
    np.testing.assert_array_equal(dropped.model.get_layer("n").beta, [0.5])
    np.testing.assert_array_equal(dropped.model.get_layer("b").bias, built.get_layer("b").bias)
