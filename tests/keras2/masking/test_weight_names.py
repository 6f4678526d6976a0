import networks
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import ARCHITECTURES

from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.wrap import prune_low_magnitude

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_built_twice_in_one_process_has_the_same_names_and_shapes(name):
    first, second = ({key: tuple(variable.shape) for key, variable
                      in weight_names.named_weights(model).items()}
                     for model in (networks.untouched(name)[0], ARCHITECTURES[name][0]()))
    assert first == second
    assert list(first) == list(second)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_has_one_name_which_wrapping_keeps(name):
    model, wrapped = networks.untouched(name)
    named = weight_names.named_weights(model)
    assert sorted(map(id, named.values())) == sorted(map(id, model.weights))
    assert {key: id(variable) for key, variable in weight_names.named_weights(wrapped).items()} \
        == {key: id(variable) for key, variable in named.items()}


@pytest.mark.parametrize("name", ["nested", "convolutional", "recurrent", "attention", "custom"])
def test_a_slot_is_where_its_layer_finds_the_weight(name):
    for slot in weight_names.slots(networks.untouched(name)[0]):
        held = tf.nest.flatten(getattr(slot.owner, slot.attribute))
        assert any(item is slot.variable for item in held)


def test_names_are_by_attribute_and_layers_numbered_within_their_model():
    keras.layers.Dense(1)  # Counts in Keras' own numbering.
    assert list(weight_names.named_weights(networks.nested())) == [
        "sequential/dense/kernel", "sequential/dense/bias",
        "sequential/sequential/dense/kernel", "sequential/sequential/dense/bias",
        "dense/kernel", "dense/bias"]
    assert list(weight_names.named_weights(networks.custom()))[:4] == [
        "odd/strange", "odd/shift", "own_dense/kernel", "own_dense/bias"]


def test_a_name_that_the_user_chose_is_kept_and_never_taken_twice():
    model = keras.Sequential([layers.Input((2,)), layers.Dense(2, name="encoder"),
                              layers.Dense(2, name="twin"), layers.Dense(2)])
    assert [name for name, _ in weight_names.named_layers(model.layers)] == ["encoder", "twin",
                                                                             "dense"]
    clash = [layers.Dense(1, name=name) for name in ("dense", "dense_1", "x")]
    clash[2]._name = "dense_1"
    named = [name for name, _ in weight_names.named_layers(clash)]
    assert len(set(named)) == 3


class Attentive(layers.Layer):
    """TensorFlow's own attributes of all that it tracks begin with _self_ too."""

    def __init__(self):
        super().__init__()
        self._self_attention_layer, self.last = layers.Dense(3), layers.Dense(2)

    def call(self, inputs):
        return self.last(self._self_attention_layer(inputs))


def test_layers_are_found_under_any_name_of_an_attribute():
    model = prune_low_magnitude(keras.Sequential([layers.Input((3,)), Attentive()]))
    assert list(weight_names.masked(model)) == ["attentive/self_attention_layer/kernel",
                                                "attentive/last/kernel"]


class _Private(layers.Dense):
    """Keras names it private__private, private__private_1, ..."""


class Deep(layers.Layer):
    """A weight that no attribute leads to at once."""

    def build(self, input_shape):
        self.pairs = [[self.add_weight("deep", (input_shape[-1], 2))]]

    def call(self, inputs):
        return inputs @ self.pairs[0][0]


def _with(layer):
    return keras.Sequential([layers.Input((3,)), layer, layers.Dense(2)])


@pytest.mark.parametrize("kind", [lambda: _Private(2), Deep], ids=["private", "deep"])
def test_private_classes_and_weights_that_lie_deep_are_named_too(kind):
    model = _with(kind())
    named = weight_names.named_weights(model)
    assert {id(variable) for variable in named.values()} == {id(weight) for weight in model.weights}


@pytest.mark.parametrize("kind", [lambda: _Private(2), Deep], ids=["private", "deep"])
def test_names_repeat_for_private_classes_and_for_weights_that_lie_deep(kind):
    first, second = (list(weight_names.named_weights(_with(kind()))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_masked_has_each_prunable_weight_with_its_mask_in_the_order_of_the_layers(name):
    found = weight_names.masked(networks.untouched(name)[1])
    assert list(found) == ARCHITECTURES[name][1]
    for item in found.values():
        assert item.mask.shape == item.weight.shape
        assert item.threshold.shape == ()


def test_what_is_known_of_a_prunable_weight():
    item = weight_names.masked(prune_low_magnitude(networks.functional()))["left/kernel"]
    assert (item.prunable.name, item.prunable.layer) == ("left/kernel", "left")
    assert (item.prunable.layer_type, item.prunable.output) == ("Dense", False)


def _two_heads():
    inputs = layers.Input((4,))
    trunk = layers.Dense(4, name="trunk")(inputs)
    return keras.Model(inputs, [layers.Dense(2, name="a")(trunk),
                                layers.Softmax()(layers.Dense(3, name="b")(trunk))])


def _nested_head():
    inputs = layers.Input((4,))
    head = keras.Sequential([layers.Input((4,)), layers.Dense(4, name="inside"),
                             layers.Dense(2, name="last"), layers.ReLU()])
    return keras.Model(inputs, head(layers.Dense(4, name="trunk")(inputs)))


def _residual():
    inputs = layers.Input((4,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    return keras.Model(inputs, layers.add([hidden, layers.Dense(4, name="step")(hidden)]))


def _bare_nested_end():
    inputs = layers.Input((4,))
    end = keras.Sequential([layers.Input((2,)), layers.ReLU()])
    return keras.Model(inputs, end(layers.Dense(2, name="last")(
        layers.Dense(3, name="first")(inputs))))


@pytest.mark.parametrize(("build", "expected"), [
    (_two_heads, {"a", "b"}), (_nested_head, {"last"}), (_residual, {"hidden", "step"}),
    (_bare_nested_end, {"last"})])
def test_output_layers_are_the_wrapped_ones_nearest_to_each_output(build, expected):
    model = prune_low_magnitude(build())
    assert {wrapper.layer.name for wrapper in weight_names.output_wrappers(model)} == expected


def test_a_shared_layer_that_also_makes_the_output_is_an_output():
    inputs, twice = layers.Input((4,)), layers.Dense(4, name="twice")
    model = prune_low_magnitude(keras.Model(inputs, twice(layers.Dense(4)(twice(inputs)))))
    assert [wrapper.layer.name for wrapper in weight_names.output_wrappers(model)] == ["twice"]
