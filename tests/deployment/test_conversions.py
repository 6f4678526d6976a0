"""Models that are converted in a way of their own: recurrent, of tokens, of other precisions."""

import json

import exports
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from lth_keras.deployment import bench, measuring
from lth_keras.deployment.conversion import formats
from lth_keras.deployment.export import export
from lth_keras.errors import LotteryError
from lth_keras.experiments.config import presets
from lth_keras.experiments.training_keras2 import models

pytestmark = pytest.mark.thorough

layers = keras.layers
RECURRENT = {
    "LSTM": lambda: [layers.Input((3, 4)), layers.LSTM(3)],
    "stacked": lambda: [layers.Input((3, 4)), layers.LSTM(3, return_sequences=True),
                        layers.LSTM(2)],
    "GRU": lambda: [layers.Input((3, 4)), layers.GRU(3)],
    "Bidirectional": lambda: [layers.Input((3, 4)), layers.Bidirectional(layers.LSTM(3))],
    "of any length": lambda: [layers.Input((None, 4)), layers.LSTM(3)],
    "ConvLSTM2D": lambda: [layers.Input((2, 4, 4, 1)), layers.ConvLSTM2D(2, 3), layers.Flatten()],
    "TimeDistributed": lambda: [
        layers.Input((2, 4, 4, 1)), layers.TimeDistributed(layers.Conv2D(2, 3)),
        layers.TimeDistributed(layers.Flatten()), layers.GRU(3)]}


@pytest.fixture(autouse=True)
def tf_lite_alone(monkeypatch):
    """Has TF Lite files measured in this process; what is tried as a route beside them is not."""
    exports.measure_here(monkeypatch)
    measure = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda path, runtime, *arguments, **options: measure(
        path, runtime, *arguments, **options) if runtime.startswith("litert") else
        measuring.Measured(runtime, "not measured in these tests"))


def network(*parts):
    keras.utils.set_random_seed(0)
    return keras.Sequential([*parts, layers.Dense(3)])


def examples(model, count=12, seed=0):
    """Random examples of a model's input: whole numbers below 9 if it takes integers."""
    rng, given = np.random.default_rng(seed), model.inputs[0]
    shape = (count, *(size or 3 for size in given.shape[1:]))
    if given.dtype.is_integer:
        return rng.integers(0, 9, shape).astype(given.dtype.as_numpy_dtype)
    return rng.normal(size=shape).astype(given.dtype.as_numpy_dtype)


def made_of(model, folder, *names, x=None):
    """An export whose files may differ from Keras by rounding alone: no targets tell more."""
    x = examples(model) if x is None else x
    return export(model, folder, data=(x, None), representative=x, formats=names)


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_networks_become_files_of_one_example_a_call(kind, tmp_path):
    made = made_of(network(*RECURRENT[kind]()), tmp_path, "float32", "dynamic_int8")
    assert made.shipped == ["float32", "dynamic_int8"], made.refused
    assert (made.rows.batch == 1).all() and made.rows.latency_32_us.isna().all()
    assert made.rows[made.rows["format"] == "float32"].max_error.max() < 1e-5


def test_the_card_says_that_a_file_takes_one_example_and_keeps_a_state(tmp_path, monkeypatch,
                                                                       capsys):
    made = made_of(network(layers.Input((3, 4)), layers.LSTM(3)), tmp_path, "float32")
    card = (tmp_path / "README.md").read_text()
    assert "One example at a time, in a batch of one: `model_float32.tflite`" in card
    assert json.loads((tmp_path / "deployment.json").read_text())["rows"][0]["batch"] == 1
    monkeypatch.chdir(made.folder)
    exec(compile(card.split("```python\n")[1].split("```")[0], "card", "exec"), {})
    assert capsys.readouterr().out.startswith("[[")


@pytest.mark.parametrize("kind", ["stacked", "GRU"])
def test_recurrent_networks_are_unrolled_in_int8_and_take_any_batch(kind, tmp_path):
    model = network(*RECURRENT[kind]())
    before = [layer.unroll for layer in model.layers if hasattr(layer, "unroll")]
    made = made_of(model, tmp_path, "int8")
    assert made.shipped == ["int8"], made.refused
    assert made.rows.batch.isna().all() and made.rows.latency_32_us.notna().all()
    assert [layer.unroll for layer in model.layers if hasattr(layer, "unroll")] == before


def test_a_loop_that_cannot_be_unrolled_is_refused_before_the_converter_ends_the_process(tmp_path):
    model = network(*RECURRENT["ConvLSTM2D"]())
    with pytest.raises(LotteryError, match="int8 must have no loop.*conv_lstm2d"):
        formats.convert(model, "int8", tmp_path / "file", examples(model))


INPUTS = {
    "int32": lambda: [layers.Input((5,), dtype="int32"), layers.Embedding(9, 4), layers.Flatten()],
    "int64": lambda: [layers.Input((5,), dtype="int64"), layers.Embedding(9, 4), layers.Flatten()],
    "uint8": lambda: [layers.Input((4, 4, 1), dtype="uint8"), layers.Rescaling(1 / 9),
                      layers.Conv2D(2, 3), layers.Flatten()],
    "float64": lambda: [layers.Input((5,), dtype="float64")]}


@pytest.mark.parametrize("dtype", INPUTS)
def test_inputs_keep_the_type_that_tf_lite_has_for_them(dtype, tmp_path):
    from ai_edge_litert.interpreter import Interpreter
    made = made_of(network(*INPUTS[dtype]()), tmp_path, "float32", "int8")
    assert made.shipped == ["float32", "int8"], made.refused
    for name, taken in (("float32", {"float64": "float32"}), ("int8", {"float64": "int8"})):
        file = Interpreter(str(tmp_path / f"model_{name}.tflite"))
        assert file.get_input_details()[0]["dtype"] == np.dtype(taken.get(dtype, dtype))


def test_tokens_given_as_floats_are_not_rounded_in_int8(tmp_path, monkeypatch):
    model = network(layers.Input((5,)), layers.Embedding(99, 4), layers.Flatten())
    tokens = np.random.default_rng(0).integers(0, 99, (20, 5)).astype(np.float32)
    made = made_of(model, tmp_path, "int8", x=tokens)
    assert made.shipped == ["int8"], made.refused
    assert (made.rows.max_error < 0.05 * made.facts["reference"]["largest_output"]).all()
    monkeypatch.chdir(tmp_path)
    card = (tmp_path / "README.md").read_text()
    exec(compile(card.split("```python\n")[1].split("```")[0], "card", "exec"), {})


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_networks_of_another_precision_are_converted_from_a_float32_copy(policy, tmp_path):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = network(layers.Input((4, 4, 1)), layers.Conv2D(2, 3), layers.BatchNormalization(),
                        layers.Flatten())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    made = made_of(model, tmp_path, "float32", "dynamic_int8_shared", "int8")
    assert made.shipped == ["float32", "dynamic_int8_shared", "int8"], made.refused
    assert model.layers[0].dtype_policy.name == policy
    copy = made.facts["float32_copy"]
    assert copy["of"] == policy.removeprefix("mixed_") and copy["error"] <= copy["tolerated"]
    # The file computes what the copy does, the network itself something else.
    assert made.rows.max_error[0] < 1e-6 and (policy == "float64" or copy["error"] > 1e-5)
    assert "were made from a float32 copy" in (tmp_path / "README.md").read_text()


class Mixed(keras.Model):
    """A subclassed model in mixed precision."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, dtype="mixed_bfloat16")

    def call(self, inputs):
        return self.dense(inputs)


def test_a_subclassed_model_is_switched_to_float32_and_back(tmp_path):
    model, x = Mixed(), np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    before = model.predict(x, verbose=0)
    made = made_of(model, tmp_path, "float32", x=x)
    assert made.shipped == ["float32"] and made.rows.max_error.max() < 1e-6
    assert model.dense.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_a_copy_that_is_another_network_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(bench._PRECISIONS, "float16", -1)
    monkeypatch.setattr("lth_keras.deployment.bench.EXACT", 0.0)
    model = network(layers.Input((4,)), layers.Dense(3, dtype="mixed_float16"))
    made = made_of(model, tmp_path, "float32")
    assert "float32 copy of the network, and an output is" in made.refused["float32"]


def test_the_route_is_a_format_that_works(tmp_path, monkeypatch):
    def fails(*arguments):
        raise ValueError("no")
    for name in ("float16", "dynamic_int8"):
        monkeypatch.setitem(formats.FORMATS, name, formats.dataclasses.replace(
            formats.get(name), convert=fails))
    model = network(layers.Input((4,)))
    made = made_of(model, tmp_path, "dynamic_int8", "float16")
    assert [reason.rpartition("Instead: ")[2] for reason in made.refused.values()] == \
        ["float32 is exact."] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "deployment.json"]


def test_what_the_default_interpreter_refuses_lies_in_a_folder_that_says_so(tmp_path):
    model = exports.dense()
    x = exports.examples(model)
    made = export(model, tmp_path, data=(x, None), formats=["float32", "dynamic_int8_sparse"])
    assert "dynamic_int8_sparse" not in export.__globals__["DEFAULT"]
    assert set(made.rows[made.rows["format"] == "dynamic_int8_sparse"].file) == {
        "litert_without_default_delegates/model_dynamic_int8_sparse.tflite"}
    assert (tmp_path / made.rows.file.iloc[-1]).exists()
    export(model, tmp_path, data=(x, None), formats=["float32"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md", "deployment.json", "model_float32.tflite"]


def test_by_default_a_file_loads_in_the_default_interpreter(tmp_path, monkeypatch):
    measure = measuring.measure

    def refusing(path, runtime, *arguments, **options):
        return measuring.Measured(runtime, "RuntimeError: failed to prepare") \
            if runtime == "litert" else measure(path, runtime, *arguments, **options)
    monkeypatch.setattr(measuring, "measure", refusing)
    monkeypatch.setattr("lth_keras.deployment.export.DEFAULT", ("float32",))
    model = exports.dense()
    made = export(model, tmp_path, data=(exports.examples(model), None))
    assert not made.shipped and "failed to prepare" in made.refused["float32"]


class Patches(layers.Layer):
    """The patches of Keras' example of a vision transformer."""

    def call(self, images):
        return tf.image.extract_patches(images, [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1], "VALID")


def test_an_operation_that_tf_lite_lacks_is_named_with_its_layer(tmp_path):
    model = network(layers.Input((4, 4, 1)), Patches(name="patches"), layers.Flatten())
    with pytest.raises(LotteryError, match="no kernel for ExtractImagePatches, of patches$"):
        formats.convert(model, "float32", tmp_path / "file")


def test_by_default_one_example_of_a_small_test_set_may_be_lost(tmp_path, monkeypatch):
    model = network(layers.Input((4,)))
    x = examples(model, 50)
    predicted = model.predict(x, verbose=0)
    measure = measuring.measure

    def one_off(path, *arguments, **options):
        found = measure(path, *arguments, **options)
        if "dynamic_int8" in path.name:
            found.outputs[0] = -found.outputs[0]
        return found
    monkeypatch.setattr(measuring, "measure", one_off)
    data = (x, predicted.argmax(axis=1))
    made = export(model, tmp_path, data=data, formats=["dynamic_int8"])
    assert made.shipped == ["dynamic_int8"] and made.facts["tolerance"] == 2
    made = export(model, tmp_path, data=data, formats=["dynamic_int8"], tolerance=0.1)
    assert "loses 2.00 points of accuracy in litert, and at most 0.1" in \
        made.refused["dynamic_int8"]


def test_the_network_of_a_run_in_mixed_precision_is_exported(tmp_path):
    config = presets.get("digits").replace(dtype_policy="mixed_float16")
    keras.utils.set_random_seed(0)
    made = made_of(models.build(config, (64,), 10), tmp_path, "float32", "int8")
    assert made.shipped == ["float32", "int8"], made.refused
    assert made.facts["float32_copy"]["of"] == "float16"
