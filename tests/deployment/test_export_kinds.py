"""Export of networks with several inputs and outputs, of one's own class, and of every target."""

import io

import exports
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console

import lth_keras as lth
from lth_keras.deployment import manifest, model_card
from lth_keras.deployment.conversion import converters, formats
from lth_keras.deployment.export import export
from lth_keras.errors import LotteryError
from lth_keras.reports import deployment_tables

pytestmark = pytest.mark.thorough

layers = keras.layers
N = 40


@pytest.fixture(autouse=True)
def measured_here(monkeypatch):
    exports.measure_here(monkeypatch)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(N, *shape)).astype(np.float32)


def written(*tables):
    """What tables print on a wide terminal."""
    file = io.StringIO()
    for table in tables:
        Console(file=file, width=160).print(table)
    return file.getvalue()


def named():
    """Two inputs and two outputs of equal shapes, which TensorFlow Lite puts in another order."""
    zeta, alpha = layers.Input((3,), name="zeta"), layers.Input((3,), name="alpha")
    joined = layers.Concatenate()([layers.Dense(4, "relu", name="z")(zeta),
                                   layers.Dense(4, "tanh", name="a")(alpha)])
    model = keras.Model([alpha, zeta], [layers.Dense(1, name="mean")(joined),
                                        layers.Dense(1, name="width")(joined)], name="named")
    return exports.pruned(model, 0.8)


def named_data():
    return {"alpha": numbers(3), "zeta": numbers(3, seed=1)}, \
        {"mean": numbers(seed=2), "width": numbers(seed=3)}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Its export, in formats of every runtime."""
    keras.utils.set_random_seed(0)
    model = named()
    model.compile("adam", {"mean": "mse", "width": "mae"})
    with pytest.MonkeyPatch.context() as patch:
        exports.measure_here(patch)
        made = export(model, tmp_path_factory.mktemp("several"), data=named_data(),
                      formats=["keras", "saved_model", "float32", "dynamic_int8", "int8"],
                      representative=[numbers(3), numbers(3, seed=1)], dense=named(), tolerance=1)
    return model, made


def test_every_output_is_compared_with_its_own_in_every_format(several):
    model, made = several
    assert made.shipped == ["keras", "saved_model", "float32", "dynamic_int8", "int8"]
    assert made.rows.accuracy.isna().all() and (made.rows.latency_32_us > 0).all()
    assert len(made.outputs) == 2 * len(made.rows)
    x, y = named_data()
    mean, width = model.predict([x["alpha"], x["zeta"]], verbose=0)
    for name, outputs, measure in (("mean", mean, np.square), ("width", width, np.abs)):
        rows = made.outputs[made.outputs.output == name]
        assert rows.keras.unique() == pytest.approx(measure(outputs[:, 0] - y[name]).mean())
        exact = rows[rows["format"].isin(["keras", "saved_model", "float32"])]
        assert (exact.max_error < 1e-5).all() and (exact.lost.abs() < 1e-3).all()
    largest = made.outputs.groupby(["format", "runtime"], sort=False).max_error.max()
    assert largest.tolist() == made.rows.max_error.tolist()


def test_a_mix_up_of_inputs_or_outputs_would_be_seen(several, tmp_path, monkeypatch):
    model, made = several
    lite = Interpreter(str(made.folder / "model_float32.tflite"))
    runner = lite.get_signature_runner()
    for kind, names in (("input", ["alpha", "zeta"]), ("output", ["mean", "width"])):
        details = getattr(runner, f"get_{kind}_details")()
        order = [detail["index"] for detail in getattr(lite, f"get_{kind}_details")()]
        by_place = sorted(details, key=lambda name: order.index(details[name]["index"]))
        assert by_place == names[::-1], "or this file could be used by place"
    runner = type(runner)
    for kind in ("get_input_details", "get_output_details"):
        with monkeypatch.context() as patch:
            details = getattr(runner, kind)
            patch.setattr(runner, kind, lambda self, details=details: dict(zip(
                details(self), reversed(details(self).values()), strict=True)))
            wrong = export(model, tmp_path / kind, data=named_data(), formats=["float32"])
        assert not wrong.shipped and "rounding explains" in wrong.refused["float32"]


def test_the_measures_of_several_outputs_are_kept_and_said(several, monkeypatch, capsys):
    _, made = several
    read = manifest.read(made.folder)
    pd.testing.assert_frame_equal(read.outputs, made.outputs)
    said = written(deployment_tables.table(made), deployment_tables.by_output(made))
    assert "mean squared error" in said and "pt are the most that an output loses" in said
    card = (made.folder / "README.md").read_text()
    for part in ("- Input `zeta`: float32 of shape (batch, 3).", "- Output `mean`: float32 of",
                 "- Output `width`: mean absolute error in Keras: ",
                 "on 40 held-out examples. Files may lose points of the targets' variance.",
                 "| `model_int8.tflite` | ai-edge-litert | `mean` | mean squared error |",
                 "How well outputs fit was measured"):
        assert part in card, part
    monkeypatch.chdir(made.folder)
    exec(compile(card.split("```python\n")[1].split("```")[0], "card", "exec"), {})
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"mean", "width"}


@pytest.mark.parametrize("format_", ["int8"])
def test_the_cards_code_quantises_each_input(several, format_, monkeypatch, capsys):
    _, made = several
    only = manifest.Deployment(made.folder, made.rows[made.rows["format"] == format_], made.facts)
    monkeypatch.chdir(made.folder)
    code = model_card.text(only).split("```python\n")[1].split("```")[0]
    exec(compile(code, "card", "exec"), {})
    assert "mean" in capsys.readouterr().out


class Own(keras.Model):
    """A call of one's own: a dict in, a dict out, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.shared = layers.Dense(6, "relu")
        self.kind = layers.Dense(3, "softmax")
        self.size = layers.Dense(1)

    def call(self, inputs):
        found = self.shared(inputs["left"]) - self.shared(inputs["right"])
        return {"kind": self.kind(found), "size": self.size(found)}


def test_a_model_of_ones_own_class_is_called_stripped_and_exported(tmp_path):
    keras.utils.set_random_seed(0)
    model, x = Own(), {"right": numbers(4), "left": numbers(4, seed=1)}
    y = {"kind": np.arange(N) % 3, "size": numbers(1, seed=2)}
    model(x)
    model = lth.prune_low_magnitude(model)
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "size": "mse"})
    model.fit(x, y, verbose=0)
    made = export(model, tmp_path, data=(x, y), tolerance=1,
                  formats=["float32", "saved_model"])
    assert made.shipped == ["float32", "saved_model"]
    found = made.outputs.drop_duplicates("output").set_index("output")
    assert found.measure.to_dict() == {"kind": "accuracy", "size": "mean squared error"}
    assert "the graph of a subclassed model is its code" in made.facts["compaction"]
    assert not lth.keras2.masking.weight_names.wrappers(model)
    fresh = export(Own(), tmp_path / "fresh", data=(x, None), formats=["float32"])
    assert fresh.shipped == ["float32"], "which nobody called before"


def test_a_model_of_ones_own_class_keeps_what_it_is_not_told_of(tmp_path):
    with pytest.raises(LotteryError, match="on whose first one it is called. Received: .*KeyError"):
        export(Own(), tmp_path, data=({"left": numbers(4)}, None), formats=["float32"])
    with pytest.raises(LotteryError, match="targets for each output, kind, size, in a dict"):
        export(Own(), tmp_path, data=({"left": numbers(4), "right": numbers(4)}, np.zeros(N)))


def head(*outputs, shape=(4,)):
    inputs = layers.Input(shape)
    return keras.Model(inputs, layers.Dense(*outputs)(layers.Dense(6, "relu")(inputs)))


def pixels():
    return keras.Sequential([layers.Input((4, 4, 1)), layers.Conv2D(
        6, 3, padding="same", activation="relu"), layers.Conv2D(3, 1, activation="softmax")])


PLACES = np.random.default_rng(3).integers(0, 3, (N, 4, 4))
CASES = {  # The model, its loss, examples, targets, and the measure.
    "one-hot": (lambda: head(3, "softmax"), "categorical_crossentropy", numbers(4),
                np.eye(3)[np.arange(N) % 3], "accuracy"),
    "column": (lambda: head(3), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
               numbers(4), np.arange(N)[:, None] % 3, "accuracy"),
    "pixels": (pixels, "sparse_categorical_crossentropy", numbers(4, 4, 1), PLACES, "accuracy"),
    "one-hot pixels": (pixels, "categorical_crossentropy", numbers(4, 4, 1), np.eye(3)[PLACES],
                       "accuracy"),
    "labels": (lambda: head(1, "sigmoid"), "binary_crossentropy", numbers(4), np.arange(N) % 2,
               "accuracy"),
    "number": (lambda: head(1), "mse", numbers(4), numbers(seed=1), "mean squared error"),
    "numbers": (lambda: head(2), "mae", numbers(4), numbers(2, seed=1), "mean absolute error"),
    "own": (lambda: head(1), lambda y, p: tf.abs(y - p) ** 3, numbers(4), numbers(seed=1),
            "<lambda>")}


@pytest.mark.parametrize("case", CASES)
def test_the_measure_of_an_export_is_what_keras_evaluates(case, tmp_path):
    keras.utils.set_random_seed(0)
    make, loss, x, y, measure = CASES[case]
    model = make()
    metric = {"mean squared error": "mse", "mean absolute error": "mae"}.get(measure, measure)
    model.compile("adam", loss, metrics=[loss if measure == "<lambda>" else metric])
    made = export(model, tmp_path, data=(x, y), formats=["float32"])
    assert made.shipped == ["float32"]
    evaluated = model.evaluate(x, y, verbose=0)[1]
    of_keras, = made.facts["reference"]["outputs"]
    assert of_keras["measure"] == measure
    assert of_keras["value"] == pytest.approx(evaluated, rel=1e-5)
    assert made.outputs["value"].to_list() == pytest.approx([evaluated] * 2, rel=1e-4)
    said, card = written(deployment_tables.table(made)), (tmp_path / "README.md").read_text()
    if measure == "accuracy":
        assert made.rows.accuracy.tolist() == made.outputs["value"].tolist()
        assert made.facts["reference"]["accuracy"] == of_keras["value"]
    else:
        assert f"Keras' {measure} is" in said and f"| gzip | {measure} |" in card
        assert f"{measure[1:]} in Keras: {of_keras['value']:.4g} on 40" in card


def test_a_file_that_loses_too_much_of_the_variance_is_refused(tmp_path, monkeypatch):
    def spoiled(model, path, representative=None):
        other = keras.models.clone_model(model)
        other.set_weights([1.05 * weight for weight in model.get_weights()])
        converters.float32(other, path)
    monkeypatch.setitem(formats.FORMATS, "float16", formats.dataclasses.replace(
        formats.get("float16"), convert=spoiled, rounding=None))
    model, x = head(1), numbers(4)
    y = model.predict(x, verbose=0)
    for compiled, said in ((True, "points of the targets' variance in litert, and at most 0.1"),
                           (False, "")):
        if compiled:
            model.compile("adam", "mse")
        else:
            model = keras.models.clone_model(model)
        made = export(model, tmp_path, data=(x, y), formats=["float16"], tolerance=0.1)
        assert said in made.refused.get("float16", "") and bool(made.refused) == compiled


def test_what_has_no_measure_is_said(tmp_path):
    made = export(head(2), tmp_path, data=(numbers(4), numbers(2)), formats=["float32"])
    assert made.outputs.measure.tolist() == ["", ""] and made.outputs.lost.isna().all()
    assert (made.outputs.agreement == 1).all()
    assert "Files were compared with Keras' outputs alone, on 40 held-out examples: the model is " \
        "not compiled with a loss for it." in (tmp_path / "README.md").read_text()


def test_targets_that_do_not_fit_their_loss_are_said_before_anything_is_written(tmp_path):
    model = head(2)
    model.compile("adam", "mse")
    with pytest.raises(LotteryError, match=r"outputs' shape, \(40, 2\). Received: targets"):
        export(model, tmp_path / "out", data=(numbers(4), numbers(3)), formats=["float32"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("fault", "said"), [
    (lambda model, take_inputs: 1 / 0, "compaction raised ZeroDivisionError"),
    (lambda model, take_inputs: lth.Compacted(head(1), {}, {}, (), (1, 1)),
     "its outputs would differ by")])
def test_a_compaction_that_fails_is_left_and_said(fault, said, tmp_path, monkeypatch):
    from lth_keras.deployment.compaction.compact import Compacted
    monkeypatch.setattr(lth, "Compacted", Compacted, raising=False)
    monkeypatch.setattr("lth_keras.deployment.export.compact", fault)
    made = export(head(1), tmp_path, data=(numbers(4), None), formats=["float32"])
    assert made.shipped == ["float32"]
    assert "is exported as it is, since " + said in made.facts["compaction"]


def test_units_of_several_heads_are_compacted_exactly(tmp_path):
    model = named()
    kernel = model.get_layer("z").kernel
    kernel.assign(kernel * [0, 1, 1, 1])
    made = export(model, tmp_path, data=(named_data()[0], None), formats=["float32"])
    assert "z: 4 units -> 3" in made.facts["compaction"] and made.shipped == ["float32"]


def test_a_dense_network_of_other_ends_is_left_out_and_said(tmp_path):
    made = export(named(), tmp_path, data=(named_data()[0], None), formats=["float32"],
                  dense=head(1))
    assert made.facts["dense"] is None and "2 inputs" in made.facts["dense_refused"]
