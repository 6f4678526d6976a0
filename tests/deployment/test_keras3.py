"""Exports of Keras 3 models, on every backend: the files compute what the model does."""

import json
import os
import pathlib
import subprocess
import sys

import exports
import keras
import numpy as np
import pytest
import registered3

import lth_keras as lth
from lth_keras.deployment import measuring
from lth_keras.deployment.comparison import held_out, signature
from lth_keras.deployment.conversion import converters, formats
from lth_keras.deployment.conversion.tensorflow_process import ByTensorFlow, TensorFlowProcess
from lth_keras.deployment.models.keras3_models import KIND
from lth_keras.errors import LotteryError

layers = keras.layers
HERE = pathlib.Path(__file__).parent


def small():
    """Of layers that Keras 3 names otherwise, with a unit that nobody reads."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu", name="a"),
        layers.DepthwiseConv2D(2, name="b"), layers.BatchNormalization(), layers.Flatten(),
        layers.Dense(3, name="c")], name="small")
    model.get_layer("a").kernel.assign(keras.ops.convert_to_numpy(
        model.get_layer("a").kernel) * [1, 1, 0, 1])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def data(model, count=20):
    x = np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype(np.float32)
    return x, model.predict(x, verbose=0).argmax(axis=1)


@pytest.fixture
def measured_here(monkeypatch):
    exports.measure_here(monkeypatch)


def test_a_model_is_compacted_converted_compared_and_described(tmp_path, measured_here):
    model = small()
    x, y = data(model)
    made = lth.export(model, tmp_path, data=(x, y), formats=["float32", "dynamic_int8_shared"],
                      tolerance=5)
    assert made.shipped == ["float32", "dynamic_int8_shared"], made.refused
    assert made.facts["keras"] == "Keras 3" and "a: 4 units -> 3" in made.facts["compaction"]
    assert made.facts["versions"]["keras"] == keras.__version__
    assert made.rows.max_error.iloc[0] < 1e-5 and made.rows.accuracy.iloc[0] == 1
    card = (tmp_path / "README.md").read_text()
    assert "library_name: keras\n" in card and "tf_keras" not in card


def functional():
    """Inputs and outputs by name: one is of whole numbers, one output is made by an operation."""
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b", dtype="int32")
    hidden = layers.Concatenate()([a, layers.Flatten()(layers.Embedding(9, 2)(b))])
    return keras.Model({"b": b, "a": a}, {"q": layers.Dense(1)(hidden), "p": hidden + 1.0})


def test_inputs_and_outputs_have_the_names_of_keys():
    names = signature.of(functional())
    assert list(names.inputs) == ["a", "b"] and names.outputs == ("p", "q")
    assert names.inputs["b"].dtype == "int32" and names.inputs["a"].shape == (None, 4)


def test_those_of_a_list_have_the_names_of_layers_and_the_same_layer_two():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    dense = layers.Dense(2, name="dense")
    names = signature.of(keras.Model([a, b], [dense(a), dense(b)]))
    assert names.takes == ["a", "b"] and names.returns == ["dense", "dense_1"]


def test_a_sequential_model_takes_more_than_its_first_batch():
    model = keras.Sequential([layers.Dense(2)])
    held_out.build(model, np.zeros((5, 3), np.float32))
    names = signature.of(model)
    assert [spec.shape for spec in names.inputs.values()] == [(None, 3)]


def test_a_subclassed_model_takes_what_it_is_given():
    model = registered3.Words()
    with pytest.raises(LotteryError, match="must be called once"):
        signature.of(model)
    held_out.build(model, np.zeros((5, 3), np.int32))
    names = signature.of(model)
    assert names.inputs["input_1"].dtype == "int32" and names.outputs == ("output_1",)


NUMBERS = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
ADAPTED = {
    "IntegerLookup": (layers.IntegerLookup, "int64", np.array([[100, 200], [300, 400]] * 10)),
    "StringLookup": (layers.StringLookup, "string", np.array([["a", "b"], ["c", "d"]] * 10)),
    "TextVectorization": (lambda: layers.TextVectorization(output_sequence_length=2), "string",
                          np.array([["a b"], ["c d"]] * 10)),
    "Discretization": (lambda: layers.Discretization(num_bins=4), "float32", NUMBERS),
    "Normalization": (layers.Normalization, "float32", 3 * NUMBERS + 1)}


def adapted(name):
    """A model with a layer that has learnt from data, and these."""
    make, dtype, x = ADAPTED[name]
    learnt, inputs = make(), keras.Input(x.shape[1:], dtype=dtype)
    learnt.adapt(x[:, 0] if name == "TextVectorization" else x)
    hidden = learnt(inputs)
    if name != "Normalization":
        hidden = layers.Flatten()(layers.Embedding(9, 3)(hidden))
    return keras.Model(inputs, layers.Dense(2)(hidden)), x


@pytest.mark.parametrize("name", ADAPTED)
def test_a_copy_has_what_a_layer_was_adapted_to(name):
    model, x = adapted(name)
    copy = KIND.copy(model)
    assert copy is not model
    np.testing.assert_array_equal(*(KIND.predict(each, x, 7)[0] for each in (copy, model)))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["IntegerLookup", "StringLookup"])
def test_a_file_has_the_vocabulary_that_a_lookup_was_adapted_to(name, tmp_path, measured_here):
    model, x = adapted(name)
    made = lth.export(model, tmp_path, data=(x, None), formats=["keras", "saved_model"], repeats=1)
    assert made.shipped == ["keras", "saved_model"], made.refused


@pytest.mark.thorough
def test_a_file_of_a_model_that_takes_one_array_by_name_is_called_so(tmp_path, measured_here):
    made = lth.export(registered3.Named(), tmp_path, data=({"x": NUMBERS}, None),
                      formats=["keras", "saved_model", "float32"], repeats=1)
    assert made.shipped == ["keras", "saved_model", "float32"], made.refused


@pytest.mark.thorough
@pytest.mark.parametrize("compaction", ["units", "inputs"])
def test_the_card_asks_for_no_layer_of_this_package_that_is_not_there(
        tmp_path, measured_here, compaction):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.layers[0].kernel.assign(np.array([[0.0] * 3] * 2 + [[1.0] * 3] * 2))
    made = lth.export(model, tmp_path, data=(NUMBERS @ np.ones((2, 4), np.float32), None),
                      formats=["keras"], compaction=compaction, repeats=1)
    assert made.shipped == ["keras"] and not made.facts["own_layers"]
    assert ("4 inputs -> 2" in made.facts["compaction"]) == (compaction == "inputs")
    assert "import lth_keras" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_another_precision_is_left_for_a_while_and_come_back_to(policy):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype=policy)])
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    before = model.predict(x, verbose=0)
    assert KIND.precision(model) == policy.removeprefix("mixed_")
    with KIND.in_float32(model) as same:
        assert KIND.precision(same) is None
        found = same.predict(x, verbose=0)
    assert found.dtype == np.float32 and model.layers[0].compute_dtype == before.dtype
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    weights = [np.asarray(each, np.float32) for each in model.get_weights()]
    np.testing.assert_allclose(found, x @ weights[0] + weights[1], atol=1e-5)


def test_a_recurrent_layer_is_unrolled_if_sequences_have_a_length(tmp_path):
    for steps, works in ((3, True), (None, False)):
        model = keras.Sequential([keras.Input((steps, 2)), layers.LSTM(2)])
        if works:
            formats.convert(model, "float32", tmp_path / "file")
            assert not model.layers[0].unroll
        else:
            with pytest.raises(LotteryError, match=r"must have a fixed length. Received: .*None"):
                formats.convert(model, "float32", tmp_path / "file")


def test_what_is_missing_is_said_with_the_command_that_installs_it():
    how = ByTensorFlow("any:thing", packages=("no_such_package",), extra="onnx")
    with pytest.raises(LotteryError, match=r"onnx needs no_such_package .*pip install 'lth_keras"):
        how.check("onnx")


def test_classes_that_another_process_cannot_import_are_said():
    class Own(layers.Layer):
        pass
    model = keras.Sequential([keras.Input((2,)), Own()])
    with pytest.raises(LotteryError, match="Own, which is defined in a function. Put it into"):
        TensorFlowProcess(model)


@pytest.mark.thorough
def test_a_process_of_its_own_converts_as_this_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(type(KIND), "backend", "jax")  # So that it is asked.
    model = keras.Sequential([keras.Input((3,), dtype="int32"), registered3.Words(), layers.ReLU()])
    held_out.build(model, np.zeros((2, 3), np.int32))
    with formats.converter(model) as convert:
        convert("float32", tmp_path / "elsewhere")
        monkeypatch.setitem(formats.FORMATS, "float16", formats.dataclasses.replace(
            formats.get("float16"), convert=ByTensorFlow(f"{converters.__name__}:nothing")))
        with pytest.raises(LotteryError, match="could not be converted.*'nothing'"):
            convert("float16", tmp_path / "never")
        convert("float32", tmp_path / "again")
    assert (tmp_path / "elsewhere").read_bytes() == (tmp_path / "again").read_bytes()
    x = np.arange(12, dtype=np.int32).reshape(4, 3) % 9
    for name in ("elsewhere", "again"):
        found = measuring.measure(tmp_path / name, "litert", x, repeats=1)
        np.testing.assert_allclose(found.outputs, model.predict(x, verbose=0), atol=1e-6)


PROGRAM = """
import sys
{before}
import keras, numpy as np, lth_keras as lth, registered3
keras.utils.set_random_seed(0)
model = registered3.images()
x = np.random.default_rng(0).normal(size=(9, 6, 6, 2)).astype("float32")
made = lth.export(model, sys.argv[1], data=(x, None), formats=sys.argv[2].split(","), repeats=1,
                  representative=x)
import json
print(json.dumps([made.shipped, made.refused, made.rows.max_error.dropna().tolist(),
                  made.facts["backend"], made.facts["compaction"],
                  [name for name in sys.modules if name.startswith("lth_keras.keras2")]]))
"""


def exported(backend, out, names, before=""):
    paths = [str(HERE.parent / "support"), str(HERE.parent.parent),
             os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before), str(out), names], text=True,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_model_of_another_backend_is_compared_with_what_it_computes_itself(backend, tmp_path):
    pytest.importorskip(backend)
    shipped, refused, errors, on, compaction, loaded = exported(
        backend, tmp_path, "keras,saved_model,float32,int8")
    assert shipped == ["keras", "saved_model", "float32", "int8"], refused
    assert max(errors[:3]) < 1e-5 and on == backend and "a: 4 units -> 3" in compaction
    assert not loaded, "the engine for tf_keras"


@pytest.mark.thorough
def test_without_tensorflow_a_keras_file_is_made_and_the_rest_is_said(tmp_path):
    pytest.importorskip("jax")
    shipped, refused, *_ = exported(
        "jax", tmp_path, "keras,float32,onnx",
        "sys.modules.update(dict.fromkeys(['tensorflow', 'tf_keras', "
        "'tensorflow_model_optimization', 'tensorflow_datasets']))")
    assert shipped == ["keras"]
    assert refused["float32"].startswith("float32 needs tensorflow to be written.")
    assert "pip install tensorflow" in refused["float32"] and "onnx" in refused["onnx"]


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_compaction_is_exact_on_another_backend(backend):
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider",
         str(HERE / "compaction" / "test_compact.py"), "-k", "keras3 and (flattened or ties or "
         "takes_what or normalisation)"], cwd=HERE.parent.parent, capture_output=True,
        text=True, env={**os.environ, "KERAS_BACKEND": backend}, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
