"""How many networks JAX trains at the same time, and how: what its devices can do best."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras3.jax_program import JaxProgram
from lth_keras.experiments.training_keras3.network_states import ModelLayout, Steps

_USED = 0.85  # Of the memory that JAX may use; the rest is for what is not counted.
_TIMED = 3  # Steps in which two programs are compared.


def program(model: Any, layout: ModelLayout, data: Data, config: Config,
            together: int | None = None) -> JaxProgram:
    """Makes the program of a configuration, for as many networks as it is told or as fit.

    Several networks with convolutions are trained side by side, as grouped convolutions, or one
    after another within the program: whichever is quicker, which is tried.

    Args:
      model: a compiled model.
      layout: where its weights lie in its state.
      data: the data set.
      config: the settings augmentation, replicates, batch_size, validation_every and
        validation_size are used.
      together: how many networks to train at the same time, >= 1.  By default one on a CPU, which
        gains nothing by more; on other devices one for each replicate, or as many as they have
        memory for.
    """
    def of(count: int, mapped: str = "vmap") -> JaxProgram:
        return JaxProgram(model, layout, data, augmentation=config.augmentation, together=count,
                          mapped=mapped)
    if together is None:
        together = 1 if jax.default_backend() == "cpu" else _that_fit(of, config)
    found = of(together)
    # On a CPU, convolutions within a loop are many times slower.
    if together == 1 or not found.has_convolutions or jax.default_backend() == "cpu":
        return found
    return min((found, of(together, "map")), key=lambda one: _seconds(one, layout, config))


def _that_fit(of: Callable[[int], JaxProgram], config: Config) -> int:
    devices = jax.devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    count = -(-config.replicates // len(devices)) * len(devices)
    while limit and count > len(devices) \
            and of(count).bytes(config.validation_every, config.batch_size,
                                config.validation_size) > _USED * limit * len(devices):
        count = max(len(devices), count // 2 // len(devices) * len(devices))
    return count


def _seconds(one: JaxProgram, layout: ModelLayout, config: Config) -> float:
    # Of a few steps, in the shapes of the trainings to come, for which it is then compiled.
    state = layout.fresh
    one.begin([state] * one.together, [0] * one.together)
    rows = np.zeros((one.together, config.validation_every, config.batch_size), np.int32)
    held_out = np.zeros((one.together, config.validation_size), np.int32)
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        logs = one.interval(rows, held_out, Steps(min(_TIMED, rows.shape[1]), 0, 0.0, 1.0))
        jax.block_until_ready(logs)
        taken.append(time.perf_counter() - began)
    return taken[-1]
