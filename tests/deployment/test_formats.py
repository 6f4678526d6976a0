import functools
import itertools
import tempfile

import exports
import numpy as np
import pytest
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from tiers import short_and_long

from lth_keras import prune_low_magnitude
from lth_keras.deployment import checks, measuring_process, runtimes
from lth_keras.deployment.conversion import converters, formats
from lth_keras.errors import LotteryError

NETWORKS = {"dense": exports.dense, "convolutional": exports.convolutional}
LITE = [name for name, each in formats.FORMATS.items() if each.suffix == ".tflite"]


@pytest.fixture
def in_this_process(tmp_path, monkeypatch):
    """Measures within this process, whose TensorFlow has its threads already."""
    def tensorflow(threads):
        import tensorflow
        return tensorflow
    monkeypatch.setattr(runtimes, "_tensorflow", tensorflow)
    # One call is enough where no time is asserted.
    monkeypatch.setattr(measuring_process, "REPEAT_SECONDS", 0)
    monkeypatch.setattr(measuring_process, "WARM_UP_SECONDS", 1e-9)
    return functools.partial(exports.trusted, folder=tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "network"), short_and_long(
    itertools.product(formats.FORMATS, NETWORKS),
    [*((name, "dense") for name in formats.FORMATS),
     *((name, "convolutional") for name in ("float32", "int8", "dynamic_int8_sparse"))]))
def test_every_format_computes_the_network(name, network, tmp_path, in_this_process):
    if name == "onnx":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
    # These files may take the process with them.
    measure = None if name.endswith("_sparse") else in_this_process
    rows = exports.rows(NETWORKS[network](), name, tmp_path, measure, tolerance=10)
    assert tuple(row.runtime for row in rows) == formats.get(name).runtimes
    if name.endswith("int8_sparse"):
        refused, *rows = rows
        assert refused.runtime == "litert"
        assert "RuntimeError: " in refused.reason and "failed to prepare" in refused.reason
    for row in rows:
        assert row.status == checks.SHIPPED and not row.reason, row.reason
        assert row.bytes > 1000 and 0 < row.gzip_bytes < row.bytes
        assert row.accuracy > 0.9  # The true classes are those that Keras predicts.


def test_the_sparse_float16_file_that_computes_nan_is_refused(tmp_path):
    for row in exports.rows(exports.dense(block=4), "float16_sparse", tmp_path):
        assert row.status == checks.REFUSED and not row.file
        assert row.reason == "280 outputs are NaN or infinite in litert"
    assert formats.route("float16_sparse", lambda name: True).startswith("float32_sparse ")


def test_the_route_of_that_file_works(tmp_path, in_this_process):
    for name in ("float32_sparse", "float16"):
        assert all(row.status == checks.SHIPPED for row in exports.rows(
            exports.dense(block=4), name, tmp_path, in_this_process))


def state(model):
    """What a conversion must leave as it was."""
    return (model.get_config(), [each.tobytes() for each in model.get_weights()],
            [each.numpy().tobytes() for each in model.optimizer.variables], model.loss,
            keras.mixed_precision.global_policy().name, keras.backend.floatx(),
            [layer.trainable for layer in model.layers])


@pytest.mark.parametrize("name", ["keras", "saved_model", "dynamic_int8_shared", "int8"])
def test_a_conversion_leaves_no_trace(name, tmp_path, monkeypatch, capfd):
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    model = exports.dense()
    model.compile("adam", "mse")
    x = exports.examples(model, 8)
    model.fit(x, np.zeros((8, 4)), verbose=0)
    before = state(model)
    capfd.readouterr()
    formats.convert(model, name, out / "file", x)
    assert capfd.readouterr() == ("", "")
    assert state(model) == before
    # tf.function's generated code, of the fit above too, goes when the process ends.
    assert all("autograph" in path.name for path in temporary.iterdir())
    assert [path.name for path in out.iterdir()] == ["file"]
    model.fit(x, np.zeros((8, 4)), verbose=0)


def test_a_keras_file_has_no_optimizer(tmp_path):
    model = exports.dense()
    formats.convert(model, "keras", tmp_path / "plain.keras")
    model.compile("adam", "mse")
    model.fit(exports.examples(model, 8), np.zeros((8, 4)), verbose=0)
    formats.convert(model, "keras", tmp_path / "trained.keras")
    trained, plain = (checks.file_size(tmp_path / f"{name}.keras") for name in ("trained", "plain"))
    assert trained < 1.1 * plain


def test_few_levels_pack_better_and_come_through_the_converter_exactly(tmp_path):
    model = exports.dense(keep=0.5)
    for name in ("dynamic_int8", "dynamic_int8_shared"):
        formats.convert(model, name, tmp_path / name)
    assert checks.gzip_size(tmp_path / "dynamic_int8_shared") < \
        0.9 * checks.gzip_size(tmp_path / "dynamic_int8")
    lite = Interpreter(str(tmp_path / "dynamic_int8_shared"))
    kernel, = (each for each in lite.get_tensor_details() if each["dtype"] == np.int8)
    stored = lite.get_tensor(kernel["index"]) * kernel["quantization_parameters"]["scales"][:, None]
    np.testing.assert_array_equal(stored.T, converters.share_values(model.layers[0].kernel.numpy()))


def test_int8_files_take_and_give_int8(tmp_path):
    model = exports.dense()
    formats.convert(model, "int8", tmp_path / "file", exports.examples(model))
    lite = Interpreter(str(tmp_path / "file"))
    for detail in (lite.get_input_details()[0], lite.get_output_details()[0]):
        assert detail["dtype"] == np.int8 and detail["quantization"][0] > 0


def test_calibration_sees_examples_from_all_over(monkeypatch, tmp_path):
    monkeypatch.setattr(converters, "REPRESENTATIVE", 3)
    model = exports.dense(keep=1)
    x = np.ones((101, 64), np.float32)
    x[[0, 50, 100]] = [[-4], [0], [4]]
    formats.convert(model, "int8", tmp_path / "file", x)
    detail = Interpreter(str(tmp_path / "file")).get_input_details()[0]
    assert detail["quantization"][0] == pytest.approx(8 / 255, rel=0.02)


@pytest.mark.parametrize("name", [name for name, each in formats.FORMATS.items()
                                  if each.needs_representative])
def test_formats_that_need_examples_say_so(name, tmp_path):
    with pytest.raises(LotteryError, match="representative examples"):
        formats.convert(exports.dense(), name, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_conversion_that_fails_says_why_in_a_line_and_leaves_what_was_there(tmp_path, capfd):
    model = keras.Sequential([keras.layers.Input((4,)),
                              keras.layers.Lambda(lambda x: keras.backend.cast(
                                  x, "complex64") ** 1.5)])
    (tmp_path / "file").write_text("before")
    with pytest.raises(LotteryError, match="^float32 could not be converted: .+") as error:
        formats.convert(model, "float32", tmp_path / "file")
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert (tmp_path / "file").read_text() == "before" and len(list(tmp_path.iterdir())) == 1
    assert capfd.readouterr() == ("", "")


def test_a_folder_gives_way_to_a_file_and_back(tmp_path):
    model = exports.dense()
    for name in ("saved_model", "float32", "saved_model"):
        formats.convert(model, name, tmp_path / "file")
        assert (tmp_path / "file").is_dir() == (name == "saved_model")


def test_a_wrapped_model_and_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(LotteryError, match="strip_pruning"):
        formats.convert(prune_low_magnitude(exports.dense()), "float32", tmp_path / "file")
    with pytest.raises(LotteryError, match="format must be one of keras, saved_model"):
        formats.convert(exports.dense(), "caffe", tmp_path / "file")
    with pytest.raises(LotteryError, match="already registered"):
        formats.register(formats.get("keras"))


class Subclassed(keras.Model):
    """Of a kind that Keras cannot copy."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_subclassed_models_are_converted_once_they_were_called(tmp_path, in_this_process):
    model = Subclassed()
    with pytest.raises(LotteryError, match="called once before it is converted"):
        formats.convert(model, "float32", tmp_path / "file")
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    reference = model.predict(x, verbose=0)
    for name in ("saved_model", "float32"):
        path = tmp_path / name
        formats.convert(model, name, path)
        measured = in_this_process(path, formats.get(name).runtimes[0], x)
        np.testing.assert_allclose(measured.outputs, reference, atol=1e-5)
    with pytest.raises(LotteryError, match="rounded in a copy"):
        formats.convert(model, "dynamic_int8_shared", tmp_path / "file")
