"""Small networks with pruned weights, and a file's whole way: converted, measured, checked."""

import json

import numpy as np
import tf_keras as keras

from lth_keras.deployment import checks, measuring, measuring_process
from lth_keras.deployment.comparison import measures
from lth_keras.deployment.conversion import formats

layers = keras.layers


def dense(keep=0.2, block=1, seed=0):
    """A dense network on 64 inputs; a share of each kernel is kept, in blocks of inputs."""
    return masked(keras.Sequential([
        layers.Input((64,)), layers.Dense(32, "relu", name="a"), layers.Dense(4, name="b")]),
        keep, block, seed)


def convolutional(keep=0.2, seed=0):
    """Convolutions of three kinds, batch normalisation, pooling and a dense layer."""
    return masked(keras.Sequential([
        layers.Input((8, 8, 3)), layers.Conv2D(16, 3, padding="same", activation="relu"),
        layers.DepthwiseConv2D(3, use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.SeparableConv2D(24, 1, activation="relu"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(6)]), keep, 1, seed)


def masked(model, keep, block=1, seed=0):
    """The model with all weights drawn, a random share of its kernels kept."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if len(shape) == 1:
            # A scale or a variance lies around one, a bias or a mean around zero.
            middle = 1 if "gamma" in variable.name or "variance" in variable.name else 0
            variable.assign(middle + rng.uniform(-0.2, 0.2, shape))
        else:
            kept = rng.random((*shape[:-2], max(1, shape[-2] // block), shape[-1])) < keep
            inputs = np.prod(shape[:2] if "depthwise" in variable.name else shape[:-1])
            variable.assign(rng.normal(size=shape) * np.sqrt(2 / (inputs * keep))
                            * np.repeat(kept, min(block, shape[-2]), axis=-2))
    return model


def pruned(model, keep, seed=0):
    """The model as it was drawn, but for a random share of its kernels that is kept."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if len(variable.shape) > 1:
            variable.assign(variable * (rng.random(tuple(variable.shape)) < keep))
    return model


def examples(model, count=70, seed=1):
    """Standard normal inputs."""
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def measure_here(monkeypatch):
    """Has TF Lite files measured in this process and for a moment only.

    A process for each would take most of the time of tests that are about what is made of the
    measurements; those of the processes are in test_measuring.
    """
    in_a_process = measuring._run

    def run(folder, threads, timeout):
        runtime = json.loads((folder / "task.json").read_text())["runtime"]
        if not runtime.startswith("litert"):
            return in_a_process(folder, threads, timeout)
        measuring_process.main([str(folder)])
        return None
    monkeypatch.setattr(measuring, "_run", run)
    for name in ("REPEAT_SECONDS", "WARM_UP_SECONDS"):
        monkeypatch.setattr(measuring_process, name, 1e-6)


def trusted(path, runtime, x, folder):
    """As `measuring.measure`, within this process; the file must be one that crashes nothing."""
    np.save(folder / "examples.npy", x)
    (folder / "task.json").write_text(json.dumps(
        {"path": str(path), "runtime": runtime, "threads": 1, "repeats": 1}))
    measuring_process.main([str(folder)])
    found = json.loads((folder / "trial.json").read_text())
    if "error" in found:
        return measuring.Measured(runtime, found["error"])
    return measuring.Measured(runtime, outputs=np.load(folder / "outputs.npy"),
                             not_finite=found["not_finite"])


def rows(model, name, folder, measure=None, tolerance=0.1):
    """What the checks say of a model in a format, a row a runtime."""
    format_, x = formats.get(name), examples(model)
    path = folder / f"{name}{format_.suffix}"
    formats.convert(model, name, path, x)
    measure = measure or (lambda path, runtime, x: measuring.measure(path, runtime, x, repeats=1))
    reference = model.predict(x, verbose=0)
    expected = measures.expected("y", reference, reference.argmax(-1), None)
    return checks.check(name, path, [expected],
                        [measure(path, runtime, x) for runtime in format_.runtimes],
                        tolerance=tolerance, rounding=format_.rounding)
