import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.errors import LotteryError
from lth_keras.keras2.masking.subclass_checks import check_subclassed

X = tf.ones((2, 3))


class Holding(keras.Model):
    """A model that holds its layer, as it should."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


class MakingInCall(Holding):
    def call(self, inputs):
        return keras.layers.Dense(2)(self.dense(inputs))


class HidingALayer(Holding):
    def __init__(self):
        super().__init__()
        hidden = keras.layers.Dense(2)
        self.find = lambda: hidden  # Keras does not look into functions.

    def call(self, inputs):
        return self.find()(self.dense(inputs))


class HoldingTheKernel(Holding):
    def build(self, shape):
        self.dense.build(shape)
        self.kernel = self.dense.kernel
        self.built = True

    def call(self, inputs):
        return inputs @ self.kernel


class Around(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


def checked(model):
    model(X)
    check_subclassed(model, {id(weight) for weight in model.trainable_weights
                             if weight.shape.rank == 2})


@pytest.mark.parametrize("model", [
    Holding, lambda: Around(Holding()), lambda: keras.Sequential([keras.layers.Dense(2)])])
def test_a_model_that_holds_its_layers_can_be_wrapped(model):
    checked(model())


@pytest.mark.parametrize("kind, message", [
    (MakingInCall, r"must make its layers before its call.*/dense/kernel:0'"),
    (HidingALayer, "must hold the layers that it uses.*, which uses the weight"),
    (HoldingTheKernel, r"through its layer.*HoldingTheKernel\.kernel.*Layers: \['dense'\]")])
@pytest.mark.parametrize("around", [lambda model: model, Around])
def test_what_could_be_pruned_only_in_part_is_refused(kind, message, around):
    with pytest.raises(LotteryError, match=message):
        checked(around(kind()))


def test_a_weight_that_the_model_reads_itself_may_stay_dense():
    model = HoldingTheKernel()
    model(X)
    check_subclassed(model, set())


def test_a_model_that_was_built_by_its_shape_alone_is_traced_too():
    model = MakingInCall()
    model.dense.build((None, 3))
    model.build((None, 3))
    with pytest.raises(LotteryError, match="before its call"):
        check_subclassed(model, {id(model.dense.kernel)})


def test_the_trace_leaves_the_model_as_it_was():
    model = Holding()
    model(X)
    before = [weight.numpy().tolist() for weight in model.weights]
    checked(model)
    assert [weight.numpy().tolist() for weight in model.weights] == before
    assert len(model.weights) == 2
