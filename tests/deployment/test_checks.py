import gzip
import json
import os

import numpy as np
import pytest

from lth_keras.deployment import checks
from lth_keras.deployment.checks import REFUSED, SHIPPED
from lth_keras.deployment.measuring import Latency, Measured
from lth_keras.errors import LotteryError

REFERENCE = np.array([[2.0, 1.0], [0.0, 4.0], [3.0, 0.0], [0.0, 1.0]])
CLASSES = np.array([0, 1, 0, 0])  # Keras is right on three of four.
FAST = Latency(2.0, 1.0, 3.0, 30, 100)


def measured(outputs=REFERENCE, runtime="litert"):
    return Measured(runtime, outputs=np.asarray(outputs, np.float32), batch_1=FAST, batch_32=FAST,
                    peak_memory_bytes=4096, version="2.1")


def failed(runtime="litert", error="RuntimeError: failed to prepare"):
    return Measured(runtime, error)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(1000))
    return path


def check(file, *found, classes=CLASSES, **options):
    return checks.check("float32", file, REFERENCE, classes, found, **{"route": "saved_model",
                                                                      **options})


def best(row):
    """The comparison in the runtime that a user starts with."""
    return next((each for each in row.compared if each.runtime in row.runtimes), None)


def plain(row):
    """Its rows in a deployment's table, as JSON holds them."""
    return json.loads(json.dumps(list(checks.plain_rows(row, "model.tflite")), allow_nan=False))


def test_without_classes_eight_bits_have_a_bound_too(file):
    off = REFERENCE.copy()
    off[1, 1] -= 1.1  # More than a quarter of the largest output, 4.
    assert check(file, measured(off), classes=None).status == REFUSED
    assert check(file, measured(REFERENCE - 0.9), classes=None).status == SHIPPED
    assert check(file, measured(off)).status == SHIPPED


def test_a_format_is_a_row_a_runtime_in_a_table(file):
    row = check(file, measured(), failed("litert_builtin"))
    first, second = plain(row)
    assert first["status"] == SHIPPED and first["file"] == "model.tflite"
    assert (first["bytes"], first["latency_1_us"], first["latency_32_high_us"]) == (1000, 2.0, 3.0)
    assert second["status"] == REFUSED and second["reason"].endswith("failed to prepare")
    assert second["accuracy"] is None and second["latency_1_us"] is None
    assert plain(checks.refused("int8", "needs examples", "float32"))[0]["runtime"] == ""


def test_what_computes_the_same_is_shipped(file):
    row = check(file, measured(), measured(runtime="litert_builtin"), rounding=0.0)
    assert (row.status, row.runtimes, row.reason, row.route) == (
        SHIPPED, ("litert", "litert_builtin"), "", "")
    assert row.bytes == 1000
    assert row.gzip_bytes == len(gzip.compress(bytes(1000), 9))
    found = best(row)
    assert (found.max_error, found.accuracy, found.accuracy_lost, found.agreement,
            found.not_finite) == (0.0, 0.75, 0.0, 1.0, 0)
    assert (found.peak_memory_bytes, found.batch_1["median"], found.version) == (4096, 2.0, "2.1")
    assert plain(row)[0]["accuracy"] == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_output_that_is_not_finite_refuses(file, value):
    outputs = REFERENCE.copy()
    outputs[3, 1] = value
    # In the second runtime too: it loads there without a word.
    row = check(file, measured(), measured(outputs, "litert_builtin"), tolerance=100)
    assert row.status == REFUSED and row.runtimes == () and best(row) is None
    assert row.reason == "1 outputs are NaN or infinite in litert_builtin"
    assert row.route == "saved_model"
    found = row.compared[1]
    assert found.max_error is None and found.not_finite == 1 and found.agreement == 0.75
    assert plain(row)


@pytest.mark.parametrize(("tolerance", "status"), [(24.9, REFUSED), (25, SHIPPED)])
def test_accuracy_may_be_lost_up_to_the_tolerance(file, tolerance, status):
    outputs = REFERENCE.copy()
    outputs[0] = [1.0, 2.0]
    row = check(file, measured(outputs), tolerance=tolerance)
    assert row.status == status
    found = row.compared[0]
    assert (found.accuracy, found.accuracy_lost, found.agreement) == (0.5, 25.0, 0.75)
    assert found.max_error == 1.0
    if status == REFUSED:
        assert row.reason == "25.00 points of accuracy are lost in litert, and 24.9 are tolerated"


def test_accuracy_won_is_no_loss(file):
    outputs = REFERENCE.copy()
    outputs[3] = [1.0, 0.0]
    row = check(file, measured(outputs), tolerance=0)
    assert row.status == SHIPPED
    assert (best(row).accuracy_lost, best(row).agreement) == (-25.0, 0.75)


@pytest.mark.parametrize(("rounding", "status"), [(1e-3, REFUSED), (5e-3, SHIPPED),
                                                  (None, SHIPPED)])
def test_errors_that_rounding_does_not_explain_refuse(file, rounding, status):
    row = check(file, measured(REFERENCE + 0.015625), rounding=rounding)  # 0.4% of the largest.
    assert row.status == status and row.compared[0].accuracy_lost == 0
    if status == REFUSED:
        assert row.reason == "an output is 0.016 off in litert, and rounding explains at most 0.004"


def test_what_loads_in_some_runtimes_is_shipped_for_them(file):
    row = check(file, failed(), measured(runtime="litert_builtin"))
    assert row.status == SHIPPED and row.runtimes == ("litert_builtin",)
    assert row.reason == "litert does not load it: RuntimeError: failed to prepare"
    assert row.route == "saved_model" and best(row).runtime == "litert_builtin"


def test_what_loads_in_none_is_refused(file):
    row = check(file, failed(), failed("litert_builtin", "crashed"))
    assert row.status == REFUSED and row.runtimes == ()
    assert row.reason == ("litert does not load it: RuntimeError: failed to prepare; "
                          "litert_builtin does not load it: crashed")


def test_outputs_of_another_shape_refuse(file):
    row = check(file, measured(REFERENCE[:, :1]))
    assert row.status == REFUSED and "another shape" in row.reason


def test_without_classes_there_is_no_accuracy(file):
    found = best(check(file, measured(), classes=None))
    assert found.accuracy is None and found.accuracy_lost is None and found.agreement == 1.0


@pytest.mark.parametrize(("reference", "predicted"), [
    ([[-0.2], [0.3], [0.7]], [0, 1, 1]),   # Logits.
    ([[0.2], [0.3], [0.7]], [0, 0, 1]),    # Probabilities.
])
def test_one_output_is_cut_by_a_threshold(reference, predicted):
    reference = np.array(reference)
    assert checks.predictions(reference, reference).tolist() == predicted
    found = checks.compare(reference, np.array(predicted)[:, None], measured(reference))
    assert found.accuracy == 1.0


def test_classes_of_places_are_counted_place_by_place():
    reference = np.zeros((2, 3, 4))
    reference[..., 2] = 1
    classes = np.full((2, 3), 2)
    classes[0, 0] = 1
    assert checks.compare(reference, classes, measured(reference)).accuracy == 5 / 6


def test_classes_of_another_shape_and_a_network_of_nan_are_refused(file):
    with pytest.raises(LotteryError, match="one class an example"):
        check(file, measured(), classes=np.eye(4))
    with pytest.raises(LotteryError, match="finite outputs. Received: 1 of 4"):
        checks.check("float32", file, np.array([[1.0, np.nan], [0, 0]]), None, [])


def test_a_folder_is_its_files(tmp_path):
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "a.pb").write_bytes(bytes(100))
    (folder / "variables" / "b").write_bytes(bytes(23))
    first = checks.gzip_size(folder)
    assert checks.file_size(folder) == 123 and 100 < first < 400
    os.utime(folder / "a.pb", (1, 1))
    (folder / "a.pb").chmod(0o600)
    assert checks.gzip_size(folder) == first


def test_a_format_without_a_file_is_refused():
    row = checks.refused("int8", "int8 needs representative examples.", "dynamic_int8")
    assert row.status == REFUSED and plain(row)[0]["bytes"] is None and best(row) is None
