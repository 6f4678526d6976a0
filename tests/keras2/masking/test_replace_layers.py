import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.keras2.masking.replace_layers import replace_layers

X = tf.ones((2, 3))
Pair = collections.namedtuple("Pair", ["first", "second"])


class Doubled(keras.layers.Wrapper):
    """Stands for a Dense layer: twice its output."""

    def call(self, inputs):
        return 2 * self.layer(inputs)


def doubled(layer):
    return Doubled(layer) if isinstance(layer, keras.layers.Dense) else layer


class Held(keras.Model):
    """Layers in an attribute, a list, a dict and a named tuple; one of them twice."""

    def __init__(self):
        super().__init__()
        self.one = keras.layers.Dense(3, name="one")
        self.many = [keras.layers.Dense(3, name="many"), self.one]
        self.by_name = {"again": self.one, "relu": keras.layers.ReLU()}
        self.pair = Pair(keras.layers.Dense(3, name="first"), 5)
        self.mean = keras.metrics.Mean()

    def call(self, inputs):
        for layer in (self.one, *self.many, *self.by_name.values(), self.pair.first):
            inputs = layer(inputs)
        return inputs


def sequential():
    return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4), keras.layers.ReLU()])


def functional():
    inputs = keras.layers.Input((3,))
    shared = keras.layers.Dense(3)
    return keras.Model(inputs, keras.layers.Add()([shared(inputs), shared(shared(inputs))]))


def nested():
    inputs = keras.layers.Input((3,))
    return keras.Model(inputs, keras.layers.ReLU()(sequential()(inputs)))


@pytest.mark.parametrize("make", [sequential, functional, nested])
def test_without_a_substitute_a_graph_is_built_again_around_the_same_layers(make):
    model = make()
    again = replace_layers(model, lambda layer: layer)
    assert again is not model and type(again) is type(model)
    assert [id(weight) for weight in again.weights] == [id(weight) for weight in model.weights]
    np.testing.assert_array_equal(again(X), model(X))


def test_a_substitute_takes_the_layers_place_in_a_new_sequential_model():
    model = sequential()
    new = replace_layers(model, doubled)
    assert [type(layer) for layer in new.layers] == [Doubled, keras.layers.ReLU]
    assert [type(layer) for layer in model.layers] == [keras.layers.Dense, keras.layers.ReLU]
    np.testing.assert_allclose(new(X), 2 * model(X))


def test_a_layer_that_is_shared_gets_one_substitute():
    model = functional()
    new = replace_layers(model, doubled)
    assert [type(layer) for layer in new.layers].count(Doubled) == 1
    shared = model.layers[1]
    np.testing.assert_allclose(new(X), 2 * shared(X) + 2 * shared(2 * shared(X)), rtol=1e-6)


def test_layers_of_nested_models_are_replaced():
    model = nested()
    new = replace_layers(model, doubled)
    assert isinstance(new.layers[1].layers[0], Doubled)
    np.testing.assert_allclose(new(X), 2 * model(X))


def test_a_subclassed_model_is_changed_in_place_wherever_it_holds_layers():
    model = Held()
    model(X)
    names = [weight.name for weight in model.weights]
    assert replace_layers(model, doubled) is model
    assert isinstance(model.one, Doubled) and model.one.layer.name == "one"
    assert model.many[1] is model.one and model.by_name["again"] is model.one
    assert isinstance(model.many[0], Doubled) and isinstance(model.pair.first, Doubled)
    assert isinstance(model.pair, Pair) and model.pair.second == 5
    assert type(model.by_name["relu"]) is keras.layers.ReLU
    assert type(model.mean) is keras.metrics.Mean
    assert [weight.name for weight in model.weights] == names


def test_programs_that_were_traced_with_the_old_layers_are_traced_anew():
    model = Held()
    before = model.predict(X, verbose=0)
    replace_layers(model, doubled)
    np.testing.assert_array_equal(model.predict(X, verbose=0), model(X))
    assert not np.array_equal(model.predict(X, verbose=0), before)


def test_a_model_that_holds_itself_is_no_endless_loop():
    model = Held()
    model.one.model = [model]
    assert replace_layers(model, lambda layer: layer) is model


def test_a_functional_model_of_the_users_class_keeps_class_and_attributes():
    class Mine(keras.Model):
        def rate(self):
            return self.note

    inputs = keras.layers.Input((3,))
    model = Mine(inputs, keras.layers.Dense(2)(inputs))
    model.note = {"rate": 0.5}
    new = replace_layers(model, doubled)
    assert type(new) is Mine and new is not model and new.rate() == {"rate": 0.5}
    np.testing.assert_allclose(new(X), 2 * model(X))


def test_a_single_layer_is_its_substitute():
    dense = keras.layers.Dense(2)
    assert replace_layers(dense, doubled).layer is dense
