import json
import os
import re
import subprocess
import sys

import exports
import numpy as np
import pytest

from lth_keras.deployment import checks, measuring, measuring_process
from lth_keras.deployment.comparison.measures import Expected
from lth_keras.deployment.conversion import formats
from lth_keras.errors import LotteryError


@pytest.fixture(scope="module")
def model():
    return exports.dense()


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name in ("keras", "saved_model", "float32"):
        formats.convert(model, name, folder / f"model{formats.get(name).suffix}")
    return folder


@pytest.mark.parametrize(("runtime", "name"), [
    ("litert", "model.tflite"), ("litert_builtin", "model.tflite"),
    # That of Keras has its process in test_export too.
    pytest.param("keras", "model.keras", marks=pytest.mark.long),
    pytest.param("tensorflow", "model", marks=pytest.mark.long)])
def test_a_file_is_measured_in_a_process_of_its_own(runtime, name, files, model, monkeypatch):
    monkeypatch.chdir(files)
    x = exports.examples(model, 70)
    measured = measuring.measure(name, runtime, x, repeats=3)
    assert measured.error is None and measured.not_finite == 0
    np.testing.assert_allclose(measured.outputs, model.predict(x, verbose=0), atol=1e-5)
    for latency in (measured.batch_1, measured.batch_32):
        assert 0 < latency.lower <= latency.median <= latency.upper
        assert latency.repeats == 3 and latency.calls >= 1
    # More than the file, less than a runtime.
    assert checks.file_size(files / name) < measured.peak_memory_bytes < 2**28
    assert measured.version[0].isdigit()


@pytest.mark.parametrize("count", [1, 32, 33])
def test_any_number_of_examples_is_predicted(count, files, model, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring_process, "WARM_UP_SECONDS", 1e-9)
    x = exports.examples(model, count)
    measured = exports.trusted(files / "model.tflite", "litert", x, tmp_path)
    np.testing.assert_allclose(measured.outputs, model.predict(x, verbose=0), atol=1e-5)


def test_a_tf_lite_trial_loads_its_runtime_alone(files, model, tmp_path):
    np.save(tmp_path / "examples.npy", exports.examples(model, 3))
    (tmp_path / "task.json").write_text(json.dumps(
        {"path": str(files / "model.tflite"), "runtime": "litert", "threads": 1, "repeats": 1}))
    program = ("import sys; from lth_keras.deployment import measuring_process; "
               "measuring_process.main(sys.argv[1:]); "
               "sys.exit(str({'tensorflow', 'tf_keras', 'pandas'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False,
                          capture_output=True)
    assert done.stderr.decode().strip().splitlines()[-1] == "set()"
    assert "error" not in json.loads((tmp_path / "trial.json").read_text())


def test_a_truncated_file_is_an_error_and_a_refusal(files, model, tmp_path):
    path, x = tmp_path / "half.tflite", exports.examples(model, 3)
    path.write_bytes((files / "model.tflite").read_bytes()[:4000])
    measured = [measuring.measure(path, runtime, x) for runtime in ("litert", "litert_builtin")]
    rows = checks.check("float32", path, [Expected("y", model.predict(x, verbose=0))], measured)
    assert [row.runtime for row in rows] == ["litert", "litert_builtin"]
    for row in rows:
        assert row.status == checks.REFUSED and row.bytes == 4000
        assert row.reason and "\n" not in row.reason


def test_a_file_that_is_not_there_is_an_error():
    assert "nowhere.tflite" in measuring.measure("nowhere.tflite", "litert", np.ones((1, 2))).error


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a program in place of the TF Lite runtime."""
    def place(program):
        package = tmp_path / "ai_edge_litert"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "interpreter.py").write_text(program)
        monkeypatch.setattr(measuring, "_environment", lambda *_: {
            **environment(1),
            "PYTHONPATH": os.pathsep.join([str(tmp_path), environment(1)["PYTHONPATH"]])})
    environment = measuring._environment
    return place


@pytest.mark.parametrize(("program", "said"), [
    ("import os; os.abort()", r"The runtime crashed \(SIGABRT\)"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
     r"The runtime crashed \(SIGSEGV\)"),
    ("import os, sys; print('F0000 check failed', file=sys.stderr, flush=True); os._exit(3)",
     "The runtime ended with exit code 3: F0000 check failed"),
    ("raise ImportError('no such library')", "ImportError: no such library"),
])
def test_what_ends_the_runtime_is_a_result(program, said, fake):
    fake(program)
    measured = measuring.measure("any.tflite", "litert", np.ones((2, 3)))
    assert re.fullmatch(said, measured.error)
    assert measured.outputs is None
    row, = checks.refused("float32", measured.error)
    assert row.status == checks.REFUSED


def test_a_runtime_that_takes_too_long_is_ended(fake):
    fake("import time; time.sleep(100)")
    measured = measuring.measure("any.tflite", "litert", np.ones((2, 3)), timeout=1.5)
    assert measured.error == "It took more than 1.5 seconds."


@pytest.mark.parametrize(("seconds", "repeats", "calls"), [
    (1e-3, 30, 5), (0.05, 30, 1), (0.3, 7, 1), (4.0, 5, 1)])
def test_a_slow_network_is_timed_less_often(monkeypatch, seconds, repeats, calls):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    class Runtime:
        def give(self, examples):
            assert examples["x"].shape == (32, 2)

        def call(self):
            clock.now += seconds
    clock = Clock()
    monkeypatch.setattr(measuring_process, "time", clock)
    found = measuring_process.latency(Runtime(), {"x": np.zeros((3, 2))}, 32, 30)
    assert (found["repeats"], found["calls"]) == (repeats, calls)
    assert found["lower"] == pytest.approx(found["upper"]) == pytest.approx(1e6 * seconds)


@pytest.mark.parametrize(("change", "said"), [
    ({"runtime": "onnx"}, "runtime must be one of litert,"),
    ({"examples": np.ones((0, 2))}, "at least one example"),
    ({"threads": 0}, "threads and repeats must be >= 1"),
    ({"repeats": 0}, "threads and repeats must be >= 1")])
def test_what_cannot_be_measured_is_said(change, said):
    with pytest.raises(LotteryError, match=said):
        measuring.measure(**{"path": "any", "runtime": "litert", "examples": np.ones((1, 2)),
                            **change})


def test_a_file_of_two_inputs_is_not_measured_without_their_names(tmp_path):
    import tf_keras as keras
    first, second = keras.Input((3,)), keras.Input((3,))
    formats.convert(keras.Model([first, second], first + second), "float32",
                    tmp_path / "two.tflite")
    measured = exports.trusted(tmp_path / "two.tflite", "litert", np.ones((1, 3)), tmp_path)
    assert "A file of one input and output is expected. Received: 2 and 1" in measured.error


@pytest.mark.long
@pytest.mark.parametrize("name", ["float32", "float32_sparse", "int8"])
def test_any_bytes_are_measured_or_an_error(name, model, tmp_path):
    x, rng = exports.examples(model, 40), np.random.default_rng(0)
    formats.convert(model, name, tmp_path / "whole.tflite", x)
    whole = np.frombuffer((tmp_path / "whole.tflite").read_bytes(), np.uint8)
    failures = 0
    for _ in range(100):
        damaged = whole.copy()
        at = rng.integers(0, len(damaged), rng.integers(1, 9))
        damaged[at] = rng.integers(0, 256, len(at))
        (tmp_path / "damaged.tflite").write_bytes(damaged.tobytes())
        measured = measuring.measure(tmp_path / "damaged.tflite", "litert", x, repeats=1,
                                    timeout=30)
        failures += measured.error is not None
        assert (measured.error is None) == (measured.outputs is not None)
        assert measured.error is None or "\n" not in measured.error
    assert failures
