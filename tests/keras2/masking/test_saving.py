"""Wrapped models of classes of the user's own, saved by Keras at any epoch and loaded by it."""

import copy
import json
import zipfile

import networks
import numpy as np
import pytest
import subclassed
import tf_keras as keras
from fits import assert_same_bits, numbers
from networks import compiled, draw_masks, fit, lottery, X, Y
from tiers import short_and_long

import lth_keras as lth
from lth_keras.errors import LotteryError
from lth_keras.keras2.masking import saving, weight_names
from lth_keras.keras2.masking.saving import WrappedModel

layers = keras.layers


def setup_function():
    keras.utils.set_random_seed(0)


@keras.utils.register_keras_serializable(package="tests")
class Configured(keras.Model):
    """A config of its own, subclassed and functional models within, and a model's build."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.chain = [subclassed.Inner(), subclassed.Arguments(units)]

    def build(self, input_shape):
        self.last = layers.Dense(2)
        self.last.build((None, 2))
        super().build(input_shape)

    def call(self, inputs):
        return self.last(self.chain[1](layers.concatenate([self.chain[0](inputs)] * 2)))

    def get_config(self):
        return {"units": self.units, "name": self.name}


@keras.utils.register_keras_serializable(package="tests")
class WidthOnly(keras.Sequential):
    """A Sequential model that is made again by its width."""

    def __init__(self, width):
        super().__init__([layers.Input((6,)), layers.Dense(width), layers.Dense(2)])
        self.width = width

    def get_config(self):
        return {"width": self.width}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def called(kind):
    model = kind()
    model(X)
    return model


def around(kind):
    inputs = layers.Input((6,))
    return keras.Model(inputs, layers.Dense(2)(kind()(inputs)))


KINDS = {
    "subclassed": lambda: called(subclassed.Everywhere),
    "own step": lambda: called(subclassed.OwnStep),
    "functional": lambda: subclassed.Arguments(5),
    "sequential": lambda: WidthOnly(5),
    "nested": lambda: called(lambda: Configured(5)),
    "functional in functional": lambda: around(lambda: subclassed.Arguments(5)),
    "subclassed in functional": lambda: around(subclassed.Inner),
}


def wrapped(kind="functional"):
    return draw_masks(lth.prune_low_magnitude(KINDS[kind]()))


def optimizer_state(model):
    return [variable.numpy() for variable in model.optimizer.variables]


@pytest.mark.parametrize("kind", short_and_long(
    KINDS, ["own step", "functional"], pytest.mark.thorough))
def test_a_file_of_any_epoch_is_loaded_wrapped_sparse_and_trained_on(kind, tmp_path):
    model = lth.prune_low_magnitude(KINDS[kind]())
    compiled(model, keras.optimizers.Adam(0.02, global_clipnorm=1.0), metrics=["mae"],
             steps_per_execution=2)
    then = {}
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: then.update(
        {epoch + 1: (model(X).numpy(), numbers(model), networks.masks(model),
                     optimizer_state(model))}))
    save = keras.callbacks.ModelCheckpoint(f"{tmp_path}/{{epoch}}.keras")
    fit(model, lottery(rounds=2, epochs_per_round=1, fraction=0.5), save, watch)
    for epoch, (predicted, values, masks, state) in then.items():
        loaded = keras.models.load_model(f"{tmp_path}/{epoch}.keras", safe_mode=True)
        assert isinstance(loaded, type(model).__mro__[2] if isinstance(model, WrappedModel)
                          else type(model))
        assert_same_bits(networks.masks(loaded), masks)
        np.testing.assert_allclose([mask.mean() for mask in masks], 0.5 ** (epoch - 1), atol=0.1)
        assert_same_bits(numbers(loaded), values)
        assert_same_bits(optimizer_state(loaded), state)
        np.testing.assert_array_equal(loaded(X), predicted)
        assert loaded.get_compile_config() == model.get_compile_config()
        assert list(weight_names.masked(loaded)) == list(weight_names.masked(model))
        assert networks.strays(loaded) == 0
    loaded.fit(X, Y, verbose=0)
    assert networks.strays(loaded) == 0
    assert not np.array_equal(loaded(X), predicted)
    assert_same_bits(networks.masks(loaded), masks)


def test_what_is_loaded_is_saved_copied_searched_and_stripped_again(tmp_path):
    wrapped("subclassed").save(tmp_path / "one.keras")
    loaded = keras.models.load_model(tmp_path / "one.keras")
    twin = copy.deepcopy(loaded)
    np.testing.assert_array_equal(twin(X), loaded(X))
    assert_same_bits(networks.masks(twin), networks.masks(loaded))
    loaded.save(tmp_path / "two.keras")
    configs = [zipfile.ZipFile(tmp_path / f"{name}.keras").read("config.json")
               for name in ("one", "two")]
    assert configs[0] == configs[1]
    search = lottery()
    fit(compiled(loaded), search)
    assert search.ticket.density < 0.8 and networks.strays(loaded) == 0
    stripped = lth.strip_pruning(loaded)
    assert type(stripped) is subclassed.Everywhere


def test_a_saved_model_of_a_wrapped_subclassed_model_is_loaded_wrapped(tmp_path):
    model = wrapped("own step")
    compiled(model).fit(X, Y, verbose=0)
    model.save(tmp_path / "saved")
    loaded = keras.models.load_model(tmp_path / "saved")
    np.testing.assert_array_equal(loaded(X), model(X))
    assert_same_bits(networks.masks(loaded), networks.masks(model))
    loaded.fit(X, Y, verbose=0)
    assert networks.strays(loaded) == 0


def test_a_class_that_is_not_registered_is_given_by_custom_objects(tmp_path):
    class Ours(keras.Model):
        def __init__(self, units):
            super().__init__()
            self.dense = layers.Dense(units)

        def call(self, inputs):
            return self.dense(inputs)

    model = draw_masks(lth.prune_low_magnitude(called(lambda: Ours(3))))
    model.save(tmp_path / "ours.keras")
    loaded = keras.models.load_model(tmp_path / "ours.keras", custom_objects={"Ours": Ours})
    assert isinstance(loaded, Ours) and weight_names.wrappers(loaded)
    np.testing.assert_array_equal(loaded(X), model(X))
    with pytest.raises(TypeError, match="Could not locate class 'Ours'"):
        keras.models.load_model(tmp_path / "ours.keras")


def test_a_wrapped_model_is_of_its_class_and_stripped_it_has_it_back():
    model = called(subclassed.OwnStep)
    lth.prune_low_magnitude(model)
    assert isinstance(model, subclassed.OwnStep) and type(model).__name__ == "OwnStep"
    assert type(model).__doc__ == subclassed.OwnStep.__doc__
    assert type(wrapped("own step")) is type(model)
    assert type(type(model)()) is type(model) and not weight_names.wrappers(type(model)())
    assert type(lth.strip_pruning(model)) is subclassed.OwnStep
    # What Keras saves with its layers needs no other class.
    assert type(lth.prune_low_magnitude(networks.mlp())) is keras.Sequential


def test_a_class_that_hears_of_its_subclasses_does_not_hear_of_the_one_that_stands_for_it():
    heard = []

    class Loud(subclassed.Arguments):
        def __init_subclass__(cls, **kwargs):
            heard.append(cls)

    lth.prune_low_magnitude(Loud(3))
    assert not heard


@keras.utils.register_keras_serializable(package="tests")
class Takes(keras.Model):
    """Made with a layer, which Keras cannot note."""

    def __init__(self, layer=None):
        super().__init__()
        self.layer = layer or layers.Dense(3)

    def call(self, inputs):
        return self.layer(inputs)


def test_a_model_that_does_not_say_how_it_is_made_is_refused_and_its_weights_are_there(tmp_path):
    def make():
        return called(lambda: Takes(layers.Dense(4)))
    model = draw_masks(lth.prune_low_magnitude(make()))
    model.save(tmp_path / "takes.keras")
    with pytest.raises(LotteryError, match="Takes must have a config to be loaded.*get_config"):
        keras.models.load_model(tmp_path / "takes.keras")
    other = lth.prune_low_magnitude(make())
    other.load_weights(tmp_path / "takes.keras")
    np.testing.assert_array_equal(other(X), model(X))
    assert_same_bits(networks.masks(other), networks.masks(model))


def test_keras_finds_the_class_where_the_package_was_not_imported_yet(tmp_path, monkeypatch):
    model = wrapped()
    model.save(tmp_path / "model.keras")
    monkeypatch.delitem(keras.saving.get_custom_objects(), "lth_keras>WrappedModel")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_bits(networks.masks(loaded), networks.masks(model))


# A file is not to be trusted.

def altered(path, change):
    """A .keras file with its model's config changed."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config["config"] = change(config["config"])
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


LAMBDA = {"class_name": "__lambda__", "config": {"value": ["4wE=", None, None]}}


@pytest.mark.parametrize(("change", "message"), [
    (lambda config: [], "A wrapped model's config must have"),
    (lambda config: {"model": config["model"]}, "A wrapped model's config must have"),
    (lambda config: {**config, "weights": "kernel"}, "A wrapped model's config must have"),
    (lambda config: {**config, "weights": [1]}, "A wrapped model's config must have"),
    (lambda config: {**config, "model": "Arguments"}, "A wrapped model's config must have"),
    (lambda config: {**config, "weights": [*config["weights"], "no/kernel"]},
     r"pruned only in the file \['no/kernel'\]"),
    (lambda config: {**config, "weights": ["last/bias"]}, "expected 2 variables, but received 0"),
    (lambda config: {**config, "weights": ["no/kernel"]}, "Nothing in the model is prunable"),
    (lambda config: {**config, "weights": config["weights"][:1]}, "expected .* variables"),
    (lambda config: {**config, "weights": []}, "expected .* variables"),
    (lambda config: {**config, "model": {**config["model"], **LAMBDA}}, "must say how|lambda"),
    (lambda config: {**config, "model": {"class_name": "__tensor__", "config": {
        "value": [1.0], "dtype": "float32"}}}, "A wrapped model must be a model"),
    (lambda config: {**config, "model": keras.layers.serialize(layers.Dense(3))},
     "A wrapped model must be a model"),
    (lambda config: {**config, "model": {**config["model"], "config": {"units": 6}}}, "shape"),
    (lambda config: {**config, "model": keras.layers.serialize(layers.Lambda(lambda x: x))},
     "Requested the deserialization of a Lambda layer with a Python `lambda`"),
])
def test_an_altered_file_is_an_error(change, message, tmp_path):
    wrapped().save(tmp_path / "model.keras")
    with pytest.raises((ValueError, TypeError), match=message):
        keras.models.load_model(altered(tmp_path / "model.keras", change))


def test_a_model_that_has_changed_since_is_an_error(tmp_path, monkeypatch):
    model = wrapped("own step")
    model.save(tmp_path / "model.keras")

    def renamed(self, **kwargs):
        keras.Model.__init__(self, **kwargs)
        self.other, self.last = layers.Dense(6), layers.Dense(2)
        self.tracker = keras.metrics.Mean(name="loss")
    monkeypatch.setattr(subclassed.OwnStep, "__init__", renamed)
    monkeypatch.setattr(subclassed.OwnStep, "call", lambda self, x: self.last(self.other(x)))
    with pytest.raises(LotteryError, match=r"only in the file \['hidden/kernel'\]"):
        keras.models.load_model(tmp_path / "model.keras")


def test_a_config_of_the_users_goes_to_the_users_from_config():
    kind = type(wrapped("sequential"))
    made = kind.from_config({"width": 7})
    assert type(made) is WidthOnly and made.width == 7
    assert saving.plain(made) is made
