"""The devices that a run's worker processes will find."""

import functools
import subprocess
import sys

from lth_keras.experiments.config.config import Config

_TIMEOUT = 120  # Seconds; a machine that is busy starts a process slowly.


def has_accelerator(config: Config) -> bool:
    """Whether networks are trained on a GPU or TPU that one process uses alone.

    Example:
      >>> from lth_keras.experiments.config import presets
      >>> has_accelerator(presets.get("digits"))  # tf_keras shares a GPU among processes.
      False
    """
    return config.engine == "keras" and config.keras_backend == "jax" and _jax_has()


@functools.cache
def _jax_has() -> bool:
    # In a process of its own: one that asks JAX holds the device from then on.
    program = "import jax; print(jax.default_backend())"
    try:
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                               timeout=_TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False  # The worker says what is wrong.
    return found.split()[-1:] not in ([], ["cpu"])
