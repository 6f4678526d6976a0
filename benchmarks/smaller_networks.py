"""A network with fewer filters beside the dense one, in a process of its own.

    python -m benchmarks.smaller_networks latency mobilenet_v2 0.5
    python -m benchmarks.smaller_networks training resnet18 0.5

Filters are pruned by their L1 norm, the same share in each layer, in multiples of 8, until about
this share of the multiply-adds is left.  Of ResNets the first convolutions of the blocks are
pruned, as Li et al. (ICLR 2017) do.  `latency` prints the microseconds of a call of TF Lite and
Keras files, the dense one and the smaller one in turn; `training` the milliseconds of a step of
`lth run`.  Weights are random, as neither depends on them.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

ROUNDS = 5
FORMATS = ("float32", "int8", "keras")
# What is pruned, where that is not all layers.
LAYERS = {"resnet56": "*_conv1", "resnet18": "*_conv1"}
MULTIPLE = 8
CLOSE = 0.005  # Of the share that is asked for.
SHAPES = {"mobilenet_v2": (96, 96, 3)}
IMAGE = (32, 32, 3)


def main() -> None:
    """The entry point."""
    kind, name, share = sys.argv[1:]
    figures = {"latency": latency, "training": training}[kind](name, float(share))
    print(json.dumps(figures))


def network(name: str) -> Any:
    """A tf_keras model of random weights, whose normalisations have random statistics."""
    import tf_keras as keras

    from lth_keras.experiments.training import networks
    keras.utils.set_random_seed(0)
    if name == "mobilenet_v2":
        model = keras.applications.MobileNetV2(input_shape=SHAPES[name], weights=None, classes=10)
    else:
        model = networks.get(name)(IMAGE, 10, keras=keras)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


def pruned(model: Any, share: float, layers: str = "*") -> tuple[Any, float]:
    """A wrapped model with about this share of its multiply-adds, and the share exactly."""
    import lth_keras as lth
    from lth_keras.core.next_masks import PruningRule
    from lth_keras.files.engines import engine_of
    found = engine_of(model).network(lth.prune_low_magnitude(model, structure="filters"))
    weights = found.weights()
    ones = {name: np.ones(shape, np.uint8) for name, shape in found.shapes.items()}

    def at(fraction: float) -> float:
        rule = PruningRule.of([*found.prunable.values()], found.shapes, criterion="l1",
                              fraction={layers: fraction, "default": 0.0},
                              structures=found.structures, multiple_of=MULTIPLE)
        found.assign(weights, rule.next_start(weights, ones, weights,
                                              np.random.default_rng(0))[1])
        profile = lth.profile(found.model)
        return profile.macs_kept / profile.macs
    low, high = 0.0, 0.95
    for _ in range(7):
        middle = round((low + high) / 2, 4)
        low, high = (low, middle) if at(middle) <= share + CLOSE else (middle, high)
    return found.model, at(high)


def latency(name: str, share: float) -> dict[str, float]:
    """Microseconds of a call with one image, of each format, dense and smaller in turn."""
    import lth_keras as lth
    from lth_keras.deployment import measuring
    from lth_keras.deployment.conversion import formats
    wrapped, left = pruned(network(name), share, LAYERS.get(name, "*"))
    models = {"dense": network(name), "smaller": lth.compact(lth.strip_pruning(wrapped)).model}
    images = np.random.default_rng(1).normal(
        size=(32, *SHAPES.get(name, IMAGE))).astype(np.float32)
    figures: dict[str, float] = {"share": left}
    with tempfile.TemporaryDirectory() as folder:
        for word in FORMATS:
            paths = {which: pathlib.Path(folder, f"{which}_{word}").with_suffix(
                formats.get(word).suffix) for which in models}
            for which, model in models.items():
                formats.convert(model, word, paths[which], images)
            for turn in range(ROUNDS):
                for which, path in paths.items():
                    found = measuring.measure(
                        path, formats.runtimes(word, models[which])[0], images).batch_1
                    assert found is not None, word
                    figures[f"{word} {which} {turn}"] = found.median
    return figures


def training(name: str, share: float) -> dict[str, float]:
    """Milliseconds of a step of `lth run`: dense, pruned by masks, and of the smaller network."""
    from lth_keras.core.structures.coupled import kept_units
    from lth_keras.experiments.config import presets
    from lth_keras.experiments.training.datasets import Data
    from lth_keras.experiments.training.smaller_trainer import SmallerTrainer
    from lth_keras.experiments.training.spec import TrainingSpec
    from lth_keras.experiments.training_keras2.engine import WrappedNetworkTrainer
    rng = np.random.default_rng(0)
    config = presets.get(name).replace(structure="filters", fraction=0.2, scope="layer", rounds=1)
    x = rng.integers(0, 256, (3000, *IMAGE)).astype(np.uint8)
    y = rng.integers(0, 10, 3000).astype(np.int32)
    trainer = SmallerTrainer(WrappedNetworkTrainer(config, Data(x, y, x[:100], y[:100], 10)))
    wrapped, left = pruned(network(config.network), share, LAYERS.get(name, "*"))
    from lth_keras.keras2.rewinding import read_masks
    masks = read_masks(wrapped)
    counts = tuple(int(kept.sum()) for kept in kept_units(trainer._groups, masks))
    weights = trainer.initial_weights(rng)

    def spec(masks: Any, weights: Any) -> TrainingSpec:
        return TrainingSpec(weights, masks, np.arange(100, 3000), np.arange(100), rng, steps=20,
                            validation_every=20, batch_size=config.batch_size)
    small = trainer.smaller(counts)
    ones = {name: np.ones_like(mask) for name, mask in masks.items()}
    turns: dict[str, Callable[[], Any]] = {
        "dense": lambda: trainer.whole.stopwatch(spec(ones, weights)).measure(),
        "masked": lambda: trainer.whole.stopwatch(spec(masks, weights)).measure(),
        "smaller": lambda: small.stopwatch(spec({}, small.initial_weights(rng))).measure()}
    figures: dict[str, float] = {"share": left}
    for turn in range(ROUNDS):
        for which, measure in turns.items():
            figures[f"{which} {turn}"] = 1e3 * measure().step
    return figures


if __name__ == "__main__":
    main()
