"""What training changes and Keras does not track is rewound, and kept in a workdir."""

import keras
import networks3 as networks
import numpy as np
import pytest
from dying import Death, Dies
from networks3 import CLASSES, IMAGES

from lth_keras.keras3 import held
from lth_keras.keras3.gradient_masks import OptimizerMasks

layers = keras.layers


class Box:
    """An object of the user's own class."""


def counter():
    """A variable of Keras: a model may hold it in any way."""
    return keras.Variable(0.0)


def raw_counter():
    """A variable of TensorFlow's own."""
    tf = pytest.importorskip("tensorflow")
    return tf.Variable(0.0)


class Counts(layers.Layer):
    """Adds one to a variable in every training step."""

    def __init__(self, variable):
        super().__init__()
        self.box = Box()
        self.box.inside = [variable]

    def call(self, inputs, training=False):
        if training:
            variable = self.box.inside[0]
            variable.assign(variable + 1.0)
        return inputs


def batch_norm_of_torch():
    torch = pytest.importorskip("torch")
    return torch.nn.BatchNorm1d(64, affine=False)


MAKERS = {
    "variable": ("tensorflow torch", lambda: Counts(counter())),
    "tf.Variable": ("tensorflow", lambda: Counts(raw_counter())),
    "buffer": ("torch", lambda: layers.TorchModuleWrapper(batch_norm_of_torch())),
}


@pytest.fixture(params=MAKERS)
def model(request):
    backends, make = MAKERS[request.param]
    if keras.backend.backend() not in backends.split():
        pytest.skip(f"made for {backends}")

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), make(),
                                  layers.Dense(10)])
        model.compile("adam", networks.LOGITS)
        return model
    return build


def found(model):
    return [np.array(keras.ops.convert_to_numpy(variable.value)).tolist()
            for variable in held.untracked(model)]


def searched(model, *others, **options):
    search = networks.lottery(**options)
    networks.fit(model, IMAGES, CLASSES, search, *others)
    return search


def test_it_is_rewound(model):
    dense = model()
    dense.fit(IMAGES, CLASSES, batch_size=networks.BATCH, epochs=2, shuffle=False, verbose=0)
    begun = model()
    assert found(begun) and found(begun) != found(dense)
    searched(begun, fraction=0.0)
    assert found(begun) == found(dense)  # The last level alone has moved it.


def test_it_is_kept_in_a_workdir(model, tmp_path):
    whole = model()
    searched(whole)
    with pytest.raises(Death):
        searched(model(), Dies("on_epoch_begin", 4), workdir=tmp_path)
    again = model()
    searched(again, workdir=tmp_path)
    assert found(again) == found(whole)


def test_what_keras_tracks_and_what_is_of_other_trainings_is_not_among_it():
    model, _, _ = networks.compiled("convolutional")
    assert held.untracked(model) == []
    other, _, _ = networks.compiled("recurrent")
    model.layers[0].notes = box = Box()
    box.other = other
    assert held.optimizers(model) == [model.optimizer]


class Momentum(keras.optimizers.Optimizer):
    """Keeps its momenta as `keep` makes it of their list."""

    def __init__(self, keep, learning_rate=0.05, **options):
        super().__init__(learning_rate=learning_rate, **options)
        self.keep = keep

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.kept = self.keep([self.add_variable_from_reference(weight, name="momentum")
                               for weight in variables])

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.kept[self._get_variable_index(variable)]
        self.assign(momentum, 0.9 * momentum + gradient)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * momentum)

    def get_config(self):
        return {**super().get_config(), "keep": self.keep}


class Hidden:
    """Has what it was given in a way that nobody else knows of."""

    def __init__(self, items):
        self._items = items

    def __getitem__(self, index):
        return self._items[index]


def by_index(slots):
    return dict(enumerate(slots))


class Holds(keras.optimizers.Optimizer):
    """Lets an optimizer that it holds do its steps."""

    def __init__(self, base=None, learning_rate=0.1, **options):
        super().__init__(learning_rate=learning_rate, **options)
        self.base = base

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self.base.build(variables)

    def update_step(self, gradient, variable, learning_rate):
        self.base.update_step(gradient, variable, learning_rate)

    @property
    def variables(self):  # JAX takes those alone into a step.
        return [*super().variables, *self.base.variables]


def of_dense_layers(optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(),
                              layers.Dense(8, "tanh", name="hidden"), layers.Dense(10)])
    model.compile(optimizer, networks.LOGITS, jit_compile=False)
    return model


@pytest.mark.parametrize(("keep", "seen"), [(by_index, 4), (Hidden, 0)])
def test_momenta_that_are_in_no_list_leave_pruned_weights_at_zero(keep, seen):
    model, lottery = of_dense_layers(Momentum(keep)), networks.lottery(rewind_step=2)
    networks.fit(model, IMAGES, CLASSES, lottery, strays := networks.Violations(lottery))
    assert strays.count == 0 and strays.batches == 3 * 2 * networks.STEPS
    assert [restored.slots for restored in lottery.restored] == [seen] * 2


def test_an_optimizer_that_another_one_holds_is_rewound():
    model = of_dense_layers(Holds(keras.optimizers.SGD(0.1, momentum=0.9)))
    begun = []

    class Begins(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0 and lottery._fit_search.round.epochs == 0:
                network = lottery._fit_search.search.network
                network._sync()
                begun.append([keras.ops.convert_to_numpy(slot.value).any()
                              for slot in model.optimizer.base.momentums])
    lottery = networks.lottery()
    strays = networks.Violations(lottery)
    networks.fit(model, IMAGES, CLASSES, lottery, strays, Begins())
    assert strays.count == 0 and begun == [[False] * 4] * 3
    assert lottery.restored[0].slots == 4


def test_averages_of_an_optimizer_that_mixes_elements_stay_at_zero():
    model = of_dense_layers(keras.optimizers.Muon(0.01, use_ema=True, ema_momentum=0.5))
    lottery = networks.lottery()
    networks.fit(model, IMAGES, CLASSES, lottery)
    assert len(lottery.results) == 3  # Keras puts the averages into the model as the fit ends.


def test_variables_may_be_given_to_an_optimizer_by_a_generator():
    weight, plain = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])
    optimizer = keras.optimizers.SGD(1.0)
    OptimizerMasks(optimizer, {"w": weight}).assign({"w": np.array([1, 0])})
    optimizer.apply([keras.ops.ones(2)], (variable for variable in [weight]))
    keras.optimizers.SGD(1.0).apply([keras.ops.ones(2)], (variable for variable in [plain]))
    assert keras.ops.convert_to_numpy(weight).tolist() == [0, 2]
    assert keras.ops.convert_to_numpy(plain).tolist() == [0, 1]
