import keras as keras_3
import networks
import numpy as np
import pytest
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from networks import ARCHITECTURES, compiled, fit, lottery, X

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking import weight_names
from lth_keras.keras2.masking.masked_layer import MaskedLayer

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


def prunable(model):
    return list(weight_names.masked(model))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_wrapping_changes_no_prediction_and_prunes_kernels_alone(name):
    model, wrapped = networks.untouched(name)
    inputs = networks.inputs_for(model)
    np.testing.assert_array_equal(wrapped(inputs), model(inputs))
    assert prunable(wrapped) == ARCHITECTURES[name][1]
    assert all((mask == 1).all() for mask in networks.masks(wrapped))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_wrapped_model_shares_its_weights_and_what_it_trains_with_the_original(name):
    model, wrapped = networks.untouched(name)
    assert {id(weight) for weight in model.weights} <= {id(weight) for weight in wrapped.weights}
    assert [id(weight) for weight in wrapped.trainable_weights] \
        == [id(weight) for weight in model.trainable_weights]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_bias_or_normalisation_or_vector_is_ever_prunable(name):
    for weight, _ in networks.pruning_vars(networks.untouched(name)[1]):
        assert weight.shape.rank >= 2
        assert not any(part in weight.name for part in ("bias", "gamma", "beta", "moving"))


@pytest.mark.parametrize("name", ["normalised", "convolutional", "attention", "recurrent"])
def test_a_layer_without_anything_to_prune_stays_the_same_object(name):
    model, wrapped = networks.untouched(name)
    for before, after in zip(model.layers, wrapped.layers, strict=True):
        if isinstance(after, MaskedLayer):
            assert after.layer is before
        elif not isinstance(before, layers.InputLayer):
            assert after is before


@pytest.mark.parametrize(("name", "count"), [
    ("shared", 2), ("shared_with_nested", 3), ("shared_model", 2)])
def test_a_layer_used_twice_has_one_wrapper_and_one_mask(name, count):
    wrapped = lth.prune_low_magnitude(ARCHITECTURES[name][0]())
    assert len(weight_names.wrappers(wrapped)) == len({id(v) for v, _
                                                       in networks.pruning_vars(wrapped)})
    assert len(networks.pruning_vars(wrapped)) == count
    fit(compiled(wrapped), lottery(epochs_per_round=1))
    assert networks.strays(wrapped) == 0


@pytest.mark.parametrize("shape", [None, (None, 6)])
def test_a_sequential_model_built_by_its_first_call_or_by_build_is_wrapped(shape):
    model = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    model.build(shape) if shape else model(X)
    wrapped = lth.prune_low_magnitude(model)
    np.testing.assert_array_equal(wrapped(X), model(X))
    assert len(networks.masks(wrapped)) == 2


def test_wrapping_a_wrapped_model_adds_nothing():
    once = lth.prune_low_magnitude(networks.mlp())
    twice = lth.prune_low_magnitude(once)
    assert [type(layer.layer) for layer in weight_names.wrappers(twice)] == [layers.Dense] * 2
    assert twice.layers[0] is once.layers[0]


def test_embeddings_and_frozen_layers_that_are_included_are_pruned_like_the_rest():
    model = lth.prune_low_magnitude(_selectable(), include=["words", "still"])
    search = lottery(epochs_per_round=1, fraction=0.5)
    compiled(model).fit(np.arange(24).reshape(8, 3) % 5, np.ones((8, 2)), epochs=3, verbose=0,
                        callbacks=[search])
    assert [mask.mean() for mask in networks.masks(model)] == pytest.approx([0.25] * 4, abs=0.1)
    assert networks.strays(model) == 0
    assert [layer.trainable for layer in model.layers if layer.name.endswith("still")] == [False]


def _selectable():
    return keras.Sequential([
        layers.Input((3,), dtype="int32"), layers.Embedding(5, 4, name="words"),
        layers.Flatten(), layers.Dense(4, trainable=False, name="still"),
        networks.OwnDense(3, name="own"), layers.Dense(2, name="last")])


@pytest.mark.parametrize(("include", "exclude", "expected"), [
    ((), (), ["own", "last"]),
    ("words", (), ["words", "own", "last"]),
    (["Embedding", "still"], (), ["words", "still", "own", "last"]),
    (layers.Embedding, (), ["words", "own", "last"]),
    (lambda layer: layer.name == "still", (), ["still", "own", "last"]),
    ((), "own", ["last"]),
    ((), ["OwnDense"], ["last"]),
    ((), networks.OwnDense, ["last"]),
    ("words", layers.Dense, ["words"]),
    ("still", lambda layer: layer.name in ("own", "still"), ["last"]),
])
def test_layers_are_chosen_by_name_type_class_and_function(include, exclude, expected):
    wrapped = lth.prune_low_magnitude(_selectable(), include=include, exclude=exclude)
    assert [wrapper.layer.name for wrapper in weight_names.wrappers(wrapped)] == expected
    found = [name.split("/")[0] for name in prunable(wrapped)]
    assert found == expected


@pytest.mark.parametrize("argument", ["include", "exclude"])
@pytest.mark.parametrize("selector", ["lats", layers.Conv2D, lambda layer: False])
def test_a_selector_that_means_no_layer_is_refused_with_the_layers_there_are(argument, selector):
    with pytest.raises(LotteryError, match=r"must name layers.*last \(Dense\)"):
        lth.prune_low_magnitude(_selectable(), **{argument: selector})


@pytest.mark.parametrize("selector", [3, keras_3.layers.Dense, int])
def test_a_selector_of_another_kind_is_refused(selector):
    with pytest.raises(LotteryError, match="include takes"):
        lth.prune_low_magnitude(networks.mlp(), include=[selector])


def test_a_nested_model_is_excluded_by_its_name():
    inner = keras.Sequential([layers.Input((6,)), layers.Dense(4)], name="inner")
    model = keras.Sequential([layers.Input((6,)), inner, layers.Dense(2)])
    assert prunable(lth.prune_low_magnitude(model, exclude="inner")) == ["dense/kernel"]


def test_nothing_prunable_is_refused_with_each_layer_and_its_reason():
    model = keras.Sequential([
        layers.Input((3,), dtype="int32"), layers.Embedding(5, 4, name="words"),
        layers.LayerNormalization(name="norm"), layers.Flatten(name="flat"),
        layers.Dense(4, trainable=False, name="still"), layers.Dense(2, name="last")])
    with pytest.raises(LotteryError, match="Nothing in the model is prunable") as error:
        lth.prune_low_magnitude(model, exclude="last")
    lines = str(error.value).splitlines()
    for name, reason in [("words", "embedding"), ("norm", "rank 1"), ("flat", "no weights"),
                         ("still", "not trained"), ("last", "excluded")]:
        assert any(name in line and reason in line for line in lines), (name, reason)


def _subclassed():
    class Subclassed(keras.Model):
        pass
    return Subclassed()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: keras.Sequential([keras.Sequential([layers.Dense(2)])]), "before it is built"),
    (_subclassed, "subclassed model must be built"),
    (lambda: keras_3.Sequential([keras_3.layers.Input((3,)), keras_3.layers.Dense(2)]),
     r"tf_keras \(Keras 2\).*keras\.src"),
    (lambda: keras_3.layers.Dense(2), r"tf_keras \(Keras 2\)"),
    (lambda: 3, r"tf_keras \(Keras 2\).*builtins\.int"),
])
def test_what_cannot_be_wrapped_is_refused(make, message):
    with pytest.raises(LotteryError, match=message):
        lth.prune_low_magnitude(make())


def test_a_single_layer_is_wrapped_before_and_after_it_is_built():
    fresh = lth.prune_low_magnitude(layers.Dense(3))
    fresh(X)
    built = layers.Dense(3)
    built(X)
    for wrapped in (fresh, lth.prune_low_magnitude(built)):
        assert isinstance(wrapped, MaskedLayer)
        np.testing.assert_array_equal(wrapped(X), wrapped.layer(X))
        assert wrapped.weights_pruned == ["kernel"]
    assert lth.prune_low_magnitude(fresh) is fresh


def test_a_single_layer_without_anything_to_prune_is_given_back():
    norm = layers.BatchNormalization()
    norm(X)
    assert lth.prune_low_magnitude(norm) is norm
    norm = layers.LayerNormalization()
    assert lth.prune_low_magnitude(norm) is norm
    with pytest.raises(LotteryError, match="no weight to prune"):
        lth.prune_low_magnitude(Shift())(X)


class Shift(layers.Layer):
    """Has a bias alone."""

    def build(self, shape):
        self.bias = self.add_weight("bias", shape[-1:])

    def call(self, x):
        return x + self.bias


def test_wrapped_layers_make_up_a_subclassed_model():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = lth.prune_low_magnitude(layers.Dense(4))
            self.last = lth.prune_low_magnitude(layers.Dense(2))

        def call(self, inputs):
            return self.last(self.hidden(inputs))

    model = Subclassed()
    model(X)
    assert prunable(model) == ["hidden/kernel", "last/kernel"]
    search = lottery(epochs_per_round=1)
    fit(compiled(model), search)
    assert search.ticket.density < 0.7
    assert networks.strays(model) == 0


def _wrapped_in_time():
    inputs = layers.Input((6,))
    wrapped = lth.prune_low_magnitude(layers.Dense(6))
    hidden = layers.TimeDistributed(wrapped)(layers.Reshape((1, 6))(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(hidden)))


def test_a_layer_that_is_wrapped_inside_another_is_left_as_it_is():
    model = lth.prune_low_magnitude(_wrapped_in_time())
    assert len(prunable(model)) == 2
    fit(compiled(model), lottery(epochs_per_round=1))
    assert networks.strays(model) == 0


class Alias(layers.Layer):
    """One weight under two attributes; the call uses the second."""

    def build(self, input_shape):
        self.first = self.add_weight("first", (input_shape[-1], 6))
        self.second = self.first

    def call(self, inputs):
        return inputs @ self.second


def test_a_weight_under_two_attributes_is_masked_under_both():
    model = lth.prune_low_magnitude(keras.Sequential([layers.Input((6,)), Alias()]))
    networks.draw_masks(model, zero=False)
    (weight, mask), = networks.pruning_vars(model)
    np.testing.assert_allclose(model(X), X @ (weight.numpy() * mask.numpy()), rtol=1e-5, atol=1e-6)


def test_a_layer_alone_is_chosen_by_include_and_exclude():
    embedding = lth.prune_low_magnitude(layers.Embedding(10, 4), include="Embedding")
    embedding(np.zeros((1, 2)))
    assert [weight.shape for weight, _ in networks.pruning_vars(keras.Sequential([embedding]))] \
        == [(10, 4)]
    dense = layers.Dense(3)
    assert lth.prune_low_magnitude(dense, exclude="Dense") is dense
    with pytest.raises(LotteryError, match="must name layers"):
        lth.prune_low_magnitude(layers.Dense(3), include="Conv2D")


def test_wrapping_leaves_no_trace_that_tfmot_would_follow():
    plain = keras.Sequential([layers.Input((4,)), layers.Dense(3)])
    lth.prune_low_magnitude(plain)
    stock = tfmot.sparsity.keras.prune_low_magnitude(plain)
    assert [len(layer.pruning_vars) for layer in stock.layers] == [1]


def test_an_excluded_output_layer_passes_its_place_to_no_other():
    plain = keras.Sequential([layers.Input((4,)), layers.Dense(3), layers.Dense(2, name="out")])
    model = lth.prune_low_magnitude(plain, exclude="out")
    assert [item.prunable.output for item in weight_names.masked(model).values()] == [False]


def test_spectral_normalization_is_left_as_it_is():
    plain = keras.Sequential([layers.Input((4,)), layers.SpectralNormalization(layers.Dense(3)),
                              layers.Dense(2)])
    assert list(weight_names.masked(lth.prune_low_magnitude(plain))) == ["dense/kernel"]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [keras, keras_3])
def test_a_model_may_be_deeper_than_pythons_stack(kind):
    x = inputs = kind.layers.Input((2,))
    x = kind.layers.Dense(2, name="first")(x)
    for _ in range(600):
        x = kind.layers.Activation("linear")(x)
    model = kind.Model(inputs, kind.layers.Dense(1, name="last")(x))
    if kind is keras:
        model = lth.prune_low_magnitude(model)
        assert len(lth.strip_pruning(model).layers) == len(model.layers)
    model.compile("sgd", "mse")
    search = lth.Search(model, rounds=1)
    assert set(search.masks) == {"first/kernel", "last/kernel"}
