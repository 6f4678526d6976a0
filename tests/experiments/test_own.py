"""Runs on a user's own data and network."""

import importlib
import sys

import numpy as np
import pytest
import small

import lth_keras as lth
from lth_keras.cli import main
from lth_keras.deployment import trained_networks
from lth_keras.deployment.run_export import RunExporter, Settings
from lth_keras.errors import LotteryError
from lth_keras.experiments import clusters
from lth_keras.experiments.config import own, presets
from lth_keras.experiments.results import paths
from lth_keras.experiments.training import datasets, networks
from lth_keras.experiments.training_keras2 import models
from lth_keras.experiments.training_keras3 import models as models3
from lth_keras.files import data_file

SOURCE = """
import tf_keras

def plain():
    return tf_keras.Sequential([
        tf_keras.layers.Input((6,)), tf_keras.layers.Dense(8, "relu"), tf_keras.layers.Dense(3)])

def shaped(input_shape, classes):
    return tf_keras.Sequential([tf_keras.layers.Input(input_shape), tf_keras.layers.Flatten(),
                                tf_keras.layers.Dense(classes)])

def either(shape, count, keras, dropout=0.0):
    return keras.Sequential([
        keras.layers.Input(shape), keras.layers.Dense(8, activation="relu"),
        keras.layers.Dropout(dropout), keras.layers.Dense(count)])

def soft(input_shape, classes):
    return tf_keras.Sequential([tf_keras.layers.Input(input_shape),
                                tf_keras.layers.Dense(classes, "softmax")])

def large(input_shape, classes):
    return shaped((7,), classes)

def many(input_shape, classes):
    return shaped(input_shape, classes + 1)

def three(input_shape, classes, width):
    pass

def nothing():
    return None

number = 3
"""
SHORT = ["--steps", "40", "--set", "validation_every=10", "--rounds", "1", "--replicates", "1",
         "--branches", "ticket"]


def arrays(**changes):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    x = rng.normal(size=(90, 6)) + 3 * np.eye(6)[y]
    return {"x_train": x[:60], "y_train": y[:60], "x_test": x[60:], "y_test": y[60:], **changes}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with mine.npz and nets.py, as a user has them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(clusters.BACKENDS, "loky", small.Inline)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    np.savez("mine.npz", **arrays())
    (tmp_path / "nets.py").write_text(SOURCE)
    yield tmp_path
    sys.modules.pop("nets", None)


def lth_run(*arguments):
    return main._main(main._parse(["lth", "run", *map(str, arguments)]))


def config_of(network, **changes):
    config = own.settings_of("mine.npz").replace(network=network, **changes)
    return own.resolved(config)


def build(network, **changes):
    return models.build(config_of(network, **changes), (6,), 3)


def test_a_file_gets_settings_that_suit_it(here):
    config = own.settings_of("mine.npz")
    assert (config.preset, config.dataset, config.network) == ("mine", "mine", "lenet_300_100")
    assert (config.validation_size, config.batch_size) == (10, 50)
    assert (config.steps, config.validation_every, config.replicates) == (1000, 10, 5)
    assert config.branches == ("ticket", "reinit@last")
    np.savez("large.npz", **{name: np.zeros((60_000, 2)) if name[0] == "x"
                             else np.arange(60_000) % 10 for name in arrays()})
    config = own.settings_of("large.npz")
    assert (config.steps, config.validation_size, config.batch_size) == (20_000, 5000, 60)
    assert config.margins.accuracy == 0.002


def test_data_are_known_by_what_they_hold_not_by_where_they_lie(here):
    first = own.resolved(own.settings_of("mine.npz"))
    (here / "copy").mkdir()
    (here / "copy" / "mine.npz").write_bytes((here / "mine.npz").read_bytes())
    moved = own.resolved(own.settings_of("copy/mine.npz"))
    assert moved.fingerprint == first.fingerprint and moved.data != first.data
    np.savez("mine.npz", **arrays(y_test=(arrays()["y_test"] + 1) % 3))
    assert own.resolved(own.settings_of("mine.npz")).fingerprint != first.fingerprint
    # Every preset can be trained on them; without them, nothing has changed.
    digits = presets.get("digits")
    assert own.resolved(digits) == digits
    assert own.resolved(digits.replace(data="mine.npz")).dataset == "mine"


@pytest.mark.parametrize(("changes", "said"), [
    ({"x_train": np.zeros((6, 4, 4), np.uint8)}, "uint8"),
    ({"x_train": np.ones((6, 4))}, "float32"), ({"x_train": np.ones((6, 4), bool)}, "float32"),
    ({"x_train": np.ones((6, 4), np.int64)}, "float32")])
def test_examples_of_any_numbers_are_taken(changes, said, here):
    x = changes["x_train"]
    y = np.array([[0], [1], [2], [0], [1], [2]], np.int8)
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2, 0].astype(bool))
    found = data_file.read("mine.npz")
    assert found["x_train"].dtype.name == found["x_test"].dtype.name == said
    assert found["y_train"].tolist() == [0, 1, 2, 0, 1, 2] and found["y_test"].dtype == np.int32


@pytest.mark.parametrize(("changes", "said"), [
    ({"x_test": None}, "which holds x_train, y_train, y_test, not x_test"),
    ({"y_train": np.arange(50)}, "x_train of float64[60, 6], y_train of int64[50]: there are as "
                                 "many examples as classes"),
    ({"y_train": np.eye(3)[np.arange(60) % 3]}, "classes are one number an example; give y.argmax"),
    ({"y_train": np.arange(60) / 3}, "float64[60]: classes are whole numbers from 0 on"),
    ({"y_train": np.arange(60) - 1}, "classes are whole numbers from 0 on"),
    ({"y_train": np.array(["cat"] * 60)}, "classes are whole numbers from 0 on"),
    ({"x_train": np.array([["a"] * 6] * 60)}, "examples are numbers"),
    ({"x_train": np.zeros(60)}, "there are as many examples as classes, at least one"),
    ({"x_test": np.zeros((30, 5))}, "x_train and x_test have examples of one shape, not [6] and "
                                    "[5]"),
    ({"x_train": np.full((60, 6), np.nan)}, "whose x_train has numbers that are not finite"),
    ({"y_test": np.full(30, 7)}, "with classes up to 7 in y_test, and up to 2 in y_train"),
    ({"y_train": np.zeros(60, int), "y_test": np.zeros(30, int)}, "up to 0 in y_train"),
    ({"x_train": np.array([None] * 60)}, "Object arrays cannot be loaded")])
def test_what_is_no_data_is_said_in_plain_words(changes, said, here, capsys):
    np.savez("mine.npz", **{name: value for name, value in arrays(**changes).items()
                            if value is not None})
    assert lth_run("mine.npz") == 2
    error = capsys.readouterr().err
    assert error.startswith("lth run: error: A file of data must hold the arrays x_train, y_train, "
                            "x_test, y_test: examples, and the number of each one's class. "
                            "Received: mine.npz, ")
    assert said in error and error.count("\n") == 1 and "numpy.savez" in error


@pytest.mark.parametrize("content", [None, b"", b"PK", b"no archive"])
def test_what_is_no_file_of_arrays_is_refused(content, here):
    if content is not None:
        (here / "no.npz").write_bytes(content)
    said = "must hold the arrays .* Received: no.npz, " if content is not None else \
        r"must be readable. Received: no.npz \(No such file"
    with pytest.raises(LotteryError, match=said):
        own.settings_of("no.npz")


@pytest.mark.parametrize(("network", "said"), [
    ("none:build", "no none.py in {here}, and no installed module of this name"),
    ("nets:biuld", "{here}/nets.py, which has no biuld; it has either, large, many, nothing, "
     "plain, shaped, soft, three."),
    ("none.py:build", "{here}/none.py (No such file or directory)"),
    ("bad.py:build", "{here}/bad.py, which is not Python"),
    (":build", "Received: ':build'")])
def test_a_network_that_is_not_there_is_said_before_anything_is_loaded(network, said, here):
    (here / "bad.py").write_text("def build(:")
    with pytest.raises(LotteryError) as error:
        config_of(network)
    assert said.format(here=here) in str(error.value)
    assert "or a function as MODULE:FUNCTION or FILE.py:FUNCTION" in str(error.value)


@pytest.mark.parametrize(("network", "said"), [
    ("nets:soft", "A network must give logits: .* whose last layer dense has a softmax"),
    ("nets:large", r"take the examples of the data, of shape \[6\], .* takes \[7\] and gives"),
    ("nets:many", r"give 3 logits, one for each class. .* gives \[4\]"),
    ("nets:three", "must take nothing, or input_shape and classes.* input_shape, classes, width"),
    ("nets:nothing", "functional or Sequential model .* which returned None"),
    ("nets:number", r"A network must be a function. .* 3\.")])
def test_a_network_that_does_not_fit_is_refused(network, said, here):
    with pytest.raises(LotteryError, match=said):
        build(network)


SOFT = """
import tensorflow as tf

def called(input_shape, classes, keras):
    ends = {"tf_keras": tf.nn.softmax}.get(keras.__name__) or keras.ops.softmax
    inputs = keras.layers.Input(input_shape)
    return keras.Model(inputs, ends(keras.layers.Dense(classes)(inputs)))

def within(input_shape, classes, keras):
    ends = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(classes, "softmax")])
    return keras.Sequential([keras.layers.Input(input_shape), keras.layers.Dense(8), ends])

def named_otherwise(input_shape, classes, keras):
    return keras.Sequential([keras.layers.Input(input_shape),
                             keras.layers.Dense(classes, lambda x: keras.activations.softmax(x))])
"""


@pytest.mark.parametrize("network", ["called", "within", "named_otherwise"])
@pytest.mark.parametrize("engine", ["tf_keras", "keras"])
def test_a_softmax_is_refused_wherever_it_is(network, engine, here):
    (here / "nets.py").write_text(SOFT)
    package = models.TF_KERAS if engine == "tf_keras" else models3.KERAS
    with pytest.raises(LotteryError, match=f"must give logits: .* nets:{network}, whose outputs"):
        package.build(config_of(f"nets:{network}", engine=engine), (6,), 3)


@pytest.mark.parametrize("network", ["nets:plain", "nets:shaped", "nets.py:shaped", "nets:either"])
def test_a_network_has_the_same_names_whenever_it_is_built(network, here):
    names = [[layer.name for layer in build(network).layers if layer.weights] for _ in range(3)]
    assert names[0] == names[1] == names[2] and names[0][0] == "dense"


@pytest.mark.parametrize("engine", ["tf_keras", "keras"])
def test_logits_of_few_bits_are_refused(engine, here):
    (here / "nets.py").write_text(SOURCE + """
def sharp(input_shape, classes, keras):
    return keras.Sequential([keras.layers.Input(input_shape), keras.layers.Dense(8),
                             keras.layers.Dense(classes, dtype="float32")])
""")
    build_ = (models.TF_KERAS if engine == "tf_keras" else models3.KERAS).build
    options = {"dtype_policy": "mixed_bfloat16", "engine": engine}
    model = build_(config_of("nets:sharp", **options), (6,), 3)
    assert model.layers[-2].compute_dtype == "bfloat16"
    with pytest.raises(LotteryError, match="logits in float32, .* with dtype_policy=mixed_bfloat16,"
                                           ' which gives bfloat16. Give its last layer dtype="fl'):
        build_(config_of("nets:either", **options), (6,), 3)


WITH_WEIGHTS = """
import numpy as np
import tensorflow as tf

def made(input_shape, classes, keras, **options):
    return keras.Sequential([
        keras.layers.Input(input_shape), keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(classes, name="out", **options)])

def constant(input_shape, classes, keras):
    return made(input_shape, classes, keras,
                bias_initializer=keras.initializers.Constant(0.5))

def loaded(input_shape, classes, keras):
    model = made(input_shape, classes, keras)
    model.layers[-1].set_weights([np.ones((6, classes)), np.ones(classes)])
    return model

def adapted(input_shape, classes, keras):
    model = made(input_shape, classes, keras)
    model.get_layer("norm").moving_mean.assign(np.ones(6))
    return model

def unseeded(input_shape, classes, keras):
    class Own(keras.initializers.Initializer):
        def __call__(self, shape, dtype=None, **options):
            return tf.constant(np.random.normal(size=shape), dtype=dtype)
    return made(input_shape, classes, keras, kernel_initializer=Own())
"""


@pytest.mark.parametrize(("network", "said"), [
    ("loaded", "nets:loaded, which gives 'out/bias' other values, such as trained ones"),
    ("adapted", "nets:adapted, which gives 'norm/moving_mean' other values"),
    ("unseeded", "must draw the same values .* that of 'out/kernel' in nets:unseeded"),
    ("made", ""), ("constant", "")])
@pytest.mark.parametrize("engine", ["tf_keras", "keras"])
def test_a_network_whose_weights_would_be_lost_is_refused(network, said, engine, here):
    (here / "nets.py").write_text(WITH_WEIGHTS)
    package = models.TF_KERAS if engine == "tf_keras" else models3.KERAS
    config = config_of(f"nets:{network}", engine=engine)
    if said:
        with pytest.raises(LotteryError, match=said):
            package.build(config, (6,), 3)
    else:
        drawn = package.initial_weights(package.build(config, (6,), 3), np.random.default_rng(0))
        assert (drawn["out/bias"] == (0.5 if network == "constant" else 0)).all()


WITH_DRAWS = """
import tensorflow as tf

def noisy(keras, seeded):
    class Noise(keras.layers.Layer):
        def build(self, shape):
            super().build(shape)
            if keras.__name__ == "tf_keras":
                self.draws = tf.random.Generator.from_seed(0)
                self.draw = self.draws.uniform if seeded else tf.random.uniform
            else:
                self.draws = keras.random.SeedGenerator(0) if seeded else None
                self.draw = lambda shape: keras.random.uniform(shape, seed=self.draws)

        def call(self, x, training=None):
            return x + self.draw((1, 6)) if training else x
    return Noise

def network(input_shape, classes, keras, seeded=False):
    return keras.Sequential([keras.layers.Input(input_shape), noisy(keras, seeded)(name="noise"),
                             keras.layers.Dropout(0.5), keras.layers.Dense(classes)])

def seeded(input_shape, classes, keras):
    return network(input_shape, classes, keras, True)
"""


@pytest.mark.parametrize("engine", ["tf_keras", "keras"])
def test_a_layer_that_draws_by_no_seed_is_refused(engine, here):
    (here / "nets.py").write_text(WITH_DRAWS)
    package = models.TF_KERAS if engine == "tf_keras" else models3.KERAS
    package.build(config_of("nets:seeded", engine=engine), (6,), 3)
    with pytest.raises(LotteryError, match=r"nets:network, which draws in \S*noise\S* by another"):
        package.build(config_of("nets:network", engine=engine), (6,), 3)


LAYERS = """
import tf_keras

@tf_keras.saving.register_keras_serializable("test_own")
class Own(tf_keras.layers.Dense):
    pass

def build(input_shape, classes):
    return tf_keras.Sequential([tf_keras.layers.Input(input_shape), Own(5, "relu"),
                                tf_keras.layers.Dense(classes)])
"""


def activation(network):
    return build(network).layers[0].activation.__name__


@pytest.mark.parametrize("network", ["nets.py:build", "nets:build"])
def test_an_edited_file_is_loaded_again(network, here):
    for name in ("relu", "tanh", "relu"):  # In the same second, of the same length.
        (here / "nets.py").write_text(LAYERS.replace("relu", name))
        assert activation(network) == activation(network) == name
    assert build(network).layers[0].__class__.__module__ == "nets"


def test_files_of_one_name_in_two_folders_are_told_apart(here):
    for folder, name in (("one", "relu"), ("two", "tanh")):
        (here / folder).mkdir()
        (here / folder / "nets.py").write_text(LAYERS.replace("relu", name))
    for folder, name in (("one", "relu"), ("two", "tanh"), ("one", "relu")):
        assert activation(f"{folder}/nets.py:build") == name
        assert sys.path[0] == str(here / folder)


def test_a_file_that_fails_leaves_what_was_loaded_before(here):
    assert build("nets:plain")
    before = sys.modules["nets"]
    (here / "nets.py").write_text("def plain():\n    return None\n\n1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        build("nets:plain")
    assert sys.modules["nets"] is before


def test_a_module_that_a_program_has_imported_is_not_run_twice(here, monkeypatch):
    monkeypatch.syspath_prepend(here)
    module = importlib.import_module("nets")
    assert build("nets:plain") and sys.modules["nets"] is module


def test_a_file_with_the_name_of_another_module_is_refused(here):
    import random
    (here / "random.py").write_text(SOURCE)
    with pytest.raises(LotteryError, match=r"must have a name that no other module has. .*random"):
        build("random.py:plain")
    assert sys.modules["random"] is random


def test_a_network_gets_dropout_where_it_takes_it(here):
    assert build("nets:either", dropout=0.5).layers[1].rate == 0.5
    with pytest.raises(LotteryError, match="dropout must be 0 unless"):
        build("nets:shaped", dropout=0.5)


def test_a_module_in_a_package_is_found_by_its_name(here):
    (here / "mine_too").mkdir()
    (here / "mine_too" / "__init__.py").write_text("")
    (here / "mine_too" / "parts.py").write_text("WIDTH = 5\n")
    (here / "mine_too" / "nets.py").write_text(
        "import tf_keras\nfrom . import parts\n\ndef build(input_shape, classes):\n"
        "    return tf_keras.Sequential([tf_keras.layers.Input(input_shape),\n"
        "        tf_keras.layers.Dense(parts.WIDTH), tf_keras.layers.Dense(classes)])\n")
    assert build("mine_too.nets:build").layers[0].units == 5


@pytest.fixture
def finished(here, capsys):
    assert lth_run("mine.npz", "--network", "nets:plain", *SHORT, "--workdir", "run") == 0
    assert "mine: 2 networks to train for 40 steps each" in capsys.readouterr().out
    return here / "run"


def test_a_run_records_its_data_and_network_and_goes_on_with_no_others(finished, here, capsys):
    config = paths.read_config(finished)
    assert (config.data, config.network) == (str(here / "mine.npz"), "nets:plain")
    assert config.network_file == str(here / "nets.py")
    assert config.data_checksum == own.checksum("mine.npz")
    assert config.network_checksum == own.checksum("nets.py")
    again = ["mine.npz", "--network", "nets:plain", *SHORT, "--workdir", "run"]
    assert lth_run(*again) == 0
    assert "0 networks to train" in capsys.readouterr().out
    before = config.data_checksum
    np.savez("mine.npz", **arrays(x_test=arrays()["x_test"] / 2))
    assert lth_run(*again) == 2
    assert f"with data_checksum={before} there, {own.checksum('mine.npz')} asked" \
        in capsys.readouterr().err
    np.savez("mine.npz", **arrays())
    (here / "nets.py").write_text(SOURCE + "\n# Another.\n")
    assert lth_run(*again) == 2
    assert f"with network_checksum={config.network_checksum} there" in capsys.readouterr().err
    # Nor is it read where a workdir is worked with.
    with pytest.raises(LotteryError, match="goes on with the network that it began with"):
        networks.of(config)


def test_a_runs_data_that_moved_are_named_and_those_that_changed_refused(finished, here):
    config = paths.read_config(finished)
    (here / "mine.npz").rename(here / "moved.npz")
    with pytest.raises(LotteryError, match=r"must be readable. Received: .*mine\.npz \(No such"):
        datasets.of(config)
    assert len(datasets.of(config, "moved.npz").y_test) == 30
    np.savez("mine.npz", **arrays(x_test=arrays()["x_test"] / 2))
    with pytest.raises(LotteryError, match="began with. Received: .*changed since. Use another"):
        datasets.of(config)


def test_its_trained_networks_and_tickets_are_loaded_for_an_export(finished, here):
    exporter = RunExporter(Settings())
    source = trained_networks.from_workdir(finished, 1, 0)
    model = source.network(exporter.data(source.config))
    x = datasets.of(source.config).x_test
    assert model.predict(x, verbose=0).shape == (30, 3)
    ticket = finished / "replicate_0" / "level_01" / "ticket.safetensors"
    trained = exporter.from_file(ticket)
    for name, value in source.weights.items():
        np.testing.assert_array_equal(trained.weights[name], value)
    (here / "alone.ticket").write_bytes(ticket.read_bytes())
    with pytest.raises(LotteryError, match=r"must be given where .*--data_dir NAME\.npz"):
        RunExporter(Settings()).from_file(here / "alone.ticket")
    with pytest.raises(LotteryError, match="of an unknown file. Export from the workdir instead"):
        RunExporter(Settings(), "mine.npz").from_file(here / "alone.ticket")


def test_python_takes_the_same_words(here):
    found = lth.run("mine.npz", network="nets:shaped", steps=20, validation_every=10, rounds=0,
                    replicates=1, branches="ticket", verbose=0)
    assert found.results.level.tolist() == [0] and found.config.dataset == "mine"
    with pytest.raises(LotteryError, match="preset must be the name of a preset, a file"):
        lth.run(3)


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["tf_keras", "keras"])
def test_workers_find_them_in_either_engine(engine, here, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert lth_run("mine.npz", "--network", "nets:either", "--engine", engine, *SHORT, "--jobs",
                   "1", "--workdir", "run") == 0
    assert "replicate 0, level 1, ticket: early stop" in capsys.readouterr().out
    assert trained_networks.from_workdir(here / "run", 1, 0).weights["dense/kernel"].shape == (6, 8)
