"""TF Lite files of pruned networks: `python -m benchmarks.sparse_files NETWORK ...`, each of

    lenet,STRUCTURE,FRACTION,ROUNDS,STEPS,FILE   what `lth run lenet_300_100` trains in the end
    mobile,STRUCTURE,FRACTION,FILE               a small MobileNet, pruned at its initialisation

Writes FILE_plain.tflite and, converted with EXPERIMENTAL_SPARSITY, FILE_sparse.tflite of each,
and prints a line of JSON: what is known of each, its density and the files' bytes with it.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

import lth_keras as lth
from lth_keras.experiments.config import presets
from lth_keras.experiments.config.trainings import Training
from lth_keras.experiments.results.outcome import StartingPoint
from lth_keras.experiments.training import datasets
from lth_keras.experiments.training_keras2 import models
from lth_keras.experiments.training_keras2.engine import round_runner

layers = keras.layers
TOLERANCE = 1e-3  # Of logits: the largest difference to what Keras predicts.
SPARSITY = {"plain": [], "sparse": [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]}


def lenet(structure: str, fraction: str, rounds: str, steps: str) -> tuple[Any, dict[str, float]]:
    """LeNet-300-100 searched and trained on MNIST, without wrappers; density and accuracy."""
    config = presets.get("lenet_300_100").replace(
        structure=structure, rounds=rounds, steps=steps, fraction=fraction.replace("/", ","))
    runner, start = round_runner(config, datasets.load("mnist")), StartingPoint()
    for level in range(config.rounds + 1):
        outcome = runner.train(Training(0, level), start)
        start = StartingPoint(outcome.following)
    assert outcome.trained is not None
    found = outcome.trained
    ticket = lth.Ticket(found.weights, found.masks, found.level, found.provenance)
    model = models.build(config, (28, 28, 1), 10)
    return lth.strip_pruning(ticket.apply(model)), {
        "density": ticket.density, "accuracy": outcome.result["test_accuracy_final"]}


def mobile(structure: str, fraction: str) -> tuple[Any, dict[str, float]]:
    """A small MobileNet as XNNPACK's sparse inference wants it, pruned; its density."""
    keras.utils.set_random_seed(0)
    policy = tfmot.sparsity.keras.PruneForLatencyOnXNNPack()
    model = lth.prune_low_magnitude(_mobile(), pruning_policy=policy, structure=structure)
    model.compile("sgd")
    search = lth.Search(model, fraction=float(fraction))
    search.prune_and_rewind()
    return lth.strip_pruning(model), {"density": search.density}


def _mobile() -> Any:
    hidden = inputs = layers.Input((96, 96, 3))
    hidden = layers.Conv2D(32, 3, strides=2)(layers.ZeroPadding2D(1)(hidden))
    for channels, stride in ((128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1)):
        hidden = layers.ReLU()(hidden)
        if stride == 2:
            hidden = layers.DepthwiseConv2D(3, strides=2)(layers.ZeroPadding2D(1)(hidden))
        else:
            hidden = layers.DepthwiseConv2D(3, padding="same")(hidden)
        hidden = layers.Conv2D(channels, 1)(layers.ReLU()(hidden))
    hidden = layers.GlobalAveragePooling2D(keepdims=True)(layers.ReLU()(hidden))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(hidden)))


def convert(model: Any, file: str) -> dict[str, int]:
    """Writes both files; their bytes.

    Raises:
      SystemExit: if one does not predict what Keras does.
    """
    x = np.random.default_rng(0).random((1, *model.input_shape[1:]), np.float32)
    expected, sizes = model(x).numpy(), {}
    for kind, options in SPARSITY.items():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = options
        content = converter.convert()
        predicted = _predict(content, x)
        if not np.allclose(predicted, expected, atol=TOLERANCE):
            sys.exit(f"the {kind} file of {file} does not predict what Keras does")
        pathlib.Path(f"{file}_{kind}.tflite").write_bytes(content)
        sizes[kind] = len(content)
    return sizes


def _predict(content: bytes, x: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def main() -> None:
    """The entry point."""
    found = []
    for network in sys.argv[1:]:
        kind, *arguments, file = network.split(",")
        model, known = {"lenet": lenet, "mobile": mobile}[kind](*arguments)
        found.append({**known, **convert(model, file)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
