import dataclasses
import gzip
import json
import os

import numpy as np
import pytest

from lth_keras.deployment import checks
from lth_keras.deployment.checks import REFUSED, SHIPPED
from lth_keras.deployment.comparison import measures
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


def expected(reference=REFERENCE, targets=CLASSES, loss=None):
    return measures.expected("y", reference, targets, loss)


def check(file, *found, classes=CLASSES, **options):
    return checks.check("float32", file, [expected(targets=classes)], found,
                        **options)


def shipped(rows):
    """The runtimes that a file may be used with."""
    return [row.runtime for row in rows if row.status == SHIPPED]


def agreement(outputs):
    return checks.compare(expected(), outputs).agreement


def test_without_classes_eight_bits_have_a_bound_too(file):
    off = REFERENCE.copy()
    off[1, 1] -= 1.1  # More than a quarter of the largest output, 4.
    assert not shipped(check(file, measured(off), classes=None))
    assert shipped(check(file, measured(REFERENCE - 0.9), classes=None))
    assert shipped(check(file, measured(off)))


def test_of_targets_of_one_class_the_largest_error_decides(file):
    always = np.full(REFERENCE.shape, [4.0, 0.0])  # "Class 0", whatever it is given.
    row, = check(file, measured(always), classes=np.zeros(4, int))
    assert (row.accuracy, row.accuracy_lost) == (1.0, None)
    assert row.status != SHIPPED and "rounding explains at most 1" in row.reason
    assert shipped(check(file, measured(REFERENCE - 0.9), classes=np.zeros(4, int)))


def test_a_format_is_a_row_a_runtime_in_a_table(file):
    first, second = check(file, measured(), failed("litert_builtin"))
    assert first.status == SHIPPED and first.file == "model.tflite"
    assert (first.bytes, first.latency_1_us, first.latency_1_low_us, first.latency_32_high_us) == (
        1000, 2.0, 1.0, 3.0)
    assert second.status == REFUSED and second.reason.endswith("failed to prepare")
    assert second.accuracy is None and second.latency_1_us is None
    assert second.file == "model.tflite" and second.bytes == 1000
    for row in (first, second):
        json.dumps(dataclasses.asdict(row), allow_nan=False)


def test_what_computes_the_same_is_shipped(file):
    rows = check(file, measured(), measured(runtime="litert_builtin"), rounding=0.0)
    assert shipped(rows) == ["litert", "litert_builtin"]
    for row in rows:
        assert (row.reason, row.route, row.bytes) == ("", "", 1000)
        assert row.gzip_bytes == len(gzip.compress(bytes(1000), 9))
        assert (row.max_error, row.accuracy, row.accuracy_lost, row.not_finite) == (
            0.0, 0.75, 0.0, 0)
        assert (row.peak_memory_bytes, row.latency_1_us) == (4096, 2.0)
    assert agreement(REFERENCE) == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_output_that_is_not_finite_refuses(file, value):
    outputs = REFERENCE.copy()
    outputs[3, 1] = value
    # In the second runtime too: it loads there without a word.
    rows = check(file, measured(), measured(outputs, "litert_builtin"), tolerance=100)
    assert not shipped(rows)
    for row in rows:
        assert row.reason == "1 outputs are NaN or infinite in litert_builtin"
        assert row.file == ""
    assert rows[0].not_finite == 0 and rows[1].not_finite == 1 and rows[1].max_error is None
    assert agreement(outputs) == 0.75


@pytest.mark.parametrize(("tolerance", "status"), [(24.9, REFUSED), (25, SHIPPED)])
def test_accuracy_may_be_lost_up_to_the_tolerance(file, tolerance, status):
    outputs = REFERENCE.copy()
    outputs[0] = [1.0, 2.0]
    row, = check(file, measured(outputs), tolerance=tolerance)
    assert row.status == status
    assert (row.accuracy, row.accuracy_lost, agreement(outputs)) == (0.5, 25.0, 0.75)
    assert row.max_error == 1.0
    if status == REFUSED:
        assert row.reason == ("it loses 25.00 points of accuracy in litert, and at most 24.9 are "
                              "tolerated")


def test_accuracy_won_is_no_loss(file):
    outputs = REFERENCE.copy()
    outputs[3] = [1.0, 0.0]
    row, = check(file, measured(outputs), tolerance=0)
    assert row.status == SHIPPED
    assert (row.accuracy_lost, agreement(outputs)) == (-25.0, 0.75)


@pytest.mark.parametrize(("rounding", "status"), [(1e-3, REFUSED), (5e-3, SHIPPED),
                                                  (None, SHIPPED)])
def test_errors_that_rounding_does_not_explain_refuse(file, rounding, status):
    row, = check(file, measured(REFERENCE + 0.015625), rounding=rounding)  # 0.4% of the largest.
    assert row.status == status and row.accuracy_lost == 0
    if status == REFUSED:
        assert row.reason == "an output is 0.016 off in litert, and rounding explains at most 0.004"


def test_what_loads_in_some_runtimes_is_shipped_for_them(file):
    rows = check(file, failed(), measured(runtime="litert_builtin"))
    assert shipped(rows) == ["litert_builtin"]
    assert [row.reason for row in rows] == ["RuntimeError: failed to prepare", ""]


def test_what_loads_in_none_is_refused(file):
    rows = check(file, failed(), failed("litert_builtin", "crashed"), Measured("keras"))
    assert not shipped(rows) and not any(row.file for row in rows)
    assert [row.reason for row in rows] == ["RuntimeError: failed to prepare", "crashed",
                                            "The runtime returned no outputs."]


def test_outputs_of_another_shape_refuse(file):
    row, = check(file, measured(REFERENCE[:, :1]))
    assert row.status == REFUSED and "another shape" in row.reason


def test_without_classes_there_is_no_accuracy(file):
    row, = check(file, measured(), classes=None)
    assert row.accuracy is None and row.accuracy_lost is None
    assert checks.compare(expected(targets=None), REFERENCE).agreement == 1.0


@pytest.mark.parametrize(("reference", "predicted"), [
    ([[-0.2], [0.3], [0.7]], [0, 1, 1]),   # Logits.
    ([[0.2], [0.3], [0.7]], [0, 0, 1]),    # Probabilities.
])
def test_one_output_is_cut_by_a_threshold(reference, predicted):
    reference = np.array(reference)
    assert measures.predictions(reference, reference).tolist() == predicted
    found = checks.compare(expected(reference, np.array(predicted)[:, None]), reference)
    assert found.value == 1.0


def test_classes_of_places_are_counted_place_by_place():
    reference = np.zeros((2, 3, 4))
    reference[..., 2] = 1
    classes = np.full((2, 3), 2)
    classes[0, 0] = 1
    assert checks.compare(expected(reference, classes), reference).value == 5 / 6


def test_classes_of_another_shape_and_a_network_of_nan_are_refused(file):
    with pytest.raises(LotteryError, match="one class for each of its 4 examples"):
        check(file, measured(), classes=np.zeros((4, 3)))
    with pytest.raises(LotteryError, match="finite outputs. Received: .* 1 of 4"):
        checks.check("float32", file, [expected(np.array([[1.0, np.nan], [0, 0]]), None)], [])


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
    row, = checks.refused("int8", "int8 needs representative examples.")
    assert (row.status, row.runtime, row.bytes, row.file) == (REFUSED, "", None, "")
