import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.core.structures.words import parse
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.masked_layer import MaskedLayer
from lth_keras.keras2.masking.weight_names import masked
from lth_keras.keras2.masking.wrap_weights import check_built, wrap_names, wrap_weights

layers = keras.layers
X = tf.ones((2, 4))


def model():
    return keras.Sequential([layers.Input((4,)), layers.Dense(4), layers.ReLU(), layers.Dense(2)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_just_the_weights_named_are_wrapped_with_their_structures():
    structure = parse("block_2x1")
    wrapped = wrap_names(model(), ["dense/kernel", "dense_1/kernel"],
                         {"dense_1/kernel": structure})
    assert {name: str(item.structure) for name, item in masked(wrapped).items()} == {
        "dense/kernel": "none", "dense_1/kernel": str(structure)}
    assert list(masked(wrap_names(model(), ["dense_1/kernel"]))) == ["dense_1/kernel"]


def test_a_wrapped_model_shares_its_weights_and_predicts_the_same():
    dense = model()
    wrapped = wrap_names(dense, ["dense/kernel"])
    assert [type(layer) for layer in wrapped.layers] == [MaskedLayer, layers.ReLU, layers.Dense]
    assert masked(wrapped)["dense/kernel"].weight is dense.layers[0].kernel
    assert masked(wrapped)["dense/kernel"].mask.numpy().all()
    np.testing.assert_array_equal(wrapped(X), dense(X))


def test_a_weight_that_two_layers_have_gets_one_mask():
    first, second = layers.Dense(4, name="a"), layers.Dense(4, name="b")
    dense = keras.Sequential([layers.Input((4,)), first, second])
    second.kernel = first.kernel
    wrapped = wrap_names(dense, ["a/kernel"])
    one, other = wrapped.layers
    assert len(one.pruning_vars) == 1 and not other.pruning_vars
    assert one.tied == [] and other.tied == ["kernel"]
    before = wrapped(X).numpy()
    one.pruning_vars[0][1].assign(tf.zeros((4, 4)))
    assert before.any() and not wrapped(X).numpy().any()


def test_what_is_wrapped_already_is_not_wrapped_again():
    once = wrap_names(model(), ["dense/kernel"])
    twice = wrap_names(once, ["dense/kernel", "dense_1/kernel"])
    assert [type(layer) for layer in twice.layers] == [MaskedLayer, layers.ReLU, MaskedLayer]
    assert not isinstance(twice.layers[0].layer, MaskedLayer)


def test_a_subclassed_model_is_wrapped_in_place():
    dense = Subclassed()
    dense(X)
    assert wrap_names(dense, ["dense/kernel"]) is dense
    assert isinstance(dense.dense, MaskedLayer)


def test_where_no_weight_is_chosen_the_error_has_the_reasons():
    with pytest.raises(LotteryError, match="Received:\n  one\n  two\nOnly trained kernels"):
        wrap_weights(model(), {}, ["one", "two"])
    with pytest.raises(LotteryError, match="none of the weights named is in a layer"):
        wrap_names(model(), ["another/kernel"])


@pytest.mark.parametrize("unbuilt, received", [
    (Subclassed, "Subclassed without weights yet. Call it on a batch"),
    (lambda: keras.Sequential([layers.Dense(2, name="mine")]), "layer 'mine' without weights yet")])
def test_a_model_without_weights_is_refused(unbuilt, received):
    with pytest.raises(LotteryError, match=received):
        check_built(unbuilt())


def test_a_layer_that_has_no_weights_need_not_be_built():
    class WithReLU(Subclassed):
        def __init__(self):
            super().__init__()
            self.unused = layers.ReLU()
    dense = WithReLU()
    dense(X)
    check_built(dense)
