"""How many networks JAX trains at the same time: what its devices have memory for."""

from typing import Any

import jax

from lth_keras.experiments.config.config import Config
from lth_keras.experiments.training.datasets import Data
from lth_keras.experiments.training_keras3.jax_program import JaxProgram
from lth_keras.experiments.training_keras3.network_states import ModelLayout

_USED = 0.85  # Of the memory that JAX may use; the rest is for what is not counted.


def program(model: Any, layout: ModelLayout, data: Data, config: Config,
            together: int | None = None) -> JaxProgram:
    """Makes the program of a configuration, for as many networks as it is told or as fit.

    Args:
      model: a compiled model.
      layout: where its weights lie in its state.
      data: the data set.
      config: the settings augmentation, replicates, batch_size and validation_every are used.
      together: how many networks to train at the same time, >= 1. By default one on a CPU, which
        gains nothing by more; on other devices one for each replicate, or as many as they have
        memory for.
    """
    def of(count: int) -> JaxProgram:
        return JaxProgram(model, layout, data, augmentation=config.augmentation,
                          together=count)
    if together is None:
        together = 1 if jax.default_backend() == "cpu" else _that_fit(of, config)
    return of(together)


def _that_fit(of: Any, config: Config) -> int:
    devices = jax.devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    count = -(-config.replicates // len(devices)) * len(devices)
    while limit and count > len(devices) \
            and of(count).bytes(config.validation_every, config.batch_size,
                                config.validation_size) > _USED * limit:
        count = max(len(devices), count // 2 // len(devices) * len(devices))
    return count
