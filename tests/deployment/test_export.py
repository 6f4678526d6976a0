"""Export: networks to checked files, from Python and by the command."""

import json
import os
import shutil
import sys

import exports
import numpy as np
import pytest
import small
import tf_keras as keras

import lth_keras as lth
from lth_keras.cli import main
from lth_keras.deployment import manifest, trained_networks
from lth_keras.deployment.export import export
from lth_keras.errors import LotteryError
from lth_keras.experiments import clusters

LITE = ("float32", "dynamic_int8")


def data(count=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    return x, (x.sum(axis=1) > 0).astype(np.int32)


def sparse(seed=0):
    """A trained, wrapped network of which two of eight units are dead."""
    keras.utils.set_random_seed(seed)
    model = lth.prune_low_magnitude(keras.Sequential([
        keras.layers.Input((6,)), keras.layers.Dense(8, "relu", name="a"),
        keras.layers.Dense(2, name="b")], name="small"))
    first, last = model.layers
    mask = np.ones((6, 8), np.float32)
    mask[:, :2] = 0
    first.pruning_vars[0][1].assign(mask)
    first.layer.kernel.assign(first.layer.kernel * mask)
    last.layer.kernel.assign(np.sign(np.arange(16).reshape(8, 2) % 2 - 0.5).astype(np.float32))
    return model


@pytest.fixture(autouse=True)
def measured_here(monkeypatch):
    exports.measure_here(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An export as users have it, each file measured in a process of its own."""
    folder = tmp_path_factory.mktemp("deploy")
    return export(sparse(), folder, data=data(), formats=[*LITE, "keras", "int8"],
                  representative=data(seed=1)[0], dense=sparse(1), tolerance=5)


def test_what_is_shipped_is_there_described_and_nothing_else(made):
    assert made.shipped == [*LITE, "keras", "int8"] and not made.refused
    assert sorted(os.listdir(made.folder)) == sorted([
        "model_float32.tflite", "model_dynamic_int8.tflite", "model_keras.keras",
        "model_int8.tflite", "deployment.json", "README.md"])
    for _, row in made.rows.iterrows():
        assert row.bytes == (made.folder / row.file).stat().st_size
        assert row.latency_1_us > 0 and row.not_finite == 0 and row.accuracy_lost <= 5
    read = manifest.read(made.folder)
    assert read.shipped == made.shipped and read.facts["name"] == "small"


def test_dead_units_are_gone_and_density_is_known(made):
    assert "a: 8 units -> 6" in made.facts["compaction"]
    assert made.facts["density"] == pytest.approx((48 + 16 - 12) / 64)
    loaded = keras.models.load_model(made.folder / "model_keras.keras")
    np.testing.assert_allclose(loaded.predict(data()[0], verbose=0),
                               sparse().predict(data()[0], verbose=0), rtol=1e-5, atol=1e-6)
    assert loaded.get_layer("a").units == 6


def test_the_dense_network_is_measured_beside_it(made):
    assert made.facts["dense"]["status"] == "shipped" and made.facts["dense"]["bytes"] > 0


def test_costs_are_those_of_the_network_in_the_files_beside_the_dense_ones(made):
    # 6 x 6 + 6 and 6 x 2 + 2 weights after compaction, 6 x 8 + 8 and 8 x 2 + 2 before.
    costs = {"parameters": 56, "macs": 48, "notes": []}
    dense = {"parameters": 74, "macs": 64, "notes": []}
    assert made.facts["costs"] == {**costs, "dense": dense}
    assert (made.rows.parameters == 56).all() and (made.rows.macs == 48).all()
    assert "48 multiply-adds (75.0% of the dense network's 64)" in \
        (made.folder / "README.md").read_text()


def test_zeros_that_compaction_leaves_are_costs(tmp_path):
    made = export(sparse(), tmp_path, data=data(), formats=["float32"], compaction="none")
    assert made.facts["density"] < 1
    costs = made.facts["costs"]
    assert costs["macs"] == costs["dense"]["macs"] == 64
    assert costs["parameters"] == costs["dense"]["parameters"] == 74


def test_a_network_that_was_compacted_before_has_its_own_costs_alone(tmp_path):
    made = export(lth.compact(sparse()).model, tmp_path, data=data(), formats=["float32"])
    assert made.facts["costs"] == {"parameters": 56, "macs": 48, "notes": [], "dense": None}
    assert "- One example takes 48 multiply-adds with 56 parameters.\n" in \
        (tmp_path / "README.md").read_text()


def test_costs_that_cannot_be_counted_stop_no_export(tmp_path, monkeypatch):
    def fails(model, shapes):
        raise RuntimeError("a call of one's own")
    monkeypatch.setattr("lth_keras.deployment.export.profile", fails)
    made = export(sparse(), tmp_path, data=data(), formats=["float32"])
    assert made.shipped == ["float32"] and made.facts["costs"] is None
    assert "multiply-adds" not in (tmp_path / "README.md").read_text()


def test_without_classes_outputs_are_compared_and_accuracy_is_not(tmp_path):
    made = export(sparse(), tmp_path, data=(data()[0], None), formats=["float32"],
                  compaction="none")
    assert made.rows.accuracy.isna().all() and (made.rows.max_error < 1e-5).all()
    assert made.facts["compaction"] == "" and made.facts["reference"]["accuracy"] is None
    largest = abs(sparse().predict(data()[0], verbose=0)).max()
    assert made.facts["reference"]["largest_output"] == pytest.approx(largest, rel=1e-5)


def test_latencies_are_repeated_as_often_as_asked_for(tmp_path, monkeypatch):
    from lth_keras.deployment import measuring
    measured, measure = [], measuring.measure

    def spy(*arguments, **options):
        measured.append(measure(*arguments, **options))
        return measured[-1]
    monkeypatch.setattr(measuring, "measure", spy)
    export(sparse(), tmp_path, data=data(), formats=["float32"], repeats=2)
    assert [found.batch_1.repeats for found in measured] == [2] * len(measured) and measured


def test_an_export_replaces_an_earlier_one_and_nothing_else(tmp_path):
    arguments = {"data": data(), "tolerance": 100}
    export(sparse(), tmp_path, formats=LITE, **arguments)
    (tmp_path / "mine.txt").write_text("kept")
    export(sparse(), tmp_path, formats=["float32"], **arguments)
    assert sorted(os.listdir(tmp_path)) == ["README.md", "deployment.json", "mine.txt",
                                            "model_float32.tflite"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").write_text("kept")
    with pytest.raises(LotteryError, match="holds something else"):
        export(sparse(), tmp_path / "other", formats=LITE, **arguments)
    assert os.listdir(tmp_path / "other") == ["thing"]


def test_another_programs_files_are_not_touched(tmp_path):
    (tmp_path / "deployment.json").write_text('{"kind": "Deployment"}')
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(LotteryError, match="holds something else"):
        export(sparse(), tmp_path, data=data(), formats=["float32"])
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(LotteryError, match="must be a folder"):
        export(sparse(), tmp_path / "README.md", data=data(), formats=["float32"])


def test_what_is_interrupted_leaves_what_was_there_and_can_be_done_again(tmp_path, monkeypatch):
    export(sparse(), tmp_path, data=data(), formats=["float32"], tolerance=100)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def press(name):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        export(sparse(1), tmp_path, data=data(), formats=["float16"], on_format=press)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lth_keras.deployment.export.shutil.move", lambda *paths: press("moved"))
        export(sparse(), tmp_path / "new", data=data(), formats=["float16"], tolerance=100)
    made = export(sparse(), tmp_path / "new", data=data(), formats=["float16"], tolerance=100)
    assert made.shipped == ["float16"]


def test_a_wrapped_subclassed_model_that_is_refused_stays_wrapped(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(2)

        def call(self, x):
            return self.inner(x)
    model = Own()
    model(data()[0])
    model = lth.prune_low_magnitude(model)
    with pytest.raises(LotteryError, match="one target for each of its 60"):
        export(model, tmp_path, data=(data()[0], np.zeros(3)))
    assert any("Masked" in type(layer).__name__ or hasattr(layer, "pruning_vars")
               for layer in model.layers)


def test_an_activation_of_ones_own_is_left_and_said(tmp_path):
    model = keras.Sequential([keras.layers.Input((6,)),
                              keras.layers.Dense(8, lambda x: x * 0.5), keras.layers.Dense(2)])
    done = lth.compact(model)
    assert "cannot be made from its get_config" in done.left[0]
    np.testing.assert_allclose(done.model(data()[0]), model(data()[0]), rtol=1e-6)
    made = export(model, tmp_path, data=data(), formats=["float32"], tolerance=100)
    assert made.shipped == ["float32"]
    assert "cannot be made from its get_config" in made.facts["compaction"]


def test_a_dense_network_that_cannot_be_converted_is_left_out_and_said(tmp_path):
    import tensorflow as tf
    odd = keras.Sequential([keras.layers.Input((6,)), keras.layers.Lambda(
        lambda x: tf.math.erfinv(x / 100)), keras.layers.Dense(2)])
    made = export(sparse(), tmp_path, data=data(), formats=["float32"], dense=odd, tolerance=100)
    assert made.facts["dense"] is None and made.facts["dense_refused"]
    assert (tmp_path / "README.md").exists()


@pytest.mark.parametrize("format_", ["float32", "int8", "dynamic_int8_sparse"])
def test_the_cards_code_runs(tmp_path, monkeypatch, capsys, format_):
    made = export(sparse(), tmp_path, data=data(), formats=[format_], tolerance=100,
                  representative=data(seed=1)[0])
    code = (made.folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.startswith("[[")


def test_tensorflow_can_still_warn_after_an_export(made, capsys):
    import tensorflow as tf
    tf.get_logger().warning("a warning")
    assert "Logging error" not in capsys.readouterr().err


def test_a_format_that_loses_too_much_is_refused_and_not_there(tmp_path, monkeypatch):
    from lth_keras.deployment.conversion import converters, formats

    def spoiled(model, path, representative=None):
        other = keras.models.clone_model(model)
        other.set_weights([-weight for weight in model.get_weights()])
        converters.float32(other, path)
    monkeypatch.setitem(formats.FORMATS, "float16", formats.dataclasses.replace(
        formats.get("float16"), convert=spoiled))
    examples = data()[0]
    classes = sparse().predict(examples, verbose=0).argmax(axis=1)
    classes[:2] = 1 - classes[:2]  # Of one class alone, accuracies would show nothing.
    made = export(sparse(), tmp_path, data=(examples, classes), formats=["float16", "float32"])
    assert made.shipped == ["float32"] and "points of accuracy in" in made.refused["float16"]
    assert not (tmp_path / "model_float16.tflite").exists()
    assert made.rows[made.rows["format"] == "float16"].route.str.len().all()


def test_full_int8_without_examples_is_refused_if_asked_for_and_left_out_if_not(tmp_path):
    made = export(sparse(), tmp_path, data=data(), formats=["int8"])
    assert "representative" in made.refused["int8"] and not made.shipped
    assert (tmp_path / "README.md").read_text().count("int8: ") == 1


def test_a_ticket_is_trained_first(tmp_path):
    model = sparse()
    ticket = lth.Ticket({"a/kernel": np.ones((6, 8), np.float32), "a/bias": np.zeros(8, np.float32),
                         "b/kernel": np.ones((8, 2), np.float32),
                         "b/bias": np.zeros(2, np.float32)},
                        {"a/kernel": np.eye(6, 8, dtype=np.uint8),
                         "b/kernel": np.ones((8, 2), np.uint8)}, level=2)
    fresh = lth.strip_pruning(model)

    def train(model):
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(*data(), epochs=1, verbose=0)
    made = export(ticket, tmp_path, data=data(), formats=["float32"], model=fresh, train=train)
    assert made.facts["level"] == 2 and made.facts["density"] == pytest.approx(22 / 64)
    assert made.shipped == ["float32"]
    for arguments, missing in (({}, "model"), ({"model": fresh}, "train")):
        with pytest.raises(LotteryError, match=f"level 2 without {missing}"):
            export(ticket, tmp_path, data=data(), **arguments)


@pytest.mark.parametrize(("arguments", "said"), [
    ({"tolerance": -1}, "tolerance must be"), ({"tolerance": float("nan")}, "tolerance must be"),
    ({"compaction": "all"}, "compaction must be one of units, inputs, none"),
    ({"threads": 0}, "threads must be"), ({"repeats": 0}, "repeats must be"),
    ({"formats": ["f32"]}, "format must be one of keras"),
    ({"formats": []}, "formats must name"), ({"train": print}, "with a Ticket only"),
    ({"data": (np.zeros((4, 5), np.float32), None)}, r"the network's input shape, \(6,\)"),
    ({"data": (np.zeros((0, 6), np.float32), None)}, "the network's input shape"),
    ({"data": (np.zeros((4, 6), np.float32), np.zeros(3))}, "one target for each of its 4")])
def test_wrong_arguments_are_said_before_anything_is_done(tmp_path, arguments, said):
    with pytest.raises(LotteryError, match=said):
        export(sparse(), tmp_path / "out", **{"data": data(), **arguments})
    assert not (tmp_path / "out").exists()




def lth_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["lth", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return ended.value.code or 0


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clusters.BACKENDS, "loky", small.Inline)
        lth_command(patch, "run", "digits", "--steps", "60", "--rounds", "1", "--replicates", "1",
                    "--first_replicate", "1", "--branches", "ticket", "--workdir", root, "--set",
                    "validation_every=30")
    return root


@pytest.mark.thorough
def test_a_workdirs_level_is_exported_with_the_dense_network(root, tmp_path, monkeypatch, capsys):
    code = lth_command(monkeypatch, "export", root, "--level", "1", "--formats", ",".join(LITE),
                       "--out", tmp_path / "out", "--tolerance", "2", "--examples", "50")
    said = capsys.readouterr().out
    assert code == 0 and "dense float32" in said and "level 1: dynamic_int8" in said
    facts = json.loads((tmp_path / "out" / "deployment.json").read_text())["facts"]
    assert facts["level"] == 1 and facts["dataset"] == "digits" and not facts["pixels"]
    assert facts["reference"]["examples"] == 50 and facts["dense"]["bytes"] > 0
    source = trained_networks.from_workdir(root, 1, 1)
    assert facts["density"] == source.density and facts["preset"] == "digits"


@pytest.mark.thorough
def test_a_ticket_file_is_trained_and_exported(root, tmp_path, monkeypatch, capsys):
    ticket = root / "replicate_1" / "level_01" / "ticket.safetensors"
    code = lth_command(monkeypatch, "export", ticket, "--formats", "float32", "--out",
                       tmp_path / "out")
    assert code == 0 and "Training it first, for 60 steps" in capsys.readouterr().out
    of_run = trained_networks.from_workdir(root, 1, 1).weights
    loaded = json.loads((tmp_path / "out" / "deployment.json").read_text())
    assert loaded["facts"]["level"] == 1 and of_run.keys()


def test_the_best_level_is_chosen_and_said(root, tmp_path, monkeypatch, capsys):
    lth_command(monkeypatch, "export", root, "--formats", "float32", "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"best: level {trained_networks.best_level(root, 1)}" in said
    assert "unfinished" not in said


def test_an_export_of_an_unfinished_run_says_so(root, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    shutil.copytree(root, run)
    shutil.rmtree(run / "replicate_1" / "level_01" / "ticket_0")
    lth_command(monkeypatch, "export", run, "--formats", "float32", "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert f"{run} is unfinished: 1 of 2 networks are trained, up to level 0 of 1." in said
    assert "best: level 0" in said


@pytest.mark.thorough
def test_a_budget_chooses_among_all_levels_and_measures_each_once(root, tmp_path, monkeypatch,
                                                                  capsys):
    command = ["export", root, "--formats", "float32,float32_sparse", "--out", tmp_path / "out",
               "--min_accuracy", "0", "--examples", "40"]
    assert lth_command(monkeypatch, *command) == 0
    first = capsys.readouterr().out
    assert all(f"level {level}: float32_sparse" in first for level in range(2))
    made = manifest.read(tmp_path / "out")
    surveyed = [manifest.read(folder) for folder in
                sorted((root / "deployment").glob("*/replicate_1/level_0?"))]
    assert len(surveyed) == 2
    assert len(made.shipped) == 1
    # But for the digits of the numbers that Keras gives models of one name, which a file holds.
    assert made.rows.bytes.min() == pytest.approx(
        min(each.rows.bytes.min() for each in surveyed), abs=16)
    assert lth_command(monkeypatch, *command) == 0
    assert capsys.readouterr().out.count(": float32") == 1  # Only what is exported.
    command[-3:-2] = []
    assert lth_command(monkeypatch, *command[:6], "--max_bytes", "10", "--examples", "40") == 1
    assert "No file of any level has at most 10 bytes. Of those shipped the smallest has" in \
        capsys.readouterr().out


@pytest.mark.thorough
def test_a_survey_of_another_machine_is_made_anew(root, monkeypatch, tmp_path):
    monkeypatch.setattr("lth_keras.cli.report.DEFAULT", ("float32",))
    folders = (root / "deployment").glob
    lth_command(monkeypatch, "report", root, "--deployment", "--examples", "30", "--out", tmp_path)
    before = len(list(folders("*")))
    monkeypatch.setattr("lth_keras.files.provenance.machine", lambda: "another")
    lth_command(monkeypatch, "report", root, "--deployment", "--examples", "30", "--out", tmp_path)
    assert len(list(folders("*"))) == before + 1


def test_a_refused_format_that_was_asked_for_is_exit_code_1(root, tmp_path, monkeypatch, capsys):
    from lth_keras.deployment.conversion import formats
    monkeypatch.setitem(formats.FORMATS, "float16", formats.dataclasses.replace(
        formats.get("float16"), convert=lambda *arguments: 1 / 0))
    command = ["export", root, "--level", "1", "--formats", "float16,float32", "--examples", "30",
               "--tolerance", "100", "--out", tmp_path / "out"]
    assert lth_command(monkeypatch, *command) == 1
    assert "refused: float16: float16 could not be converted" in capsys.readouterr().out
    assert lth_command(monkeypatch, *command, "--min_accuracy", "0") == 1


def test_a_folder_that_is_no_workdir_is_said_to_be_none(tmp_path, monkeypatch, capsys):
    for command in (["export", tmp_path], ["export", tmp_path, "--level", "1"],
                    ["report", tmp_path, "--deployment"]):
        assert lth_command(monkeypatch, *command, *(
            ["--out", tmp_path / "out"] if command[0] == "export" else [])) == 2
        assert "A workdir is a folder that `lth run` made" in capsys.readouterr().err


def test_what_each_level_costs_is_a_table_and_a_picture(root, monkeypatch, capsys):
    monkeypatch.setattr("lth_keras.cli.report.DEFAULT", ("float32", "float32_sparse"))
    assert lth_command(monkeypatch, "report", root, "--deployment", "--examples", "40") == 0
    said = capsys.readouterr().out
    assert "best exported files of each level" in said
    assert (root / "plots" / "deployment.png").stat().st_size > 10_000
    assert (root / "plots" / "deployment.csv").read_text().count("float32_sparse") >= 2


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "TICKET_OR_WORKDIR must be"), (["nowhere"], "Received: nowhere"),
    (["ROOT", "--level", "9"], "kept, one of 0, 1. Received: 9"),
    (["ROOT", "--level", "foo"], "--level must be the number of a level, such as 3, or best, the "
     "sparsest that is as accurate as the dense network. Received: 'foo'."),
    (["ROOT", "--level", "bst"], "Received: 'bst'. Did you mean best?"),
    (["ROOT", "--replicate", "4"], "none of replicate 4"),
    (["ROOT", "--formats", "tiny"], "format must be one of keras"),
    (["ROOT", "--compaction", "all"], "--compaction must be one of"),
    (["ROOT", "--threads", "0"], "--threads must be"),
    (["ROOT", "--examples", "0"], "--examples must be"),
    (["ROOT", "--min_accuracy", "98"], r"min_accuracy must be a number in [0, 1]"),
    (["ROOT", "--max_bytes", "50k"], "--max_bytes must be a whole number"),
    (["TICKET", "--level", "1"], "--level may be given for a workdir only")])
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(root, arguments, said, monkeypatch,
                                                          capsys):
    names = {"ROOT": root, "TICKET": root / "replicate_1" / "level_01" / "ticket.safetensors"}
    code = lth_command(monkeypatch, "export", *(names.get(each, each) for each in arguments))
    error = capsys.readouterr().err
    assert code == 2 and said in error and error.count("\n") == 1


@pytest.mark.parametrize(("flags", "said"), [
    (["--examples", "3"], "--examples may be given with --deployment only"),
    (["--deployment", "--tensorboard", "x"], "--deployment writes nothing for TensorBoard")])
def test_flags_of_the_deployment_report_go_with_it_alone(root, flags, said, monkeypatch, capsys):
    assert lth_command(monkeypatch, "report", root, *flags) == 2
    assert said in capsys.readouterr().err


def test_the_help_names_every_format():
    from lth_keras.cli import export as deploy
    from lth_keras.deployment.conversion import formats
    for name in formats.FORMATS:
        assert name in deploy.HELP or name.removesuffix("_sparse") in deploy.HELP
