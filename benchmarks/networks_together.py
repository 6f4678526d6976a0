"""Several networks as one program: `python -m benchmarks.networks_together NETWORK COUNT`.

Prints one line of JSON: milliseconds of a step of all networks, and of what no step can be quicker
than on this device: its arithmetic at the speed of a large matrix product, and its weights, slots
and gradients read and written once (w, m, v read and written, g read) at the speed of a copy.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

COUNTS = (1, 5, 20, 100)
# Network -> its title, its images' shape, and the steps of an interval.
NETWORKS = {"lenet_300_100": ("LeNet-300-100, batch 60", (28, 28, 1), 100),
            "conv2": ("Conv-2, batch 60", (32, 32, 3), 10),
            "resnet18": ("Resnet-18, batch 128", (32, 32, 3), 10)}
_BATCH = {"resnet18": 128}


def main() -> None:
    """The entry point."""
    import jax
    import numpy as np

    from lth_keras.experiments.config import presets
    from lth_keras.experiments.training.datasets import Data
    from lth_keras.experiments.training.spec import TrainingSpec
    from lth_keras.experiments.training_keras3.trainer import PlainNetworkTrainer
    network, count = sys.argv[1], int(sys.argv[2])
    _, shape, steps = NETWORKS[network]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6000, *shape)).astype(np.uint8)
    y = rng.integers(0, 10, 6000).astype(np.int32)
    config = presets.get(network).replace(engine="keras", keras_backend="jax")
    trainer = PlainNetworkTrainer(config, Data(x, y, x[:100], y[:100], 10), 2048, count)
    weights = trainer.initial_weights(rng)
    masks = {name: (rng.random(kernel) < 0.2).astype(np.uint8)
             for name, kernel in trainer.shapes.items()}
    batch = _BATCH.get(network, 60)
    speed = trainer.stopwatch(TrainingSpec(
        weights, masks, np.arange(100, 6000), np.arange(100), rng, steps=steps,
        validation_every=steps, batch_size=batch)).measure()
    size = sum(value.size for value in weights.values())
    matrix = jax.numpy.ones((2048, 2048))
    product = _seconds(jax.jit(lambda a: a @ a), matrix)
    large = jax.numpy.ones(2**26)
    copied = _seconds(jax.jit(lambda a: a + 1), large)
    print(json.dumps({
        "step": 1e3 * speed.step,
        "arithmetic": 1e3 * trainer.program.flops(batch) * count * product / (2 * 2048**3),
        "memory": 1e3 * 7 * 4 * size * count * copied / (2 * 4 * 2**26),
        "device": str(jax.devices()[0].device_kind)}))


def _seconds(function: Callable[..., Any], argument: Any) -> float:
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        function(argument).block_until_ready()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


if __name__ == "__main__":
    main()
